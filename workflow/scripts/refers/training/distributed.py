"""Several processes, one per GPU, that pre-train one encoder together: each of their steps is the step of one process.

torchrun starts them. Every rank reads and augments the whole batch, so that everything drawn at random stays a function
of (seed, step), whatever the world size. An objective then takes its `local_shard` of the rows through its networks and
gathers what a loss compares across rows; one that does neither is right too, and gains nothing. Gradients are averaged over
the ranks (DistributedDataParallel), so a loss over a shard must be such that its mean over the ranks is the whole batch's.
In a process that torchrun did not start, every function here returns what it was given.

The same three functions, `local_shard`, `gather` and `weighted_mean`, let one process work through a batch that its memory does
not hold: `Turns` are ranks that follow one another.

Equation 2 of the paper contrasts a study with the whole batch; over a rank's shard alone it would be another loss.
"""

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from refers.errors import Preempted, UserError
from refers.nodes import Rendezvous, rendezvous, start_on_nodes
from refers.training.runtime import end_with_parent, hold_gpus, seed_torch

# The other ranks wait while the main process validates. A process that died is noticed by torchrun, not by this.
TIMEOUT = timedelta(hours=2)
MEETING = timedelta(minutes=10)  # how long a node waits for the others to start
PARTING = timedelta(minutes=1)  # how long the first node waits for the others to end
LOOPBACK = "lo"
LOST = 75  # exit code of a rank that other ranks have left
# how gloo and NCCL report that
LEFT = re.compile("closed by peer|reset by peer|broken pipe|remote process exited", re.IGNORECASE)
Result = TypeVar("Result")
Loss = Callable[[Any], dict[str, Tensor]]
_rank, _size = 0, 1
_turns: "Turns | None" = None


def launch(
    processes: int, device: str, nodes: int = 1, rank: int | None = None, place: str | None = None
) -> None:
    """Run this very command line in `processes` processes below torchrun; nothing for one, or below torchrun.

    Of several nodes each runs its share of the processes. They meet at `place` (HOST:PORT), where this node has the given
    rank, or as the step of a Slurm job that this process is in or becomes.

    Raises:
        UserError: there are fewer GPUs, and `device` is not "cpu"; the nodes cannot meet; or another node has ended.
        SystemExit: the processes have ended; the code is 0, that of the first one that failed, or that of a signal.
    """
    if dist.is_torchelastic_launched():
        return
    meeting, share = rendezvous(nodes, processes, rank, place), processes // nodes
    if processes < 2:
        return
    if nodes > 1 and meeting is None:
        start_on_nodes(nodes, share if device != "cpu" else 0)
    if device != "cpu" and (visible := torch.cuda.device_count()):
        if visible < share:
            raise UserError(f"{share} processes but {visible} visible GPUs; ask for one process per GPU")
        # All GPUs at once: processes that took one each could wait for those of another run for ever.
        hold_gpus(share)
    sys.stdout.flush()
    if meeting is None:
        code = _torchrun(["--standalone"], share)
    else:
        code = _torchrun_with_other_nodes(meeting, share)
    raise SystemExit(code if code >= 0 else 128 - code)


def _torchrun(meeting: list[str], share: int) -> int:
    """Run this command line in `share` processes on this node; the exit code, negative for a signal to one of them."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        torchrun.main([*meeting, "--nproc-per-node", str(share), *sys.argv])
    except SignalException as ended:
        # torchrun has passed the signal on and waited for its processes.
        return 128 + ended.sigval
    except ChildFailedError as ended:
        # the ranks that were left say nothing of why the others ended
        failures = sorted(
            ended.failures.values(), key=lambda failure: (failure.exitcode == LOST, failure.timestamp)
        )
        return failures[0].exitcode
    return 0


def _torchrun_with_other_nodes(meeting: Rendezvous, share: int) -> int:
    """`_torchrun` as one of several nodes, which end together.

    Raises:
        UserError: the nodes do not meet, or another one has ended before its time.
    """
    from torch.distributed.elastic.rendezvous import RendezvousError

    host, port, rank, nodes = meeting
    address, who = meeting.address(), f"node {rank + 1} of {nodes}"
    # torchrun shares the first node's server, which has to outlive its torchrun: the others ask it until they have ended.
    try:
        store = dist.TCPStore(
            host, port, is_master=rank == 0, timeout=MEETING, wait_for_workers=False, multi_tenant=True
        )
        run = f"{share} processes on each of {nodes} nodes"
        if (first := store.compare_set("run", "", run).decode()) != run:
            raise UserError(f"{who}: {run} here but {first} elsewhere; start the same command on every node")
    except RuntimeError:
        why = "the port may be taken" if rank == 0 else "the first node may not have started"
        raise UserError(
            f"{who}: no rendezvous at {host}:{port}, {why}; start all nodes again at a free port"
        ) from None
    if address.startswith("127."):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    options = [
        "--nnodes",
        str(nodes),
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"{host}:{port}",
        "--rdzv-id",
        "run",
    ]
    options += [
        "--rdzv-conf",
        f"is_host={int(rank == 0)},join_timeout={MEETING.seconds}",
        "--local-addr",
        address,
    ]
    try:
        code = _torchrun(options, share)
    except RendezvousError:
        code = LOST
    if code == LOST:
        raise UserError(
            f"{who}: another node has ended, its own output says why; run the same command again to resume"
        )
    with suppress(RuntimeError):
        if store.add("ended", 1) == nodes:
            store.set("all ended", "")
        if rank == 0:
            store.wait(["all ended"], PARTING)
    return code


def join(device: torch.device) -> torch.device:
    """Meet the other ranks that torchrun started; this rank's device. Only the main process writes to stdout from then on."""
    global _rank, _size
    if not dist.is_torchelastic_launched():
        return device
    end_with_parent()
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # Hosts talk over gloo, which does not wait for the GPUs' queues.
    if nodes() == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    _rank, _size = dist.get_rank(), dist.get_world_size()
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    return device


