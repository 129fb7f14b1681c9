"""Several processes, one a GPU, that pre-train one encoder together: each of their steps is the step of one process.

torchrun starts them. Every process reads and augments the whole batch, so that all draws stay a function of (seed, step)
however many they are. An objective then takes this process's `share` of the rows through its networks and gathers what a
loss compares across rows; one that does neither is right too, and gains nothing. Gradients are averaged over the processes
(DistributedDataParallel), which is why a loss over a share must be such that its mean over the processes is the whole
batch's. Where torchrun did not start the program, every function here hands back what it was given.

Equation 2 of the paper contrasts a study with the whole batch; over a process's part alone it would be another loss.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from refers.errors import Preempted, UserError
from refers.training.runtime import hold_gpus, seed_torch

PATIENCE = timedelta(hours=2)  # others wait while the leader validates; a dead process is noticed by torchrun
Result = TypeVar("Result")
_rank, _size = 0, 1


def launch(processes: int, device: str) -> None:
    """Run this very command line in `processes` processes below torchrun; nothing for one, or below torchrun.

    The GPUs are taken first, all of them: processes that took one each could wait for those of another run for ever.

    Raises:
        UserError: there are fewer GPUs, and `device` is not "cpu".
        SystemExit: the processes have ended; the code is 0, that of the first one that failed, or that of a signal.
    """
    if processes < 2 or dist.is_torchelastic_launched():
        return
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if device != "cpu" and (here := torch.cuda.device_count()):
        if here < processes:
            raise UserError(f"{processes} processes but {here} visible GPUs; ask for one process a GPU")
        hold_gpus(processes)
    sys.stdout.flush()
    code = 0
    try:
        torchrun.main(["--standalone", "--nproc-per-node", str(processes), *sys.argv])
    except SignalException as ended:
        # torchrun has passed the signal on and waited for its processes
        code = 128 + ended.sigval
    except ChildFailedError as ended:
        code = ended.get_first_failure()[1].exitcode
    raise SystemExit(code if code >= 0 else 128 - code)


def join(device: torch.device) -> torch.device:
    """Meet the other processes that torchrun started; the device of this one. Only the leader writes to stdout from then on."""
    global _rank, _size
    if not dist.is_torchelastic_launched():
        return device
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # gloo is for what hosts tell each other: it does not wait for the GPUs' queues. All of them are one machine.
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    _rank, _size = dist.get_rank(), dist.get_world_size()
    if not leads():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    return device


def leave() -> None:
    """Part from the other processes: this one is alone again."""
    global _rank, _size
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    _rank, _size = 0, 1


def leads() -> bool:
    """Whether this process validates, saves and writes for all."""
    return _rank == 0


def processes() -> int:
    """Number of processes that share a batch."""
    return _size


# ---- what hosts tell each other


def any_of(flag: bool) -> bool:
    """Whether it is so in any process; every process must ask."""
    if _size == 1:
        return flag
    votes = torch.tensor([int(flag)])
    dist.all_reduce(votes)
    return bool(votes)


def leader_first(work: Callable[[], Result]) -> Result:
    """Result of `work` in every process; the leader is done with it before the others begin."""
    if not leads():
        any_of(False)
    result = work()
    if leads():
        any_of(False)
    return result


def once(error: UserError) -> BaseException:
    """What to raise where every process comes to the same error: the leader says it, the others end with its code."""
    any_of(False)  # torchrun ends whoever is left when the first one goes
    return error if leads() else SystemExit(error.code)


@contextmanager
def leading() -> Iterator[None]:
    """A stretch that is the leader's alone: the others wait at its end, and if one is `Preempted` in it all of them are."""
    global _size
    size, _size, preempted = _size, 1, False
    try:
        yield
    except Preempted:
        preempted = True
    finally:
        _size = size
    if any_of(preempted):
        raise Preempted


# ---- rows, losses and gradients


def share(*tensors: Tensor) -> Any:
    """This process's rows of tensors (B, ...): (B / processes, ...) each; a tuple of several.

    To be called once in a step, after everything that is drawn for the whole batch: from here on each process draws for
    itself, so that the dropout masks of different rows differ.
    """
    if _size > 1:
        seed_torch(torch.initial_seed(), _rank)
        tensors = tuple(tensor.chunk(_size)[_rank] for tensor in tensors)
    return tensors if len(tensors) > 1 else tensors[0]


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of the batch; backward adds up what every process's loss says about these rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(_size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(_size)[_rank]


def gather(rows: Tensor) -> Tensor:
    """The whole batch (B, ...) of what every process has made of its share, with gradients into all of them."""
    return _Gather.apply(rows) if _size > 1 else rows


def balance(mean: Tensor, count: Tensor | int) -> Tensor:
    """A mean over this process's `count` entries, scaled so that averaged over processes it is the mean over all entries."""
    if _size == 1:
        return mean
    total = torch.as_tensor(count, dtype=torch.float32, device=mean.device).clone()
    here = total.clone()
    dist.all_reduce(total)
    return mean * (here * _size / total.clamp(min=1))


def average(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the processes of scalar losses, still on the device."""
    if _size == 1:
        return losses
    values = torch.stack([value.detach().float() for value in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, (values / _size).unbind(), strict=True))


class _Step(nn.Module):
    """A loss as the forward pass of the module behind it, which is where DistributedDataParallel looks for gradients."""

    def __init__(self, module: nn.Module, loss: Callable[[Any], dict[str, Tensor]]) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.loss(batch)


def parallel(
    module: nn.Module, loss: Callable[[Any], dict[str, Tensor]]
) -> Callable[[Any], dict[str, Tensor]]:
    """`loss` of `module` such that its backward pass averages the gradients over processes; the whole batch is normalised
    where the module normalises batches.

    Raises:
        UserError: a batch cannot be normalised across processes on the CPU.
    """
    if _size == 1:
        return loss
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        if next(module.parameters()).device.type != "cuda":
            raise UserError("batch normalisation over several processes needs GPUs; use one process here")
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
    # buffers are computed from gathered rows, the same in every process: nothing to broadcast
    step = nn.parallel.DistributedDataParallel(
        _Step(module, loss), broadcast_buffers=False, gradient_as_bucket_view=True
    )
    return step
