"""C2L: comparing to learn, by mixing images and features on top of momentum contrast.

Paper: H.-Y. Zhou et al., "Comparing to Learn: surpassing ImageNet pretraining on radiographs by comparing image
representations", MICCAI 2020. Compared in REFERS, §4, baselines. A student and its moving average, the teacher, see
two augmentations of each image. Three contrasts share one queue of teacher keys: plain; homogeneous (both from mixed
images); heterogeneous (mixed image against mixed features). The loss is their mean.

Ours: InfoNCE (`loss: nce` is the publication's estimate with a fixed normaliser); all three contrasts see the same
queue, which takes the plain keys once per step. The publication's crops and cut-out (its code: a share of 0.2 to 1 of the
image's area, then 3 squares of 32 pixels) are settings; the rest of the augmentation is the shared one. The shared crop,
224 of 256 pixels, would show nearly the same picture twice. All that follows the networks is fp32: unit features and their mixing, the queue, the contrasts. Two passes of 96 images do not both fit beside a teacher
on a 24 GB card: with `recompute` the plain pass is checkpointed and computed again in the backward pass, with the same
dropout.

Validation cannot use the queue, whose keys age and change from one validation to the next. There each of the three
contrasts is InfoNCE against the other keys of the validation batch, whichever `loss` trains: about log(batch) for an
untrained encoder, and comparable at all steps. The first view of an image is not augmented, the second one is, in the
same way every time; neither is cut out of.
"""

import copy
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from refers.config import Augment, Interval, Section
from refers.methods import Context
from refers.methods.common.contrast import chance_loss, contrastive_loss, similarity
from refers.model.vit import Encoder
from refers.training import distributed
from refers.training.task import Batch, PretrainingObjective


class Settings(Section):
    """Options of C2L."""

    width: int = Field(128, ge=8, le=4096, description="Width of a key.")
    queue: int = Field(16384, ge=8, le=1_000_000, description="Keys in the queue.")
    temperature: float = Field(0.07, ge=1e-3, le=10, description="Temperature.")
    momentum: float = Field(0.999, ge=0, le=1, description="Share of the old teacher kept in a step.")
    loss: Literal["infonce", "nce"] = Field(
        "infonce", description="InfoNCE, or noise-contrastive estimation."
    )
    area: Annotated[tuple[float, float], Interval(0.01, 1)] | None = Field(
        (0.2, 1.0),
        description="A crop's share of the image's area; null takes the shared crop of training.augment.",
    )
    cutout: int = Field(3, ge=0, le=100, description="Squares cut out of each crop in training; 0: none.")
    cutout_side: float = Field(
        1 / 7, gt=0, le=1, description="Side of such a square as a share of the crop's: 32 pixels of 224."
    )
    recompute: bool = Field(
        True, description="Compute the plain pass again for its gradient: less memory, more time."
    )


