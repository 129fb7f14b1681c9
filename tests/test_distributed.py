"""Several processes that share a batch: the gradients, draws and weights of one process, one end for all of them, one writer."""

import dataclasses
import json
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed.run
from refers import config
from refers import nodes as nodes_of_a_run
from refers.errors import UserError
from refers.methods import build_objective
from refers.model.encoders import build_encoder
from refers.training import distributed, trainer
from refers.training.pretraining import pretraining_task
from safetensors.torch import load_file
from test_objectives import OBJECTIVES, REFERS
from test_trainer import CPU
from torch import nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
VARIANTS = {
    **OBJECTIVES,
    "sum of tokens": ("refers", {**REFERS, "language": "sum"}),
    "masked labels": ("lsp", {"uncertain": "ignore"}),
    "smoothed labels": ("lsp", {"uncertain": "lsr"}),
    "nce": ("c2l", {"width": 8, "queue": 16, "loss": "nce"}),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_processes(work, count=2):
    """Run `work` in forked processes that torchrun might have started; their exit codes, negative for a signal."""
    port = free_port()
    children = []
    for rank in range(count):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
            os.environ |= {
                "TORCHELASTIC_RUN_ID": "test",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
            }
            distributed.join(CPU)
            work(rank)
            code = 0
        except (SystemExit, UserError) as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.fixture
def make_task(small_model, context, studies):
    """A pre-training task by the name of a variant, without dropout, with batches of four."""

    def make(name):
        torch.manual_seed(0)
        objective, settings = VARIANTS[name]
        module = build_objective(objective, build_encoder(small_model), settings, context)
        for part in module.modules():
            if type(part).__name__ == "Dropout":
                part.p = 0.0
        return pretraining_task(studies, module, config.Training(batch_size=4), 32, CPU)

    return make


def one_step(task):
    """Losses and gradients of the first step's batch, what the encoder saw, and the buffers afterwards."""
    seen = []
    task.module.encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0].detach()))
    task.module.train()
    loss = distributed.parallel(task.module, task.loss)
    torch.manual_seed(1)
    batch = task.load(0)
    batch["labels"][0] = -1  # so that the halves differ in what an uncertain label masks
    losses = loss(batch)
    losses["loss"].backward()
    gradients = {key: value.grad for key, value in task.module.named_parameters() if value.grad is not None}
    buffers = dict(task.module.named_buffers())
    return {
        "losses": distributed.average(losses),
        "gradients": gradients,
        "seen": seen,
        "buffers": buffers,
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(name, make_task, tmp_path):
    whole = one_step(make_task(name))
    assert in_processes(lambda rank: torch.save(one_step(make_task(name)), tmp_path / f"{rank}.pt")) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["gradients"].keys() == whole["gradients"].keys()
    largest = max(float(value.abs().max()) for value in whole["gradients"].values())
    for key, value in whole["gradients"].items():
        assert torch.equal(first["gradients"][key], second["gradients"][key]), key
        tolerance = (
            1e-5 * float(value.abs().max()) + 1e-8 * largest
        )  # some, such as a key's bias, are zero but for rounding
        torch.testing.assert_close(
            first["gradients"][key],
            value,
            rtol=1e-4,
            atol=tolerance,
            msg=lambda text, key=key: f"{key}: {text}",
        )
    torch.testing.assert_close(first["losses"], whole["losses"], check_dtype=False)
    for key, value in whole["buffers"].items():
        torch.testing.assert_close(first["buffers"][key], value)
        assert torch.equal(first["buffers"][key], second["buffers"][key]), key


@pytest.mark.parametrize("name", ["refers", "c2l", "lsp", "model_genesis", "context_restoration", "transvw"])
def test_each_process_encodes_its_half_of_the_same_images(name, make_task, tmp_path):
    whole = one_step(make_task(name))["seen"]
    assert in_processes(
        lambda rank: torch.save(one_step(make_task(name))["seen"], tmp_path / f"{rank}.pt")
    ) == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [len(images) for images in halves[0]] == [len(images) // 2 for images in whole]
    for images, *shards in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat(shards), images)


def test_an_objective_that_shares_nothing_is_right_as_well(make_task, tmp_path):
    def plain():
        task = make_task("lsp")

        def loss(batch):
            images = batch["images"][:, None, :32, :32].float() / 255
            return {"loss": task.keep(images).pooled.square().mean()}

        return dataclasses.replace(task, module=nn.ModuleDict({"encoder": task.keep}), loss=loss)

    whole = one_step(plain())
    assert in_processes(lambda rank: torch.save(one_step(plain()), tmp_path / f"{rank}.pt")) == [0, 0]
    found = torch.load(tmp_path / "1.pt")
    for key, value in whole["gradients"].items():
        torch.testing.assert_close(found["gradients"][key], value)


def test_after_local_shard_each_rank_has_random_numbers_of_its_own(tmp_path):
    def draw(rank):
        found = []
        for step in (0, 1, 0):
            torch.manual_seed(step)
            before = torch.rand(3)
            rows = distributed.local_shard(torch.arange(6))
            found += [before, rows, torch.rand(3)]
        torch.save(found, tmp_path / f"{rank}.pt")

    assert in_processes(draw) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first[0], second[0])
    assert (first[1].tolist(), second[1].tolist()) == ([0, 1, 2], [3, 4, 5])
    assert not torch.equal(first[2], second[2])
    assert torch.equal(first[2], first[8])
    assert torch.equal(second[2], second[8])