@contextmanager
def until_left() -> Generator[None]:
    """A stretch in which this rank ends at once and without a word if other ranks have ended: the launcher reports it."""
    try:
        yield
    except RuntimeError as error:
        if _size == 1 or not LEFT.search(str(error)):
            raise
        sys.stderr.flush()
        # what ends a process in order may wait for GPUs that wait for the other ranks
        os._exit(LOST)


def is_main_process() -> bool:
    """Whether this rank is the one that validates, saves and writes for all."""
    return _rank == 0


def nodes() -> int:
    """Number of machines whose processes share a batch."""
    return int(os.environ.get("GROUP_WORLD_SIZE", 1)) if _size > 1 or dist.is_torchelastic_launched() else 1


def world_size() -> int:
    """Number of processes that share a batch."""
    return _size


# ---- between hosts


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true in any rank. A collective: every rank must call it."""
    if _size == 1:
        return flag
    votes = torch.tensor([int(flag)])
    dist.all_reduce(votes)
    return bool(votes)


def same_in_all_ranks(value: object) -> bool:
    """Whether every rank has an equal `value`. A collective."""
    if _size == 1:
        return True
    values: list[object] = [None] * _size
    dist.all_gather_object(values, value)
    return all(each == value for each in values)


def main_process_first(work: Callable[[], Result]) -> Result:
    """Result of `work` in every rank; the main process has finished it before the others begin."""
    if not is_main_process():
        any_rank(False)
    result = work()
    if is_main_process():
        any_rank(False)
    return result


def raise_on_all_ranks(error: UserError) -> NoReturn:
    """End every rank with an error that all of them found: the main process raises it, the others exit with its code."""
    # torchrun kills the remaining ranks when the first one exits, so they meet before that.
    any_rank(False)
    raise error if is_main_process() else SystemExit(error.code)


@contextmanager
def main_process_only() -> Generator[None]:
    """A stretch that the main process works through alone, as if the world size were 1; the others wait at its end.

    Raises:
        Preempted: in all ranks, if one of them was preempted in it.
    """
    global _size
    size, _size, preempted = _size, 1, False
    try:
        yield
    except Preempted:
        preempted = True
    finally:
        _size = size
    if any_rank(preempted):
        raise Preempted


# ---- rows, losses and gradients


class Turns:
    """A batch in `count` parts, each with a turn as if it were a rank; the gradients add up to those of the whole batch.

    Every part passes twice. The first time, without gradients, its rows and counts are noted. The second time `gather`
    returns the whole batch: the part's own rows, with gradients, among the noted ones of all others. The method is that of
    Gao et al., "Scaling deep contrastive learning batch size under memory limited setup" (2021); it costs one more
    forward pass. Dropout draws the same masks both times, from the part's own seed.
    """

    def __init__(self, count: int) -> None:
        self.count, self.seed = count, torch.initial_seed()
        self.number, self.calls, self.makings, self.items, self.noting = 0, 0, 0, 0, True
        self.noted: list[list[Tensor]] = [[] for _ in range(count)]
        self.made: dict[int, tuple[Any, Tensor, Tensor | None]] = {}

    @contextmanager
    def turn(self, number: int, noting: bool) -> Generator[None]:
        """The pass of one part; all random numbers of the step are drawn anew in it."""
        global _turns
        self.number, self.noting, self.calls, self.makings = number, noting, 0, 0
        torch.manual_seed(self.seed)
        _turns = self
        try:
            yield
        finally:
            _turns = None

    def shard(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        self.items = len(tensors[0])
        return tuple(tensor.tensor_split(self.count)[self.number] for tensor in tensors)

    def note(self, value: Tensor) -> list[Tensor]:
        """What every part noted in this place; in the first passes the part's own value alone."""
        if self.noting:
            self.noted[self.number].append(value.detach())
            return [value.detach()]
        self.calls += 1
        return [values[self.calls - 1] for values in self.noted]

    def once(self, work: Callable[[], Result]) -> Result:
        """What `work` returned in the first pass; the random numbers after it are those that followed it there."""
        self.makings += 1
        on_gpu = torch.cuda.is_initialized()
        if self.makings not in self.made:
            result = work()
            after = torch.cuda.get_rng_state() if on_gpu else None
            self.made[self.makings] = (result, torch.get_rng_state(), after)
            return result
        result, host, gpu = self.made[self.makings]
        torch.set_rng_state(host)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)
        return result

    def gather(self, rows: Tensor) -> Tensor:
        everyone = self.note(rows)
        if self.noting:
            # as many rows as the batch has, for a loss that nobody uses
            return everyone[0][torch.arange(self.items, device=rows.device) % len(rows)]
        everyone[self.number] = _Own.apply(rows, self.count)
        return torch.cat(everyone)


