"""The simulated schedule: what no schedule may break, on any graph of jobs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refers.errors import UserError
from refers.planning.schedule import Task, critical_path, simulate, tails


@st.composite
def graphs(draw):
    """Up to a dozen tasks; a task may need any before it."""
    tasks = {}
    for place in range(draw(st.integers(0, 12))):
        needs = draw(st.sets(st.sampled_from(sorted(tasks)), max_size=3)) if tasks else set()
        seconds = draw(st.integers(0, 50))
        tasks[f"t{place:02d}"] = Task(
            seconds, tuple(sorted(needs)), draw(st.integers(0, 1)), draw(st.integers(1, 6))
        )
    return tasks


@given(graphs(), st.integers(1, 4), st.integers(1, 8))
def test_a_schedule_keeps_to_its_machines_and_its_order(tasks, gpus, cores):
    found = simulate(tasks, gpus, cores)
    assert found.start.keys() == tasks.keys()
    end = {name: begun + tasks[name].seconds for name, begun in found.start.items()}
    for name, task in tasks.items():
        assert all(end[need] <= found.start[name] for need in task.needs)
    for moment in found.start.values():
        running = [name for name in tasks if found.start[name] <= moment < end[name]]
        assert sum(tasks[name].gpus for name in running) <= gpus
        assert sum(min(tasks[name].cores, cores) for name in running) <= cores
    work = sum(task.seconds * task.gpus for task in tasks.values())
    assert found.makespan == max(end.values(), default=0)
    assert found.makespan >= max(found.path_seconds, work / gpus)


@given(graphs())
def test_no_chain_is_longer_than_the_critical_path(tasks):
    path = critical_path(tasks)
    assert all(before in tasks[after].needs for before, after in pairwise(path))
    assert sum(tasks[name].seconds for name in path) == max(tails(tasks).values(), default=0)


@given(graphs())
def test_room_for_all_takes_as_long_as_the_critical_path(tasks):
    cores = sum(task.cores for task in tasks.values()) or 1
    found = simulate(tasks, len(tasks), cores)
    assert found.makespan == found.path_seconds


def test_one_gpu_takes_the_sum_of_its_jobs():
    tasks = {name: Task(seconds, (), 1, 1) for name, seconds in (("a", 3), ("b", 5), ("c", 7))}
    assert simulate(tasks, 1, 8).makespan == 15
    assert simulate(tasks, 2, 8).makespan == 8, "the longest one first leaves two of even length"


def test_the_longest_chain_goes_first():
    tasks = {
        "short": Task(4, (), 1),
        "head": Task(1, (), 1),
        "tail": Task(9, ("head",), 0),
    }
    found = simulate(tasks, 1, 2)
    assert found.start["head"] == 0
    assert found.makespan == 10
    assert found.path == ["head", "tail"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": Task(1, ("b",))}, "a needs b"),
        ({"a": Task(1, ("b",)), "b": Task(1, ("a",))}, "waits for itself"),
        ({"a": Task(1, (), 2)}, "more than 1 GPUs"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(tasks, message):
    with pytest.raises(UserError, match=message):
        simulate(tasks, 1, 1)
