"""REFERS: cross-supervision between radiographs and free-text reports.

Paper: H.-Y. Zhou et al., "Generalized radiograph representation learning via cross-supervision between images and
free-text radiology reports" (2022), §4. A study's three views pass the radiograph transformer, and view fusion turns
them into one study feature v and a memory of tokens. In task 1 the report transformer generates the report from the
memory (equation 1); in task 2 v is contrasted with BERT's feature t of its own report against the other reports of the
batch (equation 2). The loss is their sum.

Not stated in the paper, our choice: temperature 0.1 (the authors' code); the size of the report transformer (the base
decoder of the work it cites); the mean over a batch's tokens in equation 1 (the authors' code; `language: sum` is the
equation as printed); the true tokens before a token as the prefix in equation 1, where it prints predicted ones (teacher
forcing, as the authors' code); one linear map from BERT's pooled output to the width of v.

Without view fusion (`fusion: none`) each of a study's views is paired with the study's report: it generates the report
from its own tokens and is contrasted with the same reports of the batch as v would be.
"""

from collections.abc import Iterable
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from refers.config import Optimiser, ReportTransformer
from refers.errors import UserError
from refers.methods import Context, StudySettings
from refers.methods.common.contrast import chance_loss, contrastive_loss
from refers.model.fusion import NoFusion, PatchFusion, ViewFusion
from refers.model.report_decoder import ReportDecoder
from refers.model.text_encoder import TextEncoder
from refers.model.vit import Encoder
from refers.training import distributed
from refers.training.task import Batch, PretrainingObjective


class Settings(StudySettings):
    """Options of REFERS and of its ablations."""

    fusion: Literal["view", "patch", "none"] = Field(
        "view",
        description="view: softmax over views (paper); patch: a sigmoid per patch and view (code); none: every view is paired"
        " with the report on its own (Table 3, row 3).",
    )
    fusion_hidden: int = Field(512, ge=1, le=8192, description="Hidden width of the fusion perceptron.")
    generation: float = Field(
        1.0, ge=0, le=100, description="Weight of task 1, report generation; 0 drops it (Table 3, row 6)."
    )
    language: Literal["mean", "sum"] = Field(
        "mean", description="Task 1 averages over a batch's tokens (code) or sums per report (eq. 1)."
    )
    decoder: ReportTransformer = Field(
        default_factory=ReportTransformer, description="The report transformer."
    )
    image_to_text: float = Field(
        1.0, ge=0, le=100, description="Weight of task 2, equation 2; 0 drops it (Table 3, row 5)."
    )
    text_to_image: float = Field(
        0.0, ge=0, le=100, description="Weight of the transposed loss. The code logs it without a gradient."
    )
    detach_text_to_image: bool = Field(
        True, description="Keep the transposed loss out of the gradient, as the code does."
    )
    temperature: float = Field(0.1, ge=1e-3, le=10, description="Temperature of equation 2.")

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        transposed = self.text_to_image and not self.detach_text_to_image
        if not (self.generation or self.image_to_text or transposed):
            idle = " (text_to_image is detached)" if self.text_to_image else ""
            raise ValueError(
                f"no loss has a gradient{idle}, so nothing would be learnt; give generation or image_to_text a weight"
            )
        return self


def language_loss(logits: Tensor, targets: Tensor, reports: int, reduction: str) -> Tensor:
    """Equation 1 as a loss: -log P of each next token. logits (M, vocabulary), targets (M,), without padding.

    `mean` averages over the M tokens; `sum` sums a report's tokens and averages over the `reports`.
    """
    if reduction == "mean":
        return F.cross_entropy(logits, targets)
    return F.cross_entropy(logits, targets, reduction="sum") / reports


