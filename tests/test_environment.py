"""Packages: what is declared, locked and pinned for conda agrees with what is imported; the pins install and train; Apex."""

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from kill_lab import Job, Lab
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from refers import config
from refers.training import trainer
from refers.training.precision import Precision
from test_trainer import CPU, settings, toy_task

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOGGER = tomllib.loads((ROOT / "workflow/logger/pyproject.toml").read_text())


def canonical(name):
    """A package's name as the lock spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    """Names of the packages in a list of requirements."""
    return {canonical(re.match(r"[\w.-]+", each)[0]) for each in requirements}


def imported(*folders):
    """Packages outside the standard library that the Python files and rules below some folders import."""
    folders_of_own = ("workflow/scripts", "tests", "benchmarks")
    own = {path.stem for folder in folders_of_own for path in (ROOT / folder).iterdir()}
    # Apex is on no index: it is imported only where a setting asks for it. pydantic pins its core exactly.
    own |= {"refers", "snakemake_logger_plugin_refers", "apex", "pydantic_core"}
    modules = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*")):
        if path.suffix == ".py":
            nodes = list(ast.walk(ast.parse(path.read_text())))
        elif path.suffix == ".smk" or path.name == "Snakefile":
            lines = re.findall(r"^[ \t]*((?:import|from)[ \t]+\w.*)$", path.read_text(), re.MULTILINE)
            nodes = [node for line in lines for node in ast.parse(line).body]
        else:
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.split(".")[0])
    packages = importlib.metadata.packages_distributions()
    return {canonical(packages[each][0]) for each in modules - own - set(sys.stdlib_module_names)}


def test_the_declared_dependencies_are_the_imported_ones():
    groups = PROJECT["dependency-groups"]
    crate = declared(groups["crate"])
    found = imported("workflow/scripts", "rules")
    assert declared(PROJECT["project"]["dependencies"]) | crate == found
    assert "crate" in PROJECT["tool"]["uv"]["default-groups"], "make install brings it"
    # where the logger is loaded, Snakemake is
    assert declared(LOGGER["project"]["dependencies"]) == imported("workflow/logger") - {"snakemake"}


def test_the_development_tools_are_the_programs_and_what_tests_and_benchmarks_import():
    programs = {"pytest-xdist", "ruff", "snakefmt", "ty"}
    needed = [each for project in (PROJECT, LOGGER) for each in project["project"]["dependencies"]]
    beside = imported("tests", "benchmarks", "envs") - declared(needed)
    beside -= declared(PROJECT["dependency-groups"]["crate"])
    assert declared(PROJECT["dependency-groups"]["dev"]) == beside | programs


def test_every_locked_package_has_a_wheel_for_the_lowest_and_the_highest_python():
    """A source of Python alone will do; `immutables` has no wheel for 3.14 yet, so that one wants a C compiler (README.md)."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    bounds = re.fullmatch(r">=3\.(\d+), <3\.(\d+)", lock["requires-python"])
    lowest, highest = int(bounds[1]), int(bounds[2]) - 1
    assert (lowest, highest) == (11, 14)
    without = set()
    for minor in (lowest, highest):
        version = (3, minor)
        tags = {*cpython_tags(version), *compatible_tags(version, f"cp3{minor}")}
        for package in lock["package"]:
            python = {"python_full_version": f"3.{minor}.0"}
            markers = package.get("resolution-markers", [])
            if "registry" not in package["source"] or (
                markers and not any(Marker(each).evaluate(python) for each in markers)
            ):
                continue
            wheels = [wheel["url"].rsplit("/", 1)[1] for wheel in package.get("wheels", [])]
            if not any(tags & parse_wheel_filename(wheel)[3] for wheel in wheels):
                without.add((package["name"], minor))
    assert without == {("connection-pool", lowest), ("connection-pool", highest), ("immutables", 14)}