class _Own(torch.autograd.Function):
    """Rows of the part whose turn it is. Its loss counts as one of `count`, but their gradient is that of all parts' losses."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int) -> Tensor:
        ctx.count = count
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.count, None


def local_shard(*tensors: Tensor) -> Any:
    """This rank's rows of tensors (B, ...), or those of the part whose turn it is: (B / their number, ...) each; a tuple of several.

    To be called once per step, after everything that is drawn for the whole batch: from here on each rank has random
    numbers of its own, so that the dropout masks of different rows differ.
    """
    if _turns:
        seed_torch(torch.initial_seed(), _turns.number)
        tensors = _turns.shard(*tensors)
    elif _size > 1:
        seed_torch(torch.initial_seed(), _rank)
        tensors = tuple(tensor.chunk(_size)[_rank] for tensor in tensors)
    return tensors if len(tensors) > 1 else tensors[0]


class _Gather(torch.autograd.Function):
    """All-gather of rows in the order of the batch; backward sums what the losses of all ranks say about these rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shards = [torch.empty_like(rows) for _ in range(_size)]
        dist.all_gather(shards, rows.contiguous())
        return torch.cat(shards)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(_size)[_rank]


def once(work: Callable[[], Result]) -> Result:
    """Result of work on the whole batch that needs no gradient, such as its augmentation; done once for all parts of it."""
    return _turns.once(work) if _turns else work()


def gather(rows: Tensor) -> Tensor:
    """The rows (B, ...) of all ranks or parts from each one's shard, with gradients into all of them."""
    if _turns:
        return _turns.gather(rows)
    return _Gather.apply(rows) if _size > 1 else rows


def weighted_mean(mean: Tensor, count: Tensor | int) -> Tensor:
    """A mean over this rank's or part's `count` entries, scaled such that its mean over all of them is that over all entries."""
    if _size == 1 and not _turns:
        return mean
    local = torch.as_tensor(count, dtype=torch.float32, device=mean.device).clone()
    if _turns:
        total, shares = torch.stack(_turns.note(local)).sum(), _turns.count
    else:
        total, shares = local.clone(), _size
        dist.all_reduce(total)
    return mean * (local * shares / total.clamp(min=1))


def average(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the ranks of scalar losses, on the device."""
    if _size == 1:
        return losses
    values = torch.stack([value.detach().float() for value in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, (values / _size).unbind(), strict=True))


class _Step(nn.Module):
    """A loss as the forward pass of the module behind it, which is where DistributedDataParallel looks for gradients."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.loss(batch)


def parallel(module: nn.Module, loss: Loss) -> Loss:
    """`loss` of `module` such that backward averages gradients over the ranks and batch normalisation spans the batch.

    Raises:
        UserError: the module has batch normalisation, which cannot span ranks on the CPU.
    """
    if _size == 1:
        return loss
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        if next(module.parameters()).device.type != "cuda":
            raise UserError("batch normalisation over several processes needs GPUs; use one process here")
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
    # Buffers are computed from gathered rows and so the same in every rank: there is nothing to broadcast.
    step = _Step(module, loss)
    return nn.parallel.DistributedDataParallel(step, broadcast_buffers=False, gradient_as_bucket_view=True)