def test_a_batch_size_that_is_not_a_multiple_of_the_processes_is_one_line(make_task):
    def refuse(_rank):
        with pytest.raises(UserError, match="batch size 4 is not a multiple of the 3 processes"):
            make_task("lsp")

    assert in_processes(refuse, 3) == [0, 0, 0]


def training(**values):
    defaults = {"steps": 9, "warmup_steps": 1, "batch_size": 4, "precision": "fp32", "checkpoint_every": 4}
    optimiser = config.Optimiser(lr=0.05, lookahead_every=2)
    return config.Training(
        **{**defaults, "validate_every": 3, "log_every": 2, "optimiser": optimiser, **values}
    )


def close(one, two):
    """Whether two finished runs ended alike, up to the order of sums."""
    a, b = (torch.load(folder / "weights.pt") for folder in (one, two))
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-3, atol=1e-5)
    curves = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert len(curves[0]) == len(curves[1])
    for line, other in zip(*curves, strict=True):
        assert line.keys() == other.keys()
        for kind in {"train", "validation"} & line.keys():
            assert other[kind] == pytest.approx(line[kind], rel=1e-3)


@pytest.mark.parametrize("name", ["refers", "c2l", "nce"])
def test_a_run_of_two_processes_ends_as_a_run_of_one(name, make_task, tmp_path):
    def run(folder, rank=0):
        task = make_task(name)
        trainer.fit(task, training(), CPU, folder, "x")
        torch.save(dict(task.module.named_buffers()), folder / f"buffers{rank}.pt")
        if distributed.is_main_process():
            torch.save(task.keep.state_dict(), folder / "weights.pt")

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run(tmp_path / "one")
    assert in_processes(lambda rank: run(tmp_path / "two", rank)) == [0, 0]
    close(tmp_path / "one", tmp_path / "two")
    # only the main process validates, which must not show in what the processes keep beside their weights
    whole, *shared = (
        torch.load(tmp_path / name) for name in ("one/buffers0.pt", "two/buffers0.pt", "two/buffers1.pt")
    )
    for key, value in whole.items():
        torch.testing.assert_close(shared[0][key], value, rtol=1e-3, atol=1e-4)
        assert torch.equal(shared[0][key], shared[1][key]), key


