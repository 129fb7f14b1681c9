"""REFERS: cross-supervision between radiographs and free-text reports.

Paper: H.-Y. Zhou et al., "Generalized radiograph representation learning via cross-supervision between images and
free-text radiology reports" (2022), §4. A study's three views pass the radiograph transformer, and view fusion turns
them into one study feature v and a memory of tokens. In task 1 the report transformer generates the report from the
memory (equation 1); in task 2 v is contrasted with BERT's feature t of its own report against the other reports of the
batch (equation 2). The loss is their sum.

Not stated in the paper, our choice: temperature 0.1 (the authors' code); the size of the report transformer (the base
decoder of the work it cites); the mean over a batch's tokens in equation 1 (the authors' code; `language: sum` is the
equation as printed); one linear map from BERT's pooled output to the width of v.

The ablation without view fusion has 96 reports per step instead of 32. To fit a 24 GB card, BERT's pass is checkpointed
then and computed again in the backward pass, with the same dropout (`recompute`).
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from refers.config import Optimiser, ReportTransformer
from refers.methods import Context, StudySettings
from refers.methods.common.contrast import contrastive_loss
from refers.model.fusion import NoFusion, PatchFusion, ViewFusion
from refers.model.report_decoder import ReportDecoder
from refers.model.text_encoder import TextEncoder
from refers.model.vit import Encoder
from refers.training import distributed
from refers.training.task import PretrainingObjective


class Settings(StudySettings):
    """Options of REFERS and of its ablations."""

    fusion: Literal["view", "patch", "none"] = Field(
        "view",
        description="view: softmax over views (paper); patch: a sigmoid per patch and view (code); none: one view a sample,"
        " with views: 1 (Table 3, row 3).",
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
    recompute: bool = Field(
        False, description="Compute BERT's pass again for its gradient: less memory, more time."
    )


def language_loss(logits: Tensor, targets: Tensor, studies: int, reduction: str) -> Tensor:
    """Equation 1 as a loss: -log P of each next token. logits (M, vocabulary), targets (M,), without padding.

    `mean` averages over the M tokens; `sum` sums a report's tokens and averages over the `studies`.
    """
    if reduction == "mean":
        return F.cross_entropy(logits, targets)
    return F.cross_entropy(logits, targets, reduction="sum") / studies


class Objective(PretrainingObjective):
    """Both tasks around an encoder."""

    unit = "study"

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
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
            self.text = TextEncoder(context.text_encoder)
            self.project = nn.Linear(self.text.hidden, settings.views * encoder.feature_width)
        terms = ["the negatives of task 2"] if hasattr(self, "text") else []
        if settings.generation and settings.language == "mean":
            terms.append("the mean over tokens of task 1")
        self.batch_dependent = " and ".join(terms)

    def lr_overrides(self, optimiser: Optimiser) -> dict[str, float]:
        return {"decoder.": optimiser.decoder_lr, "text.": optimiser.text_lr, "project.": optimiser.text_lr}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, tokens = distributed.local_shard(batch["images"], batch["tokens"])
        studies, views = images.shape[:2]
        contrasted = self.settings.image_to_text or self.settings.text_to_image
        # A checkpointed pass comes first: backward reaches it last, when the other passes' tensors are freed.
        recomputed = contrasted and self.settings.recompute
        texts = checkpoint(self.text, tokens, use_reentrant=False) if recomputed else None
        features = self.encoder(images.flatten(0, 1))
        pooled, each = (part.unflatten(0, (studies, views)) for part in (features.pooled, features.tokens))
        study = self.fusion(pooled, each)
        losses: dict[str, Tensor] = {}
        if self.settings.generation:
            hidden = self.decoder.hidden(tokens[:, :-1], study.memory)
            real = tokens[:, 1:] != 0
            logits = self.decoder.logits(hidden[real])
            language = language_loss(logits.float(), tokens[:, 1:][real], studies, self.settings.language)
            entries = len(logits) if self.settings.language == "mean" else studies
            losses["language"] = distributed.weighted_mean(language, entries)
        if contrasted:
            texts = self.project(self.text(tokens) if texts is None else texts)
            losses["contrast"] = self.contrast(distributed.gather(study.feature), distributed.gather(texts))
        total = losses.get("language", 0) * self.settings.generation + losses.get("contrast", 0)
        return {"loss": total, **losses}

    def contrast(self, images: Tensor, texts: Tensor) -> Tensor:
        """The weighted contrastive terms of task 2."""
        settings = self.settings
        total = settings.image_to_text * contrastive_loss(images, texts, settings.temperature)
        if settings.text_to_image:
            transposed = contrastive_loss(texts, images, settings.temperature)
            transposed = transposed.detach() if settings.detach_text_to_image else transposed
            total = total + settings.text_to_image * transposed
        return total
