"""Nodes (machines) of one pre-training run: where they meet, from arguments or from a Slurm allocation. No torch."""

import os
import re
import socket
import sys
from typing import NamedTuple

from refers.errors import UserError

# Below Linux's ephemeral ports, so that no outgoing connection holds the port of a job.
PORTS = range(10_000, 30_000)
BY_HAND = "on every node give --rendezvous HOST:PORT of the first one, and --node-rank"


class Rendezvous(NamedTuple):
    """Where the nodes of a run meet: a free port of the first one."""

    host: str
    port: int
    rank: int  # of this node, from 0; 0 listens
    nodes: int

    def address(self) -> str:
        """This node as the others reach it.

        Raises:
            UserError: the name of the first node is unknown here.
        """
        try:
            [_, _, _, _, place], *_ = socket.getaddrinfo(
                self.host, self.port, socket.AF_INET, socket.SOCK_DGRAM
            )
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(place)  # sends nothing, but chooses a route
                return self.host if self.rank == 0 else str(probe.getsockname()[0])
        except OSError as error:
            raise UserError(f"node {self.host!r} cannot be reached ({error.strerror}); {BY_HAND}") from None


def rendezvous(nodes: int, processes: int, rank: int | None, place: str | None) -> Rendezvous | None:
    """Where the nodes of a run meet; None where one machine is all of it, or if this process starts one on each node.

    Args:
        nodes: their number.
        processes: on all nodes together.
        rank: of this node, where it was given.
        place: HOST:PORT, where it was given; elsewhere the step of a Slurm job says all.

    Raises:
        UserError: no number of processes per node, no or a wrong rendezvous, or a Slurm step with other tasks than one per node.
    """
    if processes % nodes:
        raise UserError(
            f"{processes} processes cannot be shared evenly by {nodes} nodes; set gpu to a multiple of nodes"
        )
    if (place is None) != (rank is None) or (nodes == 1 and place is not None):
        raise UserError(
            "--rendezvous and --node-rank belong together and to --nodes above 1; give all of them, or none"
        )
    if nodes == 1:
        return None
    if place is not None and rank is not None:
        return _given(nodes, rank, place)
    if not (job := os.environ.get("SLURM_JOB_ID", "")).isdecimal():
        raise UserError(f"{nodes} nodes, but this is no job of Slurm; set nodes to 1, or {BY_HAND}")
    return _of_step(nodes, int(job)) if _in_step(nodes) else None


def _given(nodes: int, rank: int, place: str) -> Rendezvous:
    host, _, port = place.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UserError(
            f"--rendezvous {place!r} is not HOST:PORT; give a free port of the first node, as in node1:29400"
        )
    if rank >= nodes:
        raise UserError(f"--node-rank {rank} of {nodes} nodes; number them from 0 to {nodes - 1}")
    return Rendezvous(host, int(port), rank, nodes)


def _in_step(nodes: int) -> bool:
    """Whether this process is the task of its node in a Slurm step of several nodes.

    Raises:
        UserError: the step has other nodes, or several tasks on a node.
    """
    found, tasks = (os.environ.get(f"SLURM_STEP_NUM_{kind}", "") for kind in ("NODES", "TASKS"))
    # a batch script and a step on one node have yet to start the tasks of all nodes
    if found in ("", "1"):
        return False
    if (found, tasks) != (str(nodes), str(nodes)):
        wrong = f"a Slurm step of {tasks or 'unknown'} tasks on {found} nodes"
        raise UserError(
            f"{wrong}, not of {nodes} on {nodes}; start one task per node: srun --nodes={nodes} --ntasks-per-node=1"
        )
    return True


def _of_step(nodes: int, job: int) -> Rendezvous:
    names, rank = os.environ.get("SLURM_STEP_NODELIST", ""), os.environ.get("SLURM_NODEID", "")
    if not (rank.isdecimal() and int(rank) < nodes):
        raise UserError(f"Slurm says nothing of this node's place (SLURM_NODEID is {rank!r}); {BY_HAND}")
    return Rendezvous(first_host(names), PORTS[job % len(PORTS)], int(rank), nodes)


def first_host(names: str) -> str:
    """First host of a Slurm node list such as `gpu[03-05,9],login1`.

    Raises:
        UserError: it cannot be read.
    """
    number = r"\[(\d+)(?:[-,]\d+)*\]"
    if not (found := re.match(rf"((?:[\w.-]+|{number})+)(?:,|$)", names)):
        raise UserError(f"Slurm's node list {names!r} cannot be read; {BY_HAND}")
    return re.sub(number, r"\1", found[1])


def start_on_nodes(nodes: int, gpus: int) -> None:
    """Become srun, which runs this very command line once on every node of the Slurm job, with `gpus` GPUs each.

    Raises:
        UserError: there is no srun.
    """
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    # All CPUs of the job on a node belong to its task; a minute after the first one has ended, the others do.
    step += ["--cpu-bind=none", "--wait=60", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    sys.stdout.flush()
    try:
        os.execvp("srun", [*step, sys.executable, *sys.argv])
    except OSError as error:
        raise UserError(f"srun cannot be started ({error.strerror}); {BY_HAND}") from None