@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("moment", ["load", "validate"])
def test_sigterm_to_one_process_ends_all_and_any_number_resumes(asked, moment, make_task, tmp_path):
    def run(folder, rank=None):
        task = make_task("refers")
        original, calls = getattr(task, moment), []

        def interrupted(*given):
            calls.append(1)
            if rank == asked and len(calls) == (3 if moment == "validate" else 5):
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*given)

        setattr(task, moment, interrupted)
        outcome = trainer.fit(task, training(), CPU, folder, "x")
        if distributed.is_main_process():
            torch.save(task.keep.state_dict(), folder / "weights.pt")
        return outcome

    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole")
    codes = in_processes(lambda rank: run(tmp_path / "broken", rank))
    if moment == "validate" and asked == 1:
        assert codes == [0, 0]  # only the main process validates, so nothing was interrupted
        return
    assert codes == [143, 143]
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["resume.pt"]
    assert 0 < run(tmp_path / "broken")["resumed_at"] < 9
    close(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda loss: loss * float("nan"), "loss is nan at step 1 of 9"),
        (lambda loss: loss + (loss * 0).sqrt(), "a weight is non-finite after the update at step 1 of 9"),
    ],
    ids=["loss", "gradient"],
)
def test_a_non_finite_value_stops_every_process_with_one_message(make_task, tmp_path, capfd, spoil, said):
    def run(_rank):
        task = make_task("lsp")
        loss, calls = task.loss, []

        def spoilt(batch):
            found = loss(batch)["loss"]
            calls.append(1)
            return {"loss": spoil(found) if len(calls) == 2 else found}

        task.loss = spoilt
        try:
            trainer.fit(task, training(), CPU, tmp_path, "x")
        except UserError as error:
            print(error, file=sys.stderr)
            raise

    assert in_processes(run) == [1, 1]
    assert capfd.readouterr().err.count(said) == 1
    assert (tmp_path / "nonfinite.json").exists()


def test_out_of_memory_in_one_process_is_one_line(make_task, tmp_path):
    def run(rank):
        task = make_task("lsp")
        loss = task.loss

        def short(batch):
            if rank == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(batch)

        task.loss = short
        ends = UserError if rank == 1 else RuntimeError  # which torchrun would have forestalled
        with pytest.raises(ends, match="out of GPU memory with several processes" if rank == 1 else ""):
            trainer.fit(task, training(), CPU, tmp_path, "x")

    assert in_processes(run) == [0, 0]


def test_batch_normalisation_on_the_cpu_is_refused_over_several_processes():
    def refuse(_rank):
        with pytest.raises(UserError, match="batch normalisation over several processes needs GPUs"):
            distributed.parallel(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), dict)

    assert in_processes(refuse) == [0, 0]


@pytest.fixture
def command(small_model, small_bert, mimic, tmp_path):
    """A pre-training run as the rule starts it, into a folder of tmp_path: command(processes) -> its arguments.

    Only that of an objective that reads no reports is free of dropout.
    """
    (tmp_path / "images.json").write_text('{"quarantined": []}')
    training = {"warmup_steps": 2, "batch_size": 4, "precision": "fp32", "log_every": 1, "validate_every": 6}

    def make(processes, steps=12, folder="encoder", objective="refers"):
        model = config.to_dict(small_model) | {"dropout": 0.0}
        settings = {"objective": objective, "settings": OBJECTIVES[objective][1], "model": model}
        settings["training"] = training | {"steps": steps}
        index, store, tokens = mimic
        arguments = ["--method", objective, "--config", json.dumps(settings), "--device", "cpu"]
        arguments += ["--index", index, "--store", store, "--tokens", tokens, "--text-encoder", small_bert]
        arguments += ["--manifest", tmp_path / "images.json", "--processes", processes]
        arguments += ["--out", tmp_path / folder / "encoder.safetensors"]
        return list(map(str, [sys.executable, ROOT / "workflow/scripts/pretrain.py", *arguments]))

    return make


