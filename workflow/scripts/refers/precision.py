"""Arithmetic of a training step: fp32, bf16, fp16 with loss scaling, or NVIDIA Apex where it is installed."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from refers.errors import UserError


class Precision:
    """One object with the four places where precision enters a step: prepare, autocast, backward, step."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.amp = None
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

    def prepare(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap module and optimiser where the backend asks for it (Apex), after both sit on their device."""
        if self.amp is None:
            return module, optimiser
        return self.amp.initialize(
            module, optimiser, opt_level=self.name.removeprefix("apex-").upper(), verbosity=0
        )

    def autocast(self) -> AbstractContextManager:
        """Context of the forward pass."""
        if self.name in ("bf16", "fp16"):
            return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bf16" else torch.float16)
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
            parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            if self.amp is None:
                self.scaler.unscale_(optimiser)
            else:
                parameters = list(self.amp.master_params(optimiser))
            nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
        self.scaler.step(optimiser)
        self.scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        """Loss-scale state for the resume file."""
        return self.amp.state_dict() if self.amp else self.scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""
        (self.amp or self.scaler).load_state_dict(state)
