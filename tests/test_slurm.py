"""A real Slurm on loopback: a piece of the study as Slurm jobs, with what the rules ask for; preempted and terminated training goes on.

`make test-slurm` runs it, as root, with Debian's slurm-wlm and munge installed. The daemons live as long as this file's
tests, speak over 127.0.0.1 alone and believe that the node is larger than it is and has a GPU. Meanwhile /etc/slurm/slurm.conf
is a link to their configuration: the executor's job steps look nowhere else.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[1]
SYSTEM = Path("/etc/slurm/slurm.conf")
CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=7200
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:1
PartitionName=study Nodes={host} Default=YES PriorityTier=1 GraceTime=30 MaxTime=INFINITE
PartitionName=urgent Nodes={host} PriorityTier=2 MaxTime=10
"""
SHOWN = ("JobId", "Comment", "JobState", "Restarts", "RunTime", "TimeLimit", "TRES", "TresPerJob", "ExitCode")
TRAINING = {"warmup_steps": 10, "validate_every": 120, "log_every": 5, "checkpoint_every": 10_000}
SHORT = {"steps": 6, "warmup_steps": 2, "validate_every": 3}
OVERLAY = {
    "pretrain": {"training": {"steps": 240, **TRAINING}},
    "finetune": {"datasets": {"shenzhen": {"training": SHORT}}},
}


class Slurm:
    """Controller, node and munge in one folder."""

    def __init__(self, folder):
        self.folder, self.conf = folder, folder / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        controller, node = free_ports(2)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        self.conf.write_text(CONF.format(folder=folder, host=host, controller=controller, node=node))
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))

    def start(self):
        if SYSTEM.is_symlink() and not SYSTEM.exists():  # of a test that was killed
            SYSTEM.unlink()
        SYSTEM.symlink_to(self.conf)
        places = [
            f"--{name}-file={self.folder}/munge.{suffix}"
            for name, suffix in (("key", "key"), ("pid", "pid"), ("log", "log"), ("seed", "seed"))
        ]
        self._daemon("munged", "--force", f"--socket={self.folder}/munge.socket", *places)
        self._daemon("slurmctld", "-f", self.conf)
        self._daemon("slurmd", "-f", self.conf)
        wait_for(
            lambda: self("sinfo", "--noheader", "--format=%T").splitlines()[:1] == ["idle"],
            60,
            "an idle node",
        )

    def _daemon(self, name, *arguments):
        subprocess.run([name, *map(str, arguments)], check=True)

    def stop(self):
        for name in ("slurmd", "slurmctld", "munge"):
            path = self.folder / f"{name}.pid"
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
        wait_for(lambda: not list(self.folder.glob("*.pid")), 60, "the daemons' end")
        if SYSTEM.is_symlink() and SYSTEM.readlink() == self.conf:
            SYSTEM.unlink()

    def __call__(self, *command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def jobs(self):
        """Every job so far as {field: value}, oldest first."""
        lines = self("scontrol", "show", "job", "--oneliner").splitlines()
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def job(self, rule):
        """The newest job of a rule."""
        return [job for job in self.jobs() if job.get("Comment", "").startswith(f"rule_{rule}_")][-1]


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(happened, seconds, what, running=None):
    """Wait for another process's doing; `running` is one that must not end meanwhile."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        assert running is None or running.poll() is None, f"snakemake ended before {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm():
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    assert not missing, f"no {', '.join(missing)}; apt-get install slurm-wlm munge"
    assert not SYSTEM.exists(), f"{SYSTEM}: this machine is part of a cluster; run the test on another"
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    cluster = Slurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
    shutil.rmtree(folder)


def test_a_cell_is_made_by_slurm_jobs_and_no_step_is_lost(slurm, snakemake, tmp_path):
    done = snakemake("build/demo/data/demo.json", "--workflow-profile", "profiles/demo")
    assert done.code == 0, done.output[-3000:]
    folder = tmp_path / "study"
    places = {name: str(folder / name) for name in ("results", "store", "interim", "logs", "benchmarks")}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({**OVERLAY, "pathvars": places}))
    cell, log = folder / "results/cells/refers/shenzhen/100pct/auc.json", folder / "logs/pretrain/refers.log"

    command = [Path(sys.executable).with_name("snakemake"), cell, "--workflow-profile", "profiles/slurm"]
    command += ["--configfile", "config/demo.yaml", overlay, "--slurm-init-seconds-before-status-checks", "1"]
    command += ["--slurm-logdir", tmp_path / "slurm", "--latency-wait", "5"]
    command += ["--set-threads", "pretrain=1", "finetune=1", "pack_images=2"]

    def resumed():
        """The step from which the newest try of pre-training goes on, and its newest step."""
        text = log.read_text() if log.exists() else ""
        start = re.search(r"^resumed at step (\d+)", text, re.MULTILINE)
        steps = re.findall(r"^step (\d+)/", text, re.MULTILINE)
        return int(start[1]) if start else 0, int(steps[-1]) if steps else 0

    def trained_on(since):
        start, step = resumed()
        return start >= since and step >= start + 20

    with open(tmp_path / "snakemake.log", "w") as output:
        running = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        # no state is saved but upon SIGTERM: what is gone on from was saved by the job that was ended
        wait_for(lambda: trained_on(0), 900, "the first steps of pre-training", running)
        slurm("sbatch", "--partition=urgent", "--gpus=1", "--mem=100", "--output=/dev/null", "--wrap=:")
        wait_for(lambda: trained_on(20), 600, "steps after a preemption", running)
        slurm("scancel", "--signal=TERM", slurm.job("pretrain")["JobId"])
        wait_for(lambda: trained_on(40), 600, "steps after SIGTERM", running)
        slurm("scontrol", "requeue", slurm.job("pretrain")["JobId"])
        running.wait(timeout=900)
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(timeout=120)
        for job in slurm.jobs():
            print(*(f"{key}={job.get(key)}" for key in SHOWN))
    assert running.returncode == 0, (tmp_path / "snakemake.log").read_text()[-5000:]
    assert json.loads(cell.read_text())["seeds"] == [0, 1, 2]
    assert json.loads((folder / "results/encoders/refers/run.json").read_text())["resumed_at"] >= 60
    assert slurm.job("pretrain")["Restarts"] == "1"
    asked = {rule: slurm.job(rule) for rule in ("pack_images", "pretrain", "finetune", "cell")}
    assert {rule: job["JobState"] for rule, job in asked.items()} == dict.fromkeys(asked, "COMPLETED")
    found = {
        rule: (job["MinMemoryNode"], job["TimeLimit"], job["CPUs/Task"], job.get("TresPerJob"))
        for rule, job in asked.items()
    }
    assert found == {
        "pack_images": ("4000M", "12:00:00", "2", None),
        "pretrain": ("24000M", "5-00:00:00", "1", "gres:gpu:1"),
        "finetune": ("8000M", "3-00:00:00", "1", "gres:gpu:1"),
        "cell": ("1000M", "00:10:00", "1", None),
    }
