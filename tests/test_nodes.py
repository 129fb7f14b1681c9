"""Where the nodes of a run meet: from arguments, from a Slurm step, and every way in which that can be wrong."""

import pytest
from refers.errors import UserError
from refers.nodes import PORTS, Rendezvous, first_host, rendezvous

STEP = {
    "SLURM_JOB_ID": "123457",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[03,07-09]",
    "SLURM_NODEID": "1",
}


@pytest.fixture
def slurm(monkeypatch):
    """Set the variables of a Slurm step; slurm(**changes), where None takes one away."""

    def change(**changes):
        for name, value in (STEP | changes).items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    change(**dict.fromkeys(STEP))
    return change


def test_one_node_meets_nobody(slurm):
    assert rendezvous(1, 4, None, None) is None
    slurm()
    assert rendezvous(1, 4, None, None) is None


def test_the_place_is_the_given_one_even_in_a_slurm_job(slurm):
    slurm()
    assert rendezvous(3, 6, 2, "10.0.0.1:29400") == Rendezvous("10.0.0.1", 29400, 2, 3)


def test_the_step_of_a_slurm_job_says_where_its_nodes_meet(slurm):
    slurm()
    assert rendezvous(2, 8, None, None) == Rendezvous("gpu03", PORTS[123457 % len(PORTS)], 1, 2)
    assert {10_000 <= port < 30_000 for port in PORTS} == {True}
    slurm(SLURM_JOB_ID="123458")
    assert rendezvous(2, 8, None, None).port == PORTS[123458 % len(PORTS)]


@pytest.mark.parametrize("nodes", [None, "1"])
def test_a_batch_script_has_yet_to_start_its_nodes(slurm, nodes):
    slurm(SLURM_STEP_NUM_NODES=nodes, SLURM_STEP_NUM_TASKS="1", SLURM_STEP_NODELIST="gpu03")
    assert rendezvous(2, 8, None, None) is None


@pytest.mark.parametrize(
    ("names", "host"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[03-05,9],login1", "gpu03"),
        ("rack[2-3]-gpu[011,013].site.org", "rack2-gpu011.site.org"),
        ("a-b[7]", "a-b7"),
    ],
)
def test_the_first_host_of_a_node_list(names, host):
    assert first_host(names) == host


@pytest.mark.parametrize("names", ["", "gpu[03", "gpu[a-b]", "[]", ",gpu1", "gpu 1", "(null)"])
def test_a_node_list_that_cannot_be_read_is_one_line(names):
    with pytest.raises(UserError, match="cannot be read; on every node give --rendezvous HOST:PORT"):
        first_host(names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((2, 3, 0, "a:1"), "3 processes cannot be shared evenly by 2 nodes; set gpu to a multiple"),
        ((2, 2, None, "a:1"), "belong together"),
        ((2, 2, 0, None), "belong together"),
        ((1, 2, 0, "a:1"), "to --nodes above 1"),
        ((2, 2, 2, "a:1"), "--node-rank 2 of 2 nodes; number them from 0 to 1"),
        ((2, 2, 0, "a"), "'a' is not HOST:PORT; give a free port"),
        ((2, 2, 0, ":80"), "is not HOST:PORT"),
        ((2, 2, 0, "a:70000"), "is not HOST:PORT"),
        ((2, 2, None, None), "2 nodes, but this is no job of Slurm; set nodes to 1, or"),
    ],
)
def test_wrong_arguments_are_one_line_with_a_remedy(slurm, given, said):
    with pytest.raises(UserError) as caught:
        rendezvous(*given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8"}, "step of 8 tasks on 2 nodes, not of 2 on 2; start one task per node"),
        ({"SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NUM_TASKS": "4"}, "4 tasks on 4 nodes, not of 2 on 2"),
        ({"SLURM_NODEID": None}, "SLURM_NODEID is ''"),
        ({"SLURM_NODEID": "2"}, "SLURM_NODEID is '2'"),
        ({"SLURM_STEP_NODELIST": None}, "node list '' cannot be read"),
    ],
)
def test_a_slurm_step_that_is_not_one_task_per_node_is_one_line(slurm, changes, said):
    slurm(**changes)
    with pytest.raises(UserError) as caught:
        rendezvous(2, 8, None, None)
    assert said in str(caught.value)


def test_an_unknown_first_node_is_one_line():
    with pytest.raises(
        UserError, match=r"node 'no\.such\.invalid' cannot be reached \(.+\); on every node give"
    ):
        Rendezvous("no.such.invalid", 29400, 1, 2).address()


def test_a_nodes_address_is_the_one_on_the_way_to_the_first():
    assert [Rendezvous("127.0.0.1", 29400, rank, 2).address() for rank in range(2)] == ["127.0.0.1"] * 2