def infonce(logits: Tensor) -> Tensor:
    """Mean InfoNCE of logits (B, 1 + K): a query's score with its own key, then with the K of the queue."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def nce(logits: Tensor, normaliser: Tensor) -> Tensor:
    """Mean noise-contrastive estimation loss of the same logits: exp(logit) / normaliser against noise of density 1 / K."""
    score = logits - normaliser.log()
    return -(F.logsigmoid(score[:, 0]) + F.logsigmoid(-score[:, 1:]).sum(1)).mean()


def cut_out(images: Tensor, count: int, side: int) -> Tensor:
    """Set `count` random squares of normalised images (..., S, S) to 0, mid grey; those at the border are cut off by it."""
    size = images.shape[-1]
    corner = torch.randint(
        -(side // 2), size - side // 2, (*images.shape[:-2], count, 2), device=images.device
    )
    ticks = torch.arange(size, device=images.device)
    inside = (ticks >= corner[..., None]) & (ticks < corner[..., None] + side)
    holes = inside[..., 0, :, None] & inside[..., 1, None, :]
    return images.masked_fill(holes.any(-3), 0.0)


class Objective(PretrainingObjective):
    """Student, teacher and queue; only the student learns by gradient."""

    unit = "image"
    crops = 2
    sharded = True
    queue: Tensor
    pointer: Tensor
    normaliser: Tensor

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.head = nn.Linear(encoder.feature_width, settings.width)
        self.teacher = copy.deepcopy(nn.ModuleList([encoder, self.head])).requires_grad_(False).eval()
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, settings.width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        # 0 until the first batch has set it
        self.register_buffer("normaliser", torch.zeros(()))
        # unit keys of the step's batch
        self.fresh = torch.zeros(0, settings.width)

    def augment(self, shared: Augment) -> Augment:
        area = self.settings.area
        return shared if area is None else shared.replace(crop="area", area=area)

    def train(self, mode: bool = True) -> "Objective":
        super().train(mode)
        # Keys must not depend on dropout.
        self.teacher.eval()
        return self

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Teacher's features of the whole batch (B, width), not normalised, from this rank's shard of its images."""
        encoder, head = self.teacher
        return distributed.gather(head(encoder(images).pooled).float())

    def student(self, images: Tensor) -> Tensor:
        """Student's features of these images (B, width), not normalised."""
        return self.head(self.encoder(images).pooled).float()

    def query(self, features: Tensor) -> Tensor:
        """Unit features of the whole batch (B, width) from the student's of this rank's shard."""
        return F.normalize(distributed.gather(features), dim=1)

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        """One contrast of unit features (B, width); matching rows are pairs."""
        temperature = self.settings.temperature
        if not self.training:
            return contrastive_loss(query, key, temperature)
        positive = (query * key).sum(1, keepdim=True)
        logits = torch.cat([positive, similarity(query, self.queue)], dim=1) / temperature
        if self.settings.loss == "infonce":
            return infonce(logits)
        # Set by the first batch alone; the host need not wait to know whether this is the one.
        first = logits.detach()[:, 1:].exp().mean() * self.settings.queue
        self.normaliser = torch.where(self.normaliser == 0, first, self.normaliser)
        return nce(logits, self.normaliser)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"]
        if self.training and self.settings.cutout:
            images = cut_out(
                images, self.settings.cutout, round(self.settings.cutout_side * images.shape[-1])
            )
        first, second = images.unbind(1)
        order = torch.randperm(len(first), device=first.device)
        # Beta(1, 1), folded to [0.5, 1]
        ratio = torch.rand((), device=first.device)
        ratio = torch.maximum(ratio, 1 - ratio)

        def mix(x: Tensor) -> Tensor:
            return ratio * x + (1 - ratio) * x[order]

        own, own_pair, mixed, mixed_pair = distributed.local_shard(first, second, mix(first), mix(second))
        key = self.keys(own_pair)
        unit_key = F.normalize(key, dim=1)
        # The plain pass comes first, so that backward reaches it last, when the mixed pass's tensors are freed.
        if self.settings.recompute and torch.is_grad_enabled():
            plain = self.query(checkpoint(self.student, own, use_reentrant=False))
        else:
            plain = self.query(self.student(own))
        query = self.query(self.student(mixed))
        losses = {
            "plain": self.contrast(plain, unit_key),
            "homogeneous": self.contrast(query, F.normalize(self.keys(mixed_pair), dim=1)),
            "heterogeneous": self.contrast(query, F.normalize(mix(key), dim=1)),
        }
        if self.training:
            self.fresh = unit_key
        return {"loss": (losses["plain"] + losses["homogeneous"] + losses["heterogeneous"]) / 3, **losses}

    def trivial_loss(self, batches: Iterable[Batch]) -> float:
        """Chance: each of the three contrasts cannot tell an image's key from those of the batch."""
        return chance_loss([len(batch["images"]) for batch in batches])

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys of the queue, a ring buffer."""
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, places, keys)
        self.pointer.add_(len(keys)).remainder_(len(self.queue))

    @torch.no_grad()
    def after_step(self) -> None:
        """Enqueue the step's keys; teacher <- momentum * teacher + (1 - momentum) * student."""
        self.enqueue(self.fresh)
        student = (*self.encoder.parameters(), *self.head.parameters())
        torch._foreach_lerp_(tuple(self.teacher.parameters()), student, 1 - self.settings.momentum)
