"""Precision of a training step: fp32, bf16, fp16 with loss scaling, or NVIDIA Apex where it is installed."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from refers.errors import UserError
from refers.training.optim import parameters_of, start_momentum


class Precision:
    """The four places where precision enters a step: prepare, autocast, backward, step.

    Raises:
        UserError: fp16 without a GPU, or Apex is not installed.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.amp: Any = None
        if name == "fp16" and device.type == "cpu":
            raise UserError("precision: fp16 needs a GPU; choose bf16 or fp32")
        if name.startswith("apex"):
            try:
                from apex import amp
            except ImportError:
                raise UserError(
                    f"precision: {name} needs NVIDIA Apex and its amp (left out of releases since 2025), which is not "
                    "installed; choose bf16, fp16 or fp32"
                ) from None
            self.amp = amp
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
        # Apex O2: the module's half-precision weights, and the fp32 masters that the optimiser updates.
        self.weights: list[Tensor] = []
        self.masters: list[Tensor] = []

    def prepare(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap module and optimiser for Apex, start momentum for fp16; both must be on their device."""
        if self.amp is None:
            if self.name == "fp16":
                start_momentum(optimiser)
            return module, optimiser
        # Apex expects one initialisation per process, but every seed has a module of its own. What outlives a module are
        # O1's wrappers around torch's functions; Apex's own tests remove them in this way.
        if (handle := getattr(self.amp._amp_state, "handle", None)) is not None:
            handle._deactivate()
        before = parameters_of(optimiser)
        level = self.name.removeprefix("apex-").upper()
        module, optimiser = self.amp.initialize(module, optimiser, opt_level=level, verbosity=0)
        # O2 creates its masters here instead of in the first backward pass.
        optimiser.zero_grad()
        pairs = zip(before, parameters_of(optimiser), strict=True)
        copied = [(old, new) for old, new in pairs if old is not new]
        self.weights, self.masters = [weight for weight, _ in copied], [master for _, master in copied]
        return module, optimiser

    def autocast(self) -> AbstractContextManager:
        """Context of the forward pass; without gradients O1 computes in fp32."""
        if self.name in ("bf16", "fp16"):
            return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bf16" else torch.float16)
        # O1 caches its casts of the weights until the next backward pass: after the best weights have been restored it
        # would predict with those of the last validation.
        if self.name == "apex-o1" and not torch.is_grad_enabled():
            return self.amp.disable_casts()
        return nullcontext()

    def backward(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Accumulate gradients of `loss`, scaled where the backend needs it."""
        if self.amp is None:
            self.scaler.scale(loss).backward()
        else:
            with self.amp.scale_loss(loss, optimiser) as scaled:
                scaled.backward()

    def step(self, optimiser: torch.optim.Optimizer, clip_norm: float) -> None:
        """Clip (0 switches it off), update, and clear the gradients."""
        if clip_norm:
            if self.amp is None:
                self.scaler.unscale_(optimiser)
                parameters = parameters_of(optimiser)
            else:
                parameters = list(self.amp.master_params(optimiser))
            nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy weights that Lookahead changed to the module; with all but Apex O2 they are the same tensors."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.copy_(master)

    def state_dict(self) -> dict:
        """Loss scale and fp32 masters, for the resume state."""
        return (self.amp or self.scaler).state_dict() | ({"masters": self.masters} if self.masters else {})

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` returned."""
        scale = {name: value for name, value in state.items() if name != "masters"}
        (self.amp or self.scaler).load_state_dict(scale)
        for master, saved in zip(self.masters, state.get("masters", []), strict=True):
            master.copy_(saved)