def test_the_image_has_the_packages_of_the_lock_and_a_python_that_it_covers():
    text = (ROOT / "envs/Dockerfile").read_text()
    base = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
    (minor,) = re.fullmatch(r"python:3\.(\d+)-slim-\w+", "".join(base)).groups()
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(f"3.{minor}")
    assert re.findall(r"^COPY (.*)$", text, re.MULTILINE) == [
        "pyproject.toml uv.lock /opt/refers/",
        "workflow/logger /opt/refers/workflow/logger",  # a package of the lock that is in the tree
    ]
    sync = re.search(r"uv sync (.*) \\$", text, re.MULTILINE)[1]
    assert sync == "--frozen --no-dev ${CUDA:+--group cuda$CUDA}", "the lock as it is, without tools"
    assert {"cuda12", "cuda13"} <= PROJECT["dependency-groups"].keys()
    (version,) = re.findall(r"uv==(\S+)", text)
    assert SpecifierSet(PROJECT["tool"]["uv"]["required-version"]).contains(version)
    sent = (ROOT / "envs/Dockerfile.dockerignore").read_text().splitlines()
    assert [line for line in sent if not line.startswith("#")] == [
        *("*", "!pyproject.toml", "!uv.lock", "!workflow/logger"),
    ]


UV = """#!/bin/bash
echo "uv $*" | tee -a log
"""
# makes a virtual environment with a pip that brings the uv above; MODE stands for what one that cannot do so does
PYTHON = """#!/bin/bash
echo "{name} $*" >> log
case "{mode}:$*" in
"no ensurepip:-c"*) exit 1 ;;
*:-c*) exec {python} -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2" ;;
"no venv:-m venv"*) mkdir -p .uv/bin; exit 1 ;;
*:"-m venv"*) mkdir -p .uv/bin; cp bin/{name} .uv/bin/python ;;
"no network:-m pip"*) touch .uv/partial; exit 1 ;;
*:"-m pip"*) cp bin/spare .uv/bin/uv ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A folder with the Makefile alone, and a PATH of few programs: machine(uv, {"python3": (version, mode)}) -> make install.

    Further arguments are make's; `nvidia` is what nvidia-smi does, where there is one.
    """
    folder = tmp_path / "a b'c (ü)"
    (folder / "bin").mkdir(parents=True)
    for name in ("bash", "cp", "mkdir", "rm", "tee", "touch"):
        (folder / "bin" / name).symlink_to(shutil.which(name))
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, folder)
    make = shutil.which("make")

    def run(uv, pythons, *arguments, nvidia=""):
        programs = {"uv" if uv else "spare": UV}
        if nvidia:
            programs["nvidia-smi"] = f"#!/bin/bash\n{nvidia}\n"
        for name, (version, mode) in pythons.items():
            programs[name] = PYTHON.format(name=name, mode=mode, version=version, python=sys.executable)
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        (folder / ".venv").mkdir(exist_ok=True)
        environment = {"PATH": f"{folder}/bin", "CUDA": "/opt/cuda"}
        done = subprocess.run(
            [make, "install", *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        log = folder / "log"
        return done, log.read_text().splitlines() if log.exists() else [], folder

    return run


SYNC = "uv sync --frozen --quiet"
FINE, OLD, NEW = ((3, 11, 2), ""), ((3, 10, 12), ""), ((3, 15, 0), "")


def test_make_takes_an_installed_uv(machine):
    done, log, folder = machine(True, {})
    assert done.returncode == 0, done.stderr
    assert log[-1] == SYNC
    assert not (folder / ".uv").exists()
    assert (folder / ".venv/.installed").exists()


@pytest.mark.parametrize(
    ("nvidia", "arguments", "group", "said"),
    [
        ("echo 535.104.05; echo 535.104.05", [], " --group cuda12", "535"),
        ("echo 580.65.06", [], "", ""),
        ("echo 580.65.06", ["CUDA=12"], " --group cuda12", ""),
        ("echo 535.104.05", ["CUDA=13"], " --group cuda13", ""),
        ("", ["CUDA=12"], " --group cuda12", ""),
        ("echo NVIDIA-SMI has failed because it could not talk to the driver.; exit 9", [], "", ""),
        ("echo No devices were found", [], "", ""),
    ],
)
def test_make_installs_the_torch_of_the_driver(machine, nvidia, arguments, group, said):
    done, log, _ = machine(True, {}, *arguments, nvidia=nvidia)
    assert done.returncode == 0, done.stderr
    assert log[-1] == SYNC + group
    lines = [line for line in done.stdout.splitlines() if line.startswith("driver")]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


def test_what_was_chosen_stays_installed_until_another_is_chosen(machine):
    syncs = []
    for arguments in (["CUDA=12"], [], ["CUDA=13"], [], ["CUDA=12"]):
        done, log, _ = machine(True, {}, *arguments)
        assert done.returncode == 0, done.stderr
        syncs.append([line for line in log if line.startswith(SYNC)])
    assert [len(each) for each in syncs] == [1, 1, 2, 2, 3]


def test_a_cuda_that_is_not_locked_is_one_line(machine):
    done, log, _ = machine(True, {}, "CUDA=11")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CUDA=11" in done.stderr
    assert not any(line.startswith(SYNC) for line in log)


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3": FINE}, "python3"),
        ({"python3": OLD, "python3.12": ((3, 12, 0), "")}, "python3.12"),
        ({"python3": NEW, "python3.14": ((3, 14, 0), "")}, "python3.14"),
    ],
)
def test_make_brings_uv_with_the_first_python_that_the_lock_covers(machine, pythons, chosen):
    done, log, folder = machine(False, pythons)
    assert done.returncode == 0, done.stderr
    assert f"{chosen} -m venv .uv" in log
    assert log[-1] == SYNC
    assert (folder / ".uv/bin/uv").exists()