class Objective(PretrainingObjective):
    """Both tasks around an encoder."""

    unit = "study"
    sharded = True

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        super().__init__()
        self.encoder, self.settings, self.vocabulary = encoder, settings, context.vocabulary
        if settings.fusion == "view":
            self.fusion = ViewFusion(settings.views, encoder.feature_width, settings.fusion_hidden)
        elif settings.fusion == "patch":
            self.fusion = PatchFusion(settings.views, encoder.token_width)
        else:
            self.fusion = NoFusion()
        if settings.generation:
            sizes = context.vocabulary, context.max_length, encoder.token_width
            self.decoder = ReportDecoder(settings.decoder, *sizes)
        if settings.image_to_text or settings.text_to_image:
            if context.text_encoder is None:
                raise UserError("refers: these images have no reports; set pretrain.sources: [mimic]")
            self.text = TextEncoder(context.text_encoder)
            views = 1 if settings.fusion == "none" else settings.views
            self.project = nn.Linear(self.text.hidden, views * encoder.feature_width)

    def lr_overrides(self, optimiser: Optimiser) -> dict[str, float]:
        return {"decoder.": optimiser.decoder_lr, "text.": optimiser.text_lr, "project.": optimiser.text_lr}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, tokens = distributed.local_shard(batch["images"], batch["tokens"])
        studies, views = images.shape[:2]
        features = self.encoder(images.flatten(0, 1))
        pooled, each = (part.unflatten(0, (studies, views)) for part in (features.pooled, features.tokens))
        study = self.fusion(pooled, each)
        losses: dict[str, Tensor] = {}
        if self.settings.generation:
            # Without fusion every view generates the report: a memory of its own, the same tokens.
            reports = tokens.repeat_interleave(len(study.memory) // studies, 0)
            hidden = self.decoder.hidden(reports[:, :-1], study.memory)
            real = reports[:, 1:] != 0
            logits = self.decoder.logits(hidden[real])
            wanted = reports[:, 1:][real]
            language = language_loss(logits.float(), wanted, len(reports), self.settings.language)
            entries = len(logits) if self.settings.language == "mean" else studies
            losses["language"] = distributed.weighted_mean(language, entries)
        if self.settings.image_to_text or self.settings.text_to_image:
            texts = self.project(self.text(tokens))
            losses["contrast"] = self.contrast(distributed.gather(study.feature), distributed.gather(texts))
        total = losses.get("language", 0) * self.settings.generation + losses.get("contrast", 0)
        return {"loss": total, **losses}

    def contrast(self, images: Tensor, texts: Tensor) -> Tensor:
        """The weighted contrastive terms of task 2, averaged over the views where these are not fused.

        images (B, V, W) with V = 1 for fused views, texts (B, W): each view has the B - 1 other reports as negatives.
        """
        settings, terms = self.settings, []
        for view in images.unbind(1):
            total = settings.image_to_text * contrastive_loss(view, texts, settings.temperature)
            if settings.text_to_image:
                transposed = contrastive_loss(texts, view, settings.temperature)
                transposed = transposed.detach() if settings.detach_text_to_image else transposed
                total = total + settings.text_to_image * transposed
            terms.append(total)
        return torch.stack(terms).mean()

    def trivial_loss(self, batches: Iterable[Batch]) -> float:
        """That of the frequencies of tokens in task 1 and of chance in task 2."""
        settings, counts, sizes = self.settings, [], []
        for batch in batches:
            wanted = batch["tokens"][:, 1:]
            counts.append(wanted[wanted != 0].bincount(minlength=self.vocabulary).double())
            sizes.append(len(wanted))
        rates = torch.stack(counts).sum(0) / sum(float(count.sum()) for count in counts)
        language = 0.0
        for count, size in zip(counts, sizes, strict=True):
            nats = -float(torch.special.xlogy(count, rates).sum())
            language += nats * (size / float(count.sum()) if settings.language == "mean" else 1)
        chance = (settings.image_to_text + settings.text_to_image) * chance_loss(sizes)
        return settings.generation * language / sum(sizes) + chance
