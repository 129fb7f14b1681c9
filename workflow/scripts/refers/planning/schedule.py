"""List scheduling: when every job of a graph would run on some GPUs and cores, and the longest chain among them."""

import heapq
from dataclasses import dataclass

from refers.errors import UserError


@dataclass(frozen=True)
class Task:
    """seconds of work on `gpus` devices and `cores`, to begin when every task that it needs is done."""

    seconds: float
    needs: tuple[str, ...] = ()
    gpus: int = 0
    cores: int = 1


@dataclass(frozen=True)
class Schedule:
    """start: seconds by task; makespan: when the last task ends; path: the longest chain of tasks, in order."""

    start: dict[str, float]
    makespan: float
    path: list[str]
    path_seconds: float


def tails(tasks: dict[str, Task]) -> dict[str, float]:
    """Seconds from a task's start to the end of the longest chain behind it.

    Raises:
        UserError: a task needs one that is not there, or itself.
    """
    after: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for need in task.needs:
            if need not in tasks:
                raise UserError(f"schedule: {name} needs {need}, which is no task; add it")
            after[need].append(name)
    waiting = {name: len(behind) for name, behind in after.items()}
    ready, found = [name for name, count in waiting.items() if not count], {}
    while ready:
        name = ready.pop()
        found[name] = tasks[name].seconds + max((found[behind] for behind in after[name]), default=0.0)
        for need in tasks[name].needs:
            waiting[need] -= 1
            if not waiting[need]:
                ready.append(need)
    if len(found) < len(tasks):
        raise UserError(f"schedule: {min(tasks.keys() - found)} waits for itself; remove the cycle")
    return found


def critical_path(tasks: dict[str, Task]) -> list[str]:
    """The longest chain of tasks, first to last: no number of machines makes a study shorter."""
    left, path = tails(tasks), []
    behind = {name for name, task in tasks.items() if not task.needs}
    after: dict[str, set[str]] = {name: set() for name in tasks}
    for name, task in tasks.items():
        for need in task.needs:
            after[need].add(name)
    while behind:
        path.append(max(sorted(behind), key=left.__getitem__))
        behind = after[path[-1]]
    return path


def simulate(tasks: dict[str, Task], gpus: int, cores: int) -> Schedule:
    """Start whatever is ready and fits, the task with the longest chain behind it first.

    A task that asks for more cores than there are gets all of them, as in Snakemake.

    Raises:
        UserError: a task asks for more GPUs than there are, or as `tails`.
    """
    left = tails(tasks)
    if greedy := [name for name, task in tasks.items() if task.gpus > gpus]:
        raise UserError(f"schedule: {min(greedy)} needs more than {gpus} GPUs; give more")
    waiting = {name: len(task.needs) for name, task in tasks.items()}
    after: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for need in task.needs:
            after[need].append(name)
    ready = sorted((-left[name], name) for name, count in waiting.items() if not count)
    running: list[tuple[float, str]] = []
    start: dict[str, float] = {}
    now, free = 0.0, [gpus, cores]
    while ready or running:
        held = []
        for item in ready:
            task = tasks[item[1]]
            wanted = task.gpus, min(task.cores, cores)
            if wanted[0] > free[0] or wanted[1] > free[1]:
                held.append(item)
                continue
            free = [free[0] - wanted[0], free[1] - wanted[1]]
            start[item[1]] = now
            heapq.heappush(running, (now + task.seconds, item[1]))
        ready = held
        now = running[0][0]
        while running and running[0][0] <= now:
            _, name = heapq.heappop(running)
            free = [free[0] + tasks[name].gpus, free[1] + min(tasks[name].cores, cores)]
            for behind in after[name]:
                waiting[behind] -= 1
                if not waiting[behind]:
                    ready.append((-left[behind], behind))
        ready.sort()
    path = critical_path(tasks)
    return Schedule(start, now, path, sum(tasks[name].seconds for name in path))