@pytest.mark.parametrize(
    "pythons", [{}, {"python3": OLD}, {"python3": NEW}, {"python3": ((3, 11, 2), "no ensurepip")}]
)
def test_a_machine_without_a_python_that_will_do_says_in_one_line_what_to_install(machine, pythons):
    done, log, folder = machine(False, pythons)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert {"3.11", "3.14", "python3-venv", "uv"} <= set(re.findall(r"3\.\d+|python3-venv|uv", done.stderr))
    assert SYNC not in log
    assert not (folder / ".uv").exists()
    assert not (folder / ".venv/.installed").exists()


@pytest.mark.parametrize("mode", ["no venv", "no network"])
def test_a_bootstrap_that_fails_leaves_nothing(machine, mode):
    done, log, folder = machine(False, {"python3": ((3, 11, 2), mode)})
    assert done.returncode == 2
    assert SYNC not in log
    assert not (folder / ".uv").exists()
    assert not (folder / ".venv/.installed").exists()


def test_make_refuses_a_path_that_cannot_stand_in_the_environment_variable_path(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    done = subprocess.run(["make", "demo"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert '":"' in done.stderr


def pins(name):
    """Package -> its versions in an environment; two where the lock has one for each Python."""
    found = {}
    for line in yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"]:
        package, version = re.match(r"([\w.-]+)(?:\[[\w,]+\])?==(\S+)", line).groups()
        found.setdefault(package, set()).add(version)
    return found


SYSTEMS = [
    {"sys_platform": system, "platform_machine": machine, "python_full_version": python}
    for system in ("linux", "win32", "darwin", "emscripten")
    for machine in ("x86_64", "AMD64", "aarch64", "arm64", "ARM64", "amd64", "ppc64le", "win32")
    for python in ("3.11.0", "3.14.0")
]


def locked(group=""):
    """Package -> its versions in uv.lock, of all that the project and a group need on any system, development tools aside."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    extra = f"group-19-refers-reproduction-{group}" if group else ""

    def needed(need):
        marker = need.get("marker")
        return not marker or any(Marker(marker).evaluate(system | {"extra": extra}) for system in SYSTEMS)

    found, waiting, seen = {}, [("refers-reproduction", None, ())], set()
    while waiting:
        name, version, extras = waiting.pop()
        if (name, version, extras) in seen:
            continue
        seen.add((name, version, extras))
        for package in packages:
            if package["name"] != name or version not in (None, package["version"]):
                continue
            found.setdefault(name, set()).add(package["version"])
            needs = package.get("dependencies", [])
            for each in extras:
                needs = [*needs, *package.get("optional-dependencies", {}).get(each, [])]
            waiting += [
                (need["name"], need.get("version"), tuple(need.get("extra", ())))
                for need in needs
                if needed(need)
            ]
    del found["refers-reproduction"]
    return found


@pytest.mark.parametrize(("name", "group"), [("refers", ""), ("apex", ""), ("refers-cu12", "cuda12")])
def test_conda_brings_python_and_pip_and_the_pins_are_the_locks(name, group):
    assert pins(name) == locked(group)
    from_conda = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][:-1]
    builds_apex = ["git", "setuptools", "wheel"] if name == "apex" else []
    assert from_conda == ["python =3.11", "pip", *builds_apex]


def test_the_two_environments_differ_in_torch_and_its_cuda_alone():
    latest, older = pins("refers"), pins("refers-cu12")
    assert {name for name in latest.keys() & older.keys() if latest[name] != older[name]} == {
        "torch",
        "torchvision",
        "triton",
        "cuda-bindings",
    }
    others = latest.keys() ^ older.keys()
    assert all(re.match(r"nvidia-|cuda-", name) for name in others)
    assert {name for name in older if name.endswith("-cu12")} <= others
    assert older["nvidia-cuda-runtime-cu12"].pop().startswith("12.")


CONDA = """#!{python}
import json, sys
if sys.argv[1:] == ["--version"]:
    print("conda 25.1.0")
elif sys.argv[1] == "info":
    print(json.dumps({{"conda_prefix": {prefix!r}, "platform": "linux-64"}}))
elif sys.argv[1] == "config":
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
else:
    sys.exit("this conda only answers questions")
"""


@pytest.fixture
def conda(tmp_path):
    """A PATH with a conda on it that answers what Snakemake asks in a dry run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "conda").write_text(CONDA.format(python=sys.executable, prefix=str(tmp_path)))
    (folder / "conda").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_switching_conda_on_reruns_nothing(snakemake, demo, conda):
    found = snakemake(
        "-n", "tables", "--workflow-profile", "profiles/demo", "--sdm", "conda", environment=conda
    )
    assert found.code == 0, found.output
    assert "Nothing to be done" in found.output


def test_every_rule_has_the_pinned_environment(snakemake, conda):
    found = snakemake("--containerize", "--workflow-profile", "profiles/demo", environment=conda)
    assert found.code == 0, found.output
    assert set(re.findall(r"^#   source: (\S+)$", found.output, re.MULTILINE)) == {"envs/refers.yaml"}
    assert re.search(r"^COPY envs/refers.yaml /conda-envs/\w+/environment.yaml$", found.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("shown", "cuda", "chosen"),
    [("535.104.05", "auto", "refers-cu12"), ("580.65.06", "auto", "refers"), ("", "auto", "refers"), ("", 12, "refers-cu12"), ("535.104.05", 13, "refers")],
)  # fmt: skip
def test_gpu_jobs_have_the_torch_of_the_driver_in_their_environment(
    snakemake, conda, tmp_path, shown, cuda, chosen
):
    if shown:
        program = tmp_path / "bin/nvidia-smi"
        program.write_text(f"#!/bin/bash\necho {shown}\n")
        program.chmod(0o755)
    found = snakemake(
        "--containerize", "--sdm", "conda", "--workflow-profile", "profiles/demo", "--config", f"cuda={cuda}", environment=conda
    )  # fmt: skip
    assert found.code == 0, found.output
    sources = re.findall(r"^#   source: (\S+)$", found.output, re.MULTILINE)
    assert sources == sorted({f"envs/{chosen}.yaml", "envs/refers.yaml"})
    said = chosen == "refers-cu12" and cuda == "auto"
    assert found.output.count("is older than 580") == said


def test_gpu_jobs_have_apex_in_their_environment_where_a_setting_asks_for_it(snakemake, conda, tmp_path):
    overlay = tmp_path / "apex.yaml"
    overlay.write_text("pretrain: {training: {precision: apex-o2}}")
    found = snakemake(
        "--containerize",
        "--workflow-profile",
        "profiles/demo",
        "--configfile",
        "config/demo.yaml",
        overlay,
        environment=conda,
    )
    sources = re.findall(r"^#   source: (\S+)$", found.output, re.MULTILINE)
    assert sources == ["envs/apex.yaml", "envs/refers.yaml"]
    script = (ROOT / "envs/apex.post-deploy.sh").read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "NVIDIA/apex@" in script


AMP = """
import contextlib
import types

import torch

SCALE = 1024.0
calls = []
rounded = False

class Handle:
    def __init__(self):
        self.active = True

    def _deactivate(self):
        self.active = False
        calls.append(("deactivate",))

class State:
    pass

_amp_state = State()

def half(tensor):
    # Halves would not train on the CPU as in fp32: these are fp32 numbers, rounded to halves where a test asks for it
    return tensor.half().float() if rounded else tensor.clone()

def initialize(models, optimizers, opt_level, verbosity):
    calls.append(("initialize", opt_level))
    if opt_level == "O1":
        assert not getattr(getattr(_amp_state, "handle", None), "active", False), "functions are wrapped twice"
        _amp_state.handle = Handle()
    if opt_level == "O2":
        give_masters(models, optimizers)
    return models, optimizers

def give_masters(model, optimizer):
    step, pairs = optimizer.step, []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(half(parameter))

    def init(self):
        if not pairs:
            for group in self.param_groups:
                for place, weight in enumerate(group["params"]):
                    master = weight.detach().clone().requires_grad_()
                    group["params"][place] = master
                    pairs.append((weight, master))

    def new_step(self):
        step()
        with torch.no_grad():
            for weight, master in pairs:
                weight.copy_(half(master))
                master.grad = None

    def new_zero_grad(self):
        init(self)
        for weight, master in pairs:
            weight.grad = master.grad = None

    def unscale(self):
        init(self)
        for weight, master in pairs:
            if weight.grad is not None:
                gradient = weight.grad / SCALE
                master.grad = gradient if master.grad is None else master.grad + gradient
                weight.grad = None

    optimizer.step = types.MethodType(new_step, optimizer)
    optimizer.zero_grad = types.MethodType(new_zero_grad, optimizer)
    optimizer.unscale = types.MethodType(unscale, optimizer)

@contextlib.contextmanager
def scale_loss(loss, optimizers):
    calls.append(("scale_loss",))
    yield loss * SCALE
    if hasattr(optimizers, "unscale"):
        optimizers.unscale()
        return
    for group in optimizers.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.div_(SCALE)

@contextlib.contextmanager
def disable_casts():
    _amp_state.handle.active = False
    yield
    _amp_state.handle.active = True

def master_params(optimizer):
    calls.append(("master_params",))
    return (parameter for group in optimizer.param_groups for parameter in group["params"])

def state_dict():
    return {"loss_scaler0": {"loss_scale": SCALE, "unskipped": len(calls)}}

def load_state_dict(state):
    assert state.keys() == {"loss_scaler0"}
    calls.append(("load_state_dict", state["loss_scaler0"]["unskipped"]))
"""


@pytest.fixture
def amp(tmp_path, monkeypatch):
    """A module in Apex's place: what its manual documents, O2's masters, and optimisers with the methods that O2 gives them."""
    folder = tmp_path / "site/apex"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "amp.py").write_text(AMP)
    monkeypatch.syspath_prepend(folder.parent)
    for name in ("apex", "apex.amp"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("apex.amp")
    for name in ("apex", "apex.amp"):
        sys.modules.pop(name, None)


def weights_of(folder, spoil_at=None, **values):
    """Weights after the toy's training."""
    task = toy_task(spoil_at=spoil_at)
    trainer.fit(task, settings(**values), CPU, folder, "x")
    return task.keep.state_dict()


LOOKAHEAD = {"lookahead_every": 3, "lookahead_alpha": 0.5}


@pytest.mark.parametrize("level", ["o1", "o2"])
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.5}, LOOKAHEAD], ids=["plain", "clipped", "lookahead"]
)
def test_a_step_under_apex_is_the_step_without_it(amp, tmp_path, level, options):
    """The stand-in rounds nothing, so that what remains is the order of things: O2's masters are what is updated."""
    values = {"optimiser": config.Optimiser(lr=0.05, **options), "select": "last"}
    plain = weights_of(tmp_path / "plain", **values)
    ours = weights_of(tmp_path / "apex", precision=f"apex-{level}", **values)
    for name, tensor in plain.items():
        torch.testing.assert_close(ours[name], tensor, msg=name)
    assert amp.calls[0] == ("initialize", level.upper())
    assert amp.calls.count(("scale_loss",)) == 20
    assert amp.calls.count(("master_params",)) == (20 if "clip_norm" in options else 0)


