"""Optimiser, its parameter groups and the learning-rate schedule (paper §4.2, training and testing methodologies)."""

import math

import torch
from torch import Tensor, nn

from refers.config import Optimiser, Training


def lr_factor(step: int, warmup: int, total: int, schedule_step: str = "split") -> float:
    """Factor on the peak learning rate of an update, counted from 0: warm-up, then half a cosine.

    The schedule rises linearly from 0 at 0 to 1 at `warmup` and falls to 0 at `total`. `current` and `next` (the released
    code's, in pre-training and in fine-tuning) take it at `step` and at `step` + 1; `split` at the next step in the
    warm-up and at the current one after it, so that no update has rate 0.
    """
    if schedule_step == "next" or (schedule_step == "split" and step < warmup):
        step += 1
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def lr_factor_of(training: Training, step: int) -> float:
    """The same with the schedule of a run."""
    return lr_factor(step, training.warmup_steps, training.steps, training.schedule_step)


def parameter_groups(module: nn.Module, settings: Optimiser, lr_overrides: dict[str, float]) -> list[dict]:
    """Split trainable parameters by learning rate and by weight decay.

    `lr_overrides` maps a prefix of parameter names to its peak learning rate; other parameters take `settings.lr`.
    Biases and LayerNorm weights have no weight decay (paper §4.2); with `decay_norms` BERT's LayerNorm weights do, as in
    the released code, whose pattern for exceptions is case-sensitive.
    """
    norms = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.LayerNorm)}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        lr = next((rate for prefix, rate in lr_overrides.items() if name.startswith(prefix)), settings.lr)
        decayed_norm = settings.decay_norms and "LayerNorm" in name
        exempt = name.endswith("bias") or (name in norms and not decayed_norm)
        groups.setdefault((lr, 0.0 if exempt else settings.weight_decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build(module: nn.Module, settings: Optimiser, lr_overrides: dict[str, float]) -> torch.optim.Optimizer:
    """SGD with momentum or Adam over the module's parameter groups, with fused updates."""
    groups = parameter_groups(module, settings, lr_overrides)
    if settings.name == "adam":
        return torch.optim.Adam(groups, lr=settings.lr, fused=True)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)


def start_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Set the momentum of SGD to zero before the first step, for loss scaling.

    Torch's fused update allocates it in its first step and fills it there, unless loss scaling skips that step: the next one
    would then read memory that nothing has written.
    """
    if isinstance(optimiser, torch.optim.SGD) and optimiser.defaults["momentum"]:
        for parameter in parameters_of(optimiser):
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def parameters_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters of an optimiser, group by group."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


class Lookahead:
    """Slow weights that move towards the fast ones every few steps (in the released code, not in the paper)."""

    def __init__(self, optimiser: torch.optim.Optimizer, every: int, alpha: float) -> None:
        self.fast = parameters_of(optimiser)
        self.slow = [parameter.detach().clone() for parameter in self.fast]
        self.every, self.alpha = every, alpha

    @torch.no_grad()
    def after_step(self, step: int) -> bool:
        """Call after optimiser step `step`, counted from 0; whether it changed the weights."""
        if changes := (step + 1) % self.every == 0:
            torch._foreach_lerp_(self.slow, self.fast, self.alpha)
            torch._foreach_copy_(self.fast, self.slow)
        return changes