def interrupted(command, interrupt):
    """Start a command in a session of its own, call `interrupt(process)` after its third step; exit code and later output."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as running:
        for line in running.stdout:
            if line.startswith("step 3/"):
                interrupt(running)
                break
        rest = running.stdout.read()
    assert "Traceback" not in rest
    return running.returncode, rest


def test_torchrun_shares_a_batch_and_one_process_takes_over(command, tmp_path):
    """The script itself, as the rule runs it: two processes, SIGTERM to torchrun, resumed by one."""
    folder = tmp_path / "encoder"
    code, rest = interrupted(command(2), lambda running: running.terminate())
    assert code == 128 + signal.SIGTERM
    assert len(re.findall(r"SIGTERM at step \d+ of 12; the state is saved", rest)) == 1, rest
    assert [path.name for path in folder.iterdir()] == ["resume.pt"]
    done = subprocess.run(command(1), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "run.json").read_text())
    assert 3 <= record["resumed_at"] < 12
    assert record["processes"] == 1
    assert {path.name for path in folder.iterdir()} == {"encoder.safetensors", "metrics.jsonl", "run.json"}


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_every_process_of_a_job_and_its_state_is_saved(command, tmp_path, processes):
    """A terminal sends SIGINT to all of them: the rule's shell, the script, or torchrun with its processes."""
    prefix = re.search(r'shell\.prefix\("(.*)"\)', (ROOT / "rules/common.smk").read_text())[1]
    log = re.search(
        r"--out \{output.encoder:q\} (.*)\"$", (ROOT / "rules/pretrain.smk").read_text(), re.MULTILINE
    )[1]
    text = f"{prefix}{shlex.join(command(processes, 5000))} {log.replace('{log:q}', '/dev/stdout')}"
    code, rest = interrupted(["bash", "-c", text], lambda running: os.killpg(running.pid, signal.SIGINT))
    assert code == 128 + signal.SIGINT
    said = re.search(r"^error: SIGINT at step (\d+) of 5000; the state is saved", rest, re.MULTILINE)
    assert said
    state = torch.load(tmp_path / "encoder/resume.pt", weights_only=True)["state"]
    assert state["step"] == int(said[1]) >= 3


@pytest.fixture
def nodes(command):
    """Two nodes that are this machine: nodes(*folders, **options of command) -> a run on both, one process each."""
    started = []

    def start(*folders, **options):
        place = f"127.0.0.1:{free_port()}"
        for rank in range(2):
            arguments = command(2, folder=folders[rank % len(folders)], **options)
            arguments += ["--nodes", "2", "--rendezvous", place, "--node-rank", str(rank)]
            started.append(
                subprocess.Popen(
                    arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
                )
            )
        return started

    yield start
    for each in started:
        each.kill()
        each.communicate()


def ends(running):
    """What nodes printed, together, and the errors of each."""
    found = [each.communicate() for each in running]
    lines = "".join(output for output, _ in found)
    errors = [re.findall("^error: (.*)", noise, re.MULTILINE) for _, noise in found]
    assert not any("Traceback (most recent" in noise for _, noise in found), found
    return lines, errors


def after_a_step(running, happens):
    """Call `happens` when either node prints its third step; only the one of the main process prints any."""
    with selectors.DefaultSelector() as waiting:
        for each in running:
            waiting.register(each.stdout, selectors.EVENT_READ)
        while True:
            [key, _], *_ = waiting.select()
            line = key.fileobj.readline()
            assert line, "a node ended too early"
            if line.startswith("step 3/"):
                return happens()


def curve(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_run(one, two):
    """Whether two finished runs of a command without dropout ended alike, up to the order of sums."""
    a, b = (load_file(folder / "encoder.safetensors") for folder in (one, two))
    torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)
    for line, other in zip(curve(one), curve(two), strict=True):
        for kind in {"train", "validation"} & line.keys():
            assert other[kind] == pytest.approx(line[kind], rel=1e-3), line["step"]


