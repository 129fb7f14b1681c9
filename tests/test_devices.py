"""GPU slots on a machine without a scheduler: no two jobs share a GPU, a killed one frees its own, none is one clear line."""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.run
from refers import devices
from refers.errors import UserError
from refers.training import distributed, runtime

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys
sys.path.insert(0, {scripts!r})
from refers import devices
devices.PATIENCE = 0.05
print(*devices.claim({names!r}, {count}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def gpu():
    """Names of GPUs that no other test run on this machine uses: gpu("a")."""
    run = secrets.token_hex(4)
    return lambda letters: [f"gpu-{run}-{letter}" for letter in letters]


@pytest.fixture
def jobs(gpu):
    """Start a process that claims GPUs named by letters and holds them until its stdin closes: jobs("ab", count=1)."""
    started = []

    def start(letters, count=1, **environment):
        code = HOLDER.format(scripts=str(ROOT / "workflow/scripts"), names=gpu(letters), count=count)
        job = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
            | environment,
        )
        started.append(job)
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def places(job):
    """Numbers of the GPUs that the job has got, once it has them."""
    return [int(place) for place in job.stdout.readline().split()]


def test_jobs_that_start_together_take_different_gpus(jobs):
    assert sorted(places(job) for job in [jobs("abcd") for _ in range(4)]) == [[0], [1], [2], [3]]


def test_a_job_without_a_free_gpu_waits_says_so_and_takes_that_of_a_killed_one(jobs):
    taken = {places(job)[0]: job for job in [jobs("ab") for _ in range(2)]}
    assert taken.keys() == {0, 1}
    waiting = jobs("ab")
    assert waiting.stderr.readline() == "2 of 2 visible GPUs are taken by other jobs; waiting for 1\n"
    taken[1].send_signal(signal.SIGKILL)
    assert places(waiting) == [1]


def test_a_gpu_is_known_by_its_name_whatever_number_a_job_sees_it_under(jobs):
    assert places(jobs("b")) == [0]  # as with CUDA_VISIBLE_DEVICES=1
    assert places(jobs("ab")) == [0]
    late = jobs("ba")
    assert "waiting for 1" in late.stderr.readline()


def test_jobs_with_folders_of_their_own_for_temporary_files_see_each_others_gpus(jobs, tmp_path):
    assert places(jobs("a", TMPDIR=str(tmp_path / "one"))) == [0]
    assert "waiting for 1" in jobs("a", TMPDIR=str(tmp_path / "two")).stderr.readline()


def test_a_job_on_several_gpus_takes_none_before_it_gets_all(jobs):
    """Two that keep what they have would wait for each other for ever."""
    first = jobs("ab")
    assert places(first) == [0]
    several = jobs("abc", count=3)
    assert "1 of 3 visible GPUs are taken by other jobs; waiting for 3" in several.stderr.readline()
    assert places(jobs("bc", count=2)) == [0, 1]
    first.kill()


def test_inside_slurm_only_the_jobs_of_one_allocation_mind_each_other(jobs):
    assert places(jobs("a", SLURM_JOB_ID="7")) == [0]
    assert places(jobs("a", SLURM_JOB_ID="8")) == [0]  # a share of the GPU is the scheduler's to give
    third = jobs("a", SLURM_JOB_ID="8")
    assert "waiting for 1" in third.stderr.readline()


class Driver:
    """CUDA's driver library with GPUs whose UUIDs are bytes of one value, of the version that knows CUDA `cuda`."""

    def __init__(self, values, status=0, cuda=13020):
        self.values, self.status, self.cuda = values, status, cuda

    def cuInit(self, _flags):
        return self.status

    def cuDriverGetVersion(self, version):
        version._obj.value = self.cuda
        return 0

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


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_driver_that_is_too_old_for_the_installed_torch_stops_before_any_work(monkeypatch, device):
    installed = {"nvidia-cuda-runtime": "13.2.86"}

    def version(package):
        if package not in installed:
            raise PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(devices, "version", version)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver([1], cuda=12080))
    line = devices.absent(device)
    assert (
        "its driver supports CUDA 12, the installed torch needs CUDA 13: install driver 580 or newer" in line
    )
    assert devices.absent("cpu") == ""
    with pytest.raises(UserError) as caught:
        runtime.choose_device(device)  # no GPU for torch, here as there
    assert str(caught.value) == line
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: Driver([1], cuda=13000)
    )  # any of a major version will do
    assert devices.absent(device) == ""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver([1], cuda=12080))
    installed.clear()  # Snakemake's own environment, where each job brings its torch
    assert devices.absent(device) == ""
    installed["nvidia-cuda-runtime-cu12"] = "12.8.90"
    assert devices.absent(device) == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch finds a GPU")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_that_torch_does_not_find_is_not_passed_over_in_silence(monkeypatch, device):
    monkeypatch.setattr(devices, "visible", lambda: ["gpu-a"])
    monkeypatch.setattr(devices, "outdated", lambda: "")
    with pytest.raises(UserError, match=f"device: {device} is configured but this torch, .* finds no GPU"):
        runtime.choose_device(device)


@pytest.fixture
def two_gpus(monkeypatch, gpu):
    """Two GPUs for torch and CUDA's driver; the list of those that were chosen."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "_HELD", held := [])
    chosen = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        set_device=chosen.append,
        get_device_name=lambda device: "a card",
        device_count=lambda: 2,
    )
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**vars(torch.cuda) | vars(cuda)))
    monkeypatch.setattr(devices, "visible", lambda: gpu("ab"))
    yield chosen
    for lock in held:
        lock.close()


def test_a_gpu_is_claimed_and_the_cpu_is_taken_only_where_the_config_allows_it(two_gpus, monkeypatch):
    assert runtime.choose_device("cpu") == torch.device("cpu")
    assert [runtime.choose_device("auto"), runtime.choose_device("cuda")] == two_gpus
    assert two_gpus == [torch.device("cuda", 0), torch.device("cuda", 1)]
    torch.cuda.is_available = lambda: False
    monkeypatch.setattr(devices, "visible", list)
    assert runtime.choose_device("auto") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    message = "no GPU is visible (CUDA_VISIBLE_DEVICES is ''); set `device: auto` or `cpu`"
    with pytest.raises(UserError) as caught:
        runtime.choose_device("cuda")
    assert message in str(caught.value)


def test_torchruns_processes_use_the_gpus_that_their_parent_holds(two_gpus, monkeypatch, gpu):
    def processes(arguments):
        assert arguments[:3] == ["--standalone", "--nproc-per-node", "2"]
        assert [devices.is_free(name) for name in gpu("ab")] == [False, False]
        for rank in ("0", "1"):
            monkeypatch.setenv("LOCAL_RANK", rank)
            runtime.choose_device("cuda")

    monkeypatch.setenv(runtime.HELD, "")
    monkeypatch.setattr(torch.distributed.run, "main", processes)
    with pytest.raises(SystemExit) as ended:
        distributed.launch(2, "cuda")
    assert ended.value.code == 0
    assert len(devices._HELD) == 2
    assert two_gpus == [torch.device("cuda", 0), torch.device("cuda", 1)]
    with pytest.raises(UserError, match="3 processes but 2 visible GPUs"):
        distributed.launch(3, "cuda")


def test_numbers_that_slow_a_cpu_down_are_zero_in_training():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    tiny = torch.tensor([1e-30])
    assert (tiny * 1e-9).item() > 0
    runtime.choose_device("cpu")
    assert (tiny * 1e-9).item() == 0


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
