"""Packages: conda's pins are the lock's, they install from the index alone and train, and Apex fits where it is asked for."""

import importlib
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
from refers import config, engine
from test_engine import CPU, settings, toy_task

ROOT = Path(__file__).parents[1]


def pins(name):
    """Package -> its versions in an environment; two where the lock has one for each Python."""
    found = {}
    for line in yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"]:
        package, version = re.match(r"([\w.-]+)(?:\[[\w,]+\])?==(\S+)", line).groups()
        found.setdefault(package, set()).add(version)
    return found


def locked():
    """Package -> its versions in uv.lock, of everything that the project needs without its development tools."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    found, waiting = {}, [("refers-reproduction", ())]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for package in packages:
            if package["name"] != name:
                continue
            found.setdefault(name, set()).add(package["version"])
            needs = package.get("dependencies", [])
            for extra in extras:
                needs = [*needs, *package.get("optional-dependencies", {}).get(extra, [])]
            waiting += [(need["name"], tuple(need.get("extra", ()))) for need in needs]
    del found["refers-reproduction"]
    return found


@pytest.mark.parametrize("name", ["refers", "apex"])
def test_conda_brings_python_and_pip_and_the_pins_are_the_locks(name):
    assert pins(name) == locked()
    from_conda = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][:-1]
    builds_apex = ["git", "setuptools", "wheel"] if name == "apex" else []
    assert from_conda == ["python =3.11", "pip", *builds_apex]


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


def test_a_container_holds_the_environment_of_every_rule(snakemake, conda):
    found = snakemake("--containerize", "--workflow-profile", "profiles/demo", environment=conda)
    assert found.code == 0, found.output
    assert set(re.findall(r"^#   source: (\S+)$", found.output, re.MULTILINE)) == {"envs/refers.yaml"}
    assert re.search(r"^COPY envs/refers.yaml /conda-envs/\w+/environment.yaml$", found.output, re.MULTILINE)


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

SCALE = 1024.0
calls = []

def initialize(models, optimizers, opt_level, verbosity):
    calls.append(("initialize", opt_level))
    return models, optimizers

@contextlib.contextmanager
def scale_loss(loss, optimizers):
    calls.append(("scale_loss",))
    yield loss * SCALE
    for parameter in master_params(optimizers):
        if parameter.grad is not None:
            parameter.grad.div_(SCALE)

def master_params(optimizer):
    calls.append(("master_params",))
    return (parameter for group in optimizer.param_groups for parameter in group["params"])

def state_dict():
    return {"loss_scaler0": {"loss_scale": SCALE, "unskipped": len(calls)}}

def load_state_dict(state):
    calls.append(("load_state_dict", state["loss_scaler0"]["unskipped"]))
"""


@pytest.fixture
def amp(tmp_path, monkeypatch):
    """A module in Apex's place with the five functions that its manual documents."""
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


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_apex_is_called_as_its_manual_says(amp, tmp_path, clip_norm):
    values = {"optimiser": config.Optimiser(lr=0.05, clip_norm=clip_norm)}
    plain, ours = toy_task(), toy_task()
    engine.fit(plain, settings(**values), CPU, tmp_path / "plain", "x")
    engine.fit(ours, settings(precision="apex-o2", **values), CPU, tmp_path / "apex", "x")
    for name, tensor in plain.keep.state_dict().items():
        torch.testing.assert_close(ours.keep.state_dict()[name], tensor, msg=name)
    assert amp.calls[0] == ("initialize", "O2")
    assert amp.calls.count(("scale_loss",)) == 20
    # once a step in scale_loss, and once more where the gradient's norm is clipped
    assert amp.calls.count(("master_params",)) == (40 if clip_norm else 20)


def test_apexs_loss_scale_is_part_of_the_resume_state(amp, tmp_path):
    task = toy_task(spoil_at=8)
    with pytest.raises(Exception, match="loss is nan"):
        engine.fit(task, settings(precision="apex-o1"), CPU, tmp_path, "x")
    saved = torch.load(tmp_path / "resume.pt", weights_only=True)["state"]["precision"]
    amp.calls.clear()
    engine.fit(toy_task(), settings(precision="apex-o1"), CPU, tmp_path, "x")
    assert amp.calls[:2] == [("initialize", "O1"), ("load_state_dict", saved["loss_scaler0"]["unskipped"])]


@pytest.mark.install
def test_the_pins_install_into_an_empty_environment_and_train(demo, tmp_path, capsys):
    """`pip` part of envs/refers.yaml into a new venv; then the GPU stages of a small study with its Python."""
    uv, began = shutil.which("uv") or ROOT / ".uv/bin/uv", time.monotonic()
    requirements = tmp_path / "requirements.txt"
    lines = yaml.safe_load((ROOT / "envs/refers.yaml").read_text())["dependencies"][-1]["pip"]
    requirements.write_text("\n".join(lines))
    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run(
        [uv, "pip", "install", "--no-cache", "--quiet", "--no-deps", "--python", venv, "-r", requirements],
        check=True,
    )
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
