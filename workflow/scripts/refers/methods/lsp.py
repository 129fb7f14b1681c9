"""LSP: label-supervised pre-training on the CheXpert-style labels of MIMIC-CXR-JPG.

Paper: "Baselines and label-supervised pre-training" (§4); its Table 2 and, as LSP (Transformer), row 4 of Table 3.
One image is one sample and has the labels of its study; the encoder's feature passes one linear layer, and the loss is
masked binary cross-entropy.

The paper states neither the label set nor the policy for uncertain mentions. Our choice: all 14 labels (`leave_out` drops
some), a label that the report does not mention is absent, and an uncertain one is absent too (U-zeros of the CheXpert
paper); `uncertain` offers the other policies of that literature.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from refers.config import Section
from refers.errors import UserError
from refers.methods import Context
from refers.model.vit import Encoder
from refers.training import distributed
from refers.training.task import Batch, PretrainingObjective


class Settings(Section):
    """Options of label-supervised pre-training."""

    uncertain: Literal["zeros", "ones", "ignore", "lsr"] = Field(
        "zeros",
        description="Uncertain labels count as absent, as present, not at all, or as a draw from [0.55, 0.85] (smoothing).",
    )
    leave_out: str = Field(
        "",
        description="Comma-separated labels to leave out, such as 'No Finding,Support Devices' for twelve.",
    )


def targets(labels: Tensor, uncertain: str) -> tuple[Tensor, Tensor]:
    """Labels (B, C) with 1, 0, -1 and NaN -> targets in [0, 1] and a mask of the entries that count, both (B, C)."""
    uncertain_label = labels == -1
    known = labels.nan_to_num(0.0).clamp(min=0)
    if uncertain == "ones":
        known = torch.where(uncertain_label, 1.0, known)
    elif uncertain == "lsr":
        known = torch.where(uncertain_label, 0.55 + 0.3 * torch.rand_like(known), known)
    mask = ~uncertain_label if uncertain == "ignore" else torch.ones_like(uncertain_label)
    return known, mask.to(known.dtype)


def masked_cross_entropy(logits: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy over the entries of `mask`; 0 where the mask is empty. All (B, C)."""
    each = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    return (each * mask).sum() / mask.sum().clamp(min=1)


class Objective(PretrainingObjective):
    """Encoder, linear layer, masked cross-entropy."""

    unit = "image"
    sharded = True
    columns: Tensor

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        super().__init__()
        left_out = {name.strip() for name in settings.leave_out.split(",") if name.strip()}
        if unknown := left_out - set(context.label_names):
            known = ", ".join(context.label_names)
            raise UserError(f"lsp.settings.leave_out: no label {min(unknown)!r}; labels are {known}")
        self.encoder, self.settings = encoder, settings
        columns = [place for place, name in enumerate(context.label_names) if name not in left_out]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.head = nn.Linear(encoder.feature_width, len(columns))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted, mask = targets(batch["labels"][:, self.columns], self.settings.uncertain)
        logits = self.head(self.encoder(distributed.local_shard(batch["images"])).pooled)
        return {"loss": masked_cross_entropy(distributed.gather(logits), wanted, mask)}

    def trivial_loss(self, batches: Iterable[Batch]) -> float:
        """Cross-entropy of each label's base rate, over the entries that count."""
        labels = torch.cat([batch["labels"][:, self.columns] for batch in batches])
        wanted, mask = (part.double() for part in targets(labels, self.settings.uncertain))
        counted = mask.sum(0)
        rate = (wanted * mask).sum(0) / counted.clamp(min=1)
        entropy = torch.special.entr(rate) + torch.special.entr(1 - rate)
        return float((entropy * counted).sum() / counted.sum().clamp(min=1))