def test_a_run_with_rounded_weights_goes_on_from_its_masters(amp, tmp_path):
    """The weights that the module computes with are too coarse to go on from."""
    amp.rounded = True
    values = {"precision": "apex-o2", "optimiser": config.Optimiser(lr=0.05, **LOOKAHEAD), "select": "last"}
    whole = weights_of(tmp_path / "whole", **values)
    with pytest.raises(Exception, match="loss is nan"):
        weights_of(tmp_path / "broken", spoil_at=12, **values)
    resumed = weights_of(tmp_path / "broken", **values)
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


def test_the_next_seed_takes_off_what_o1_wrapped_around_torch(amp, tmp_path):
    for seed in range(2):
        weights_of(tmp_path / str(seed), precision="apex-o1", seed=seed)
    marks = [call for call in amp.calls if call[0] in ("initialize", "deactivate")]
    assert marks == [("initialize", "O1"), ("deactivate",), ("initialize", "O1")]


def test_predictions_under_o1_see_no_casts_of_earlier_weights(amp, tmp_path):
    weights_of(tmp_path, precision="apex-o1")
    precision = Precision("apex-o1", CPU)
    with precision.autocast():
        assert amp._amp_state.handle.active
    with torch.no_grad(), precision.autocast():
        assert not amp._amp_state.handle.active


