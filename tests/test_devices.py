"""GPU slots on a machine without a scheduler: no two jobs share a GPU, a killed one frees its own, none is one clear line."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from refers import devices, runtime
from refers.errors import UserError

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys
sys.path.insert(0, {scripts!r})
from refers import devices
devices.PATIENCE = 0.05
print(devices.claim({names!r}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def jobs(tmp_path):
    """Start a process that claims one of the GPUs named and holds it until its stdin closes; all share a lock folder."""
    started = []

    def start(names, **environment):
        code = HOLDER.format(scripts=str(ROOT / "workflow/scripts"), names=names)
        job = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
            | {"TMPDIR": str(tmp_path)}
            | environment,
        )
        started.append(job)
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def place(job):
    """Number of the GPU that the job has got, once it has one."""
    return int(job.stdout.readline())


def test_jobs_that_start_together_take_different_gpus(jobs):
    names = ["gpu-a", "gpu-b", "gpu-c", "gpu-d"]
    assert sorted(place(job) for job in [jobs(names) for _ in names]) == [0, 1, 2, 3]


def test_a_job_without_a_free_gpu_waits_says_so_and_takes_that_of_a_killed_one(jobs):
    holders = [jobs(["gpu-a", "gpu-b"]) for _ in range(2)]
    taken = {place(job): job for job in holders}
    assert taken.keys() == {0, 1}
    waiting = jobs(["gpu-a", "gpu-b"])
    assert "all 2 visible GPUs are taken by other jobs" in waiting.stderr.readline()
    taken[1].send_signal(signal.SIGKILL)
    assert place(waiting) == 1


def test_a_gpu_is_known_by_its_name_whatever_number_a_job_sees_it_under(jobs):
    assert place(jobs(["gpu-b"])) == 0  # as with CUDA_VISIBLE_DEVICES=1
    assert place(jobs(["gpu-a", "gpu-b"])) == 0
    late = jobs(["gpu-b", "gpu-a"])
    assert "waiting for one" in late.stderr.readline()


def test_inside_slurm_only_the_jobs_of_one_allocation_mind_each_other(jobs):
    assert place(jobs(["gpu-a"], SLURM_JOB_ID="7")) == 0
    assert place(jobs(["gpu-a"], SLURM_JOB_ID="8")) == 0  # a share of the GPU is the scheduler's to give
    third = jobs(["gpu-a"], SLURM_JOB_ID="8")
    assert "waiting for one" in third.stderr.readline()


class Driver:
    """CUDA's driver library with GPUs whose UUIDs are bytes of one value."""

    def __init__(self, values, status=0):
        self.values, self.status = values, status

    def cuInit(self, _flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.values)
        return 0

    def cuDeviceGetUuid_v2(self, name, place):
        name._obj[:] = [self.values[place]] * 16
        return 0


def test_the_driver_is_asked_for_uuids_and_a_machine_without_one_has_none(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver([1, 255]))
    assert devices.visible() == [
        "01010101-0101-0101-0101-010101010101",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver([], status=100))
    assert devices.visible() == []

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert devices.visible() == []


def test_a_gpu_is_claimed_and_the_cpu_is_taken_only_where_the_config_allows_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    chosen = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        set_device=chosen.append,
        get_device_name=lambda device: "a card",
        device_count=lambda: 2,
    )
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**vars(torch.cuda) | vars(cuda)))
    monkeypatch.setattr(devices, "visible", lambda: ["gpu-a", "gpu-b"])
    assert runtime.choose_device("cpu") == torch.device("cpu")
    assert [runtime.choose_device("auto"), runtime.choose_device("cuda")] == chosen
    assert chosen == [torch.device("cuda", 0), torch.device("cuda", 1)]
    torch.cuda.is_available = lambda: False
    monkeypatch.setattr(devices, "visible", list)
    assert runtime.choose_device("auto") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    message = "no GPU is visible (CUDA_VISIBLE_DEVICES is ''); set `device: auto` or `cpu`"
    with pytest.raises(UserError) as caught:
        runtime.choose_device("cuda")
    assert message in str(caught.value)


def test_without_a_gpu_snakemake_stops_before_any_job(snakemake, demo, tmp_path):
    folders = {name: str(tmp_path / name) for name in ("results", "logs", "benchmarks")}
    paths = f"pathvars={{{', '.join(f'{name}: {path}' for name, path in folders.items())}}}"
    target = f"{tmp_path}/results/encoders/refers/encoder.safetensors"
    arguments = [target, "--workflow-profile", "profiles/demo", "--config", paths]
    found = snakemake(*arguments, "device=cuda", environment={"CUDA_VISIBLE_DEVICES": ""})
    assert found.code == 1
    assert "device: cuda is configured but no GPU is visible (CUDA_VISIBLE_DEVICES is '')" in found.output
    assert "Traceback (most recent" not in found.output
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "logs").exists()
    assert snakemake(*arguments, "device=cuda", "-n").code == 0, "a dry run plans without a GPU"