def test_two_nodes_end_as_one_process(command, nodes, tmp_path):
    alone = subprocess.run(
        command(1, folder="alone", objective="lsp"), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert alone.returncode == 0, alone.stderr
    running = nodes("shared", objective="lsp")
    _, errors = ends(running)
    assert ([each.returncode for each in running], errors) == ([0, 0], [[], []])
    same_run(tmp_path / "alone", tmp_path / "shared")
    record = json.loads((tmp_path / "shared/run.json").read_text())
    assert (record["nodes"], record["processes"]) == (2, 2)
    assert [(part["nodes"], part["processes"]) for part in record["history"]] == [(2, 2)]


@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_to_one_node_ends_both_after_the_same_step_and_one_process_resumes(
    command, nodes, tmp_path, asked
):
    running = nodes("broken", steps=40, objective="lsp")
    after_a_step(running, running[asked].terminate)
    _, errors = ends(running)
    assert [each.returncode for each in running] == [143, 143]
    [[said]] = [each for each in errors if each]
    step = int(re.match(r"SIGTERM at step (\d+) of 40; the state is saved", said)[1])
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["resume.pt"]
    assert torch.load(tmp_path / "broken/resume.pt", weights_only=True)["state"]["step"] == step >= 3
    for folder in ("broken", "whole"):
        done = subprocess.run(command(1, 40, folder, "lsp"), capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
    same_run(tmp_path / "whole", tmp_path / "broken")
    history = json.loads((tmp_path / "broken/run.json").read_text())["history"]
    assert [(part["nodes"], part["steps"]) for part in history] == [(2, step), (1, 40 - step)]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_node_that_dies_ends_the_other_with_one_line(nodes, tmp_path, killed):
    running = nodes("encoder", steps=5000)
    after_a_step(running, running[killed].kill)
    _, errors = ends(running)  # the pipes close when the dead node's ranks have ended too
    left = 1 - killed
    assert [running[killed].returncode, running[left].returncode] == [-signal.SIGKILL, 1]
    assert errors[killed] == []
    assert [error.partition(";")[0] for error in errors[left]] == [
        f"node {left + 1} of 2: another node has ended, its own output says why"
    ]


def test_a_resume_state_that_one_node_does_not_see_is_one_line(nodes, command, tmp_path):
    code, _ = interrupted(command(1, folder="first", steps=40), lambda running: running.terminate())
    assert code == 143
    running = nodes("first", "second", steps=40)
    _, errors = ends(running)
    assert [each.returncode for each in running] == [1, 1]
    said = [error for each in errors for error in each if "another node has ended" not in error]
    assert len(said) == 1
    assert re.search(
        "/resume.pt: not the same in all processes; .* use a filesystem that they share", said[0]
    )


SRUN = """#!{python}
import os, subprocess, sys
place = sys.argv.index({python!r})
print(*sys.argv[:place], flush=True)
program = sys.argv[place:]
step = {{"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost,other[1-3]"}}
tasks = [subprocess.Popen(program, env=os.environ | step | {{"SLURM_NODEID": str(rank)}}) for rank in range(2)]
sys.exit(max([task.wait() for task in tasks]))
"""


def test_in_a_slurm_job_the_command_starts_itself_on_each_node(command, tmp_path, monkeypatch):
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    job = free_port() - nodes_of_a_run.PORTS[0]  # whose port is free
    surroundings = {
        "SLURM_JOB_ID": str(job % len(nodes_of_a_run.PORTS)),
        "PATH": f"{srun.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [*command(2), "--nodes", "2"], capture_output=True, text=True, env=ENVIRONMENT | surroundings
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= {*first.split()}
    assert sum(line.startswith("step 12/12  loss") for line in rest) == 1
    record = json.loads((tmp_path / "encoder/run.json").read_text())
    assert (record["nodes"], record["processes"]) == (2, 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignalException("", signal.SIGINT), 130),
        (ChildFailedError("x", {0: ProcessFailure(0, 1, 1, "")}), 1),
        (ChildFailedError("x", {1: ProcessFailure(1, 1, -signal.SIGKILL, "")}), 137),
    ],
    ids=["signal", "error", "killed"],
)
def test_the_launcher_ends_with_the_code_of_its_processes(monkeypatch, error, code):
    def main(_arguments):
        raise error

    monkeypatch.setattr(torch.distributed.run, "main", main)
    with pytest.raises(SystemExit) as ended:
        distributed.launch(2, "cpu")
    assert ended.value.code == code