def test_apexs_loss_scale_is_part_of_the_resume_state(amp, tmp_path):
    task = toy_task(spoil_at=8)
    with pytest.raises(Exception, match="loss is nan"):
        trainer.fit(task, settings(precision="apex-o1"), CPU, tmp_path, "x")
    saved = torch.load(tmp_path / "resume.pt", weights_only=True)["state"]["precision"]
    amp.calls.clear()
    trainer.fit(toy_task(), settings(precision="apex-o1"), CPU, tmp_path, "x")
    assert amp.calls[:3] == [
        ("deactivate",),
        ("initialize", "O1"),
        ("load_state_dict", saved["loss_scaler0"]["unskipped"]),
    ]


@pytest.mark.install
def test_the_pins_install_into_an_empty_environment_and_train(demo, tmp_path, capsys):
    """`pip` part of envs/refers.yaml into a new venv, as conda calls pip; then the GPU stages of a small study with its Python.

    pip resolves what the packages ask for: pins that contradict each other fail, and a package beside the pins is one
    that the lock lacks.
    """
    began = time.monotonic()
    requirements = tmp_path / "requirements.txt"
    lines = yaml.safe_load((ROOT / "envs/refers.yaml").read_text())["dependencies"][-1]["pip"]
    requirements.write_text("\n".join(lines))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-r", requirements], check=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True)
    found = {canonical(each["name"]): each["version"] for each in json.loads(listed.stdout)}
    pinned = pins("refers")
    extra = {name: version for name, version in found.items() if version not in pinned.get(name, ())}
    assert extra.keys() <= {"pip"}, "packages beside the pins"
    installed = time.monotonic()
    lab = tmp_path / "lab"
    lab.mkdir()
    path = {"PATH": f"{venv}/bin:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
    assert shutil.which("python", path=path["PATH"]) == str(venv / "bin/python")
    jobs = [Job("refers"), Job("imagenet/shenzhen/100pct")]
    done = Lab(lab, demo).run(*(job.target for job in jobs), env=os.environ | path)
    assert done.returncode == 0, done.stderr[-3000:]
    with capsys.disabled():
        print(f"\ninstalled in {installed - began:.0f} s, trained in {time.monotonic() - installed:.0f} s")
    for job in jobs:
        record = json.loads(next((lab / job.folder).rglob("run.json")).read_text())
        assert record["versions"]["torch"].split("+")[0] == next(iter(pins("refers")["torch"]))
