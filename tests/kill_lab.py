"""A place to kill training jobs in: a copy of the pipeline with a Snakemake state of its own, on the demo's data.

Jobs run through Snakemake in fp32 for a few steps. A campaign first runs every job unbroken, then again and again,
killed each time, until each has died as often as asked; whenever one comes to its end in spite of that, its weights,
predictions and loss of every step must be those of the unbroken run. `python tests/kill_lab.py --help` runs one by hand.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
SCRIPTS = {"workflow/scripts/pretrain.py": "--method", "workflow/scripts/finetune.py": "--out"}
CONFIGS = ["config/demo.yaml", "config/demo_full.yaml", "kill.yaml"]
LONG = {
    "steps": 20,
    "warmup_steps": 2,
    "validate_every": 7,
    "checkpoint_every": 3,
    "log_every": 1,
    "batch_size": 8,
}
SHORT = {
    "steps": 5,
    "warmup_steps": 1,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "batch_size": 4,
}
TUNE = {
    "steps": 9,
    "warmup_steps": 2,
    "validate_every": 4,
    "checkpoint_every": 3,
    "log_every": 4,
    "batch_size": 16,
}
EVERY = 24  # one study in so many takes part
FINE_TUNES = [
    "imagenet/shenzhen/100pct",
    "imagenet/nih/100pct",
]  # one label; several, with a classifier that is kept


def pretrained_methods() -> list[str]:
    """Every method of the study that is pre-trained."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return [name for name in values["study"]["methods"] if "checkpoint" not in values["methods"][name]]


def overlay() -> dict:
    """Few steps in fp32, and results in a folder of their own."""
    methods = {}
    for name in pretrained_methods():
        steps = SHORT if "resnet" in name else LONG
        methods[name] = {"pretrain": {"rate": "fixed", "training": steps | {"precision": "fp32"}}}
        if "resnet" in name:  # the larger ones differ in size alone, and their states take seconds to write
            methods[name]["model"] = {"architecture": "resnet18"}
    methods["transvw"]["pretrain"]["words"] = {"count": 4, "instances": 20, "held_out": 4}
    methods["imagenet"] = {"finetune": {"training": TUNE | {"precision": "fp32"}}}
    folders = {name: f"build/kill/{name}" for name in ("results", "logs", "benchmarks")}
    return {"pathvars": folders, "methods": methods, "figures": {"figure3_nih": {"methods": ["imagenet"]}}}


def digests(folder: Path) -> dict[str, str]:
    """What a job left, by content: every tensor of its weights, its predictions, the loss of every step."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            for key, tensor in load_file(path).items():
                found[f"{name}:{key}"] = hashlib.sha256(tensor.tobytes()).hexdigest()
        elif path.suffix == ".parquet":
            rows = pd.util.hash_pandas_object(pd.read_parquet(path)).to_numpy()
            found[name] = hashlib.sha256(rows.tobytes()).hexdigest()
        elif path.name == "metrics.jsonl":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass
class Job:
    """One training job and what was done to it."""

    name: str
    wanted: int = 0
    lifetime: float = 0.0  # seconds of processor time, unbroken
    unbroken: dict[str, str] = field(default_factory=dict)
    kills: Counter = field(default_factory=Counter)
    ends: int = 0
    lost: list[str] = field(default_factory=list)
    slowest_exit: float = 0.0  # seconds from SIGTERM to the end

    @property
    def folder(self) -> str:
        return f"build/kill/results/{'runs' if '/' in self.name else 'encoders'}/{self.name}"

    @property
    def target(self) -> str:
        return f"{self.folder}/{'split0/seed2/predictions.parquet' if '/' in self.name else 'encoder.safetensors'}"

    @property
    def due(self) -> int:
        return self.wanted - self.kills.total() + self.kills["SIGTERM"]


def age(process: psutil.Process) -> float:
    """Processor time that a process has used, in seconds: how far it is, however busy the machine; infinite after its end."""
    try:
        used = process.cpu_times()
        return used.user + used.system
    except psutil.NoSuchProcess:
        return float("inf")


def is_recent(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime > since
    except FileNotFoundError:
        return False


class Lab:
    """The copy in `folder`; `demo` is the finished demo whose stores it reads."""

    def __init__(self, folder: Path, demo: Path, cores: int = 2) -> None:
        self.folder, self.cores = folder, cores
        for name in ("Snakefile", "rules", "workflow", "config", "profiles", "envs"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name)
        inner = folder / "build/demo"
        inner.mkdir(parents=True)
        for name in ("data", "store"):
            (inner / name).symlink_to(demo / name)
        shutil.copytree(demo / "interim", inner / "interim")
        tokens = inner / "interim/mimic/tokens.npz"
        with np.load(tokens) as saved:
            content = {name: value[::EVERY] if value.ndim else value for name, value in saved.items()}
        np.savez(tokens, **content)
        (folder / "kill.yaml").write_text(yaml.safe_dump(overlay()))

    def command(self, *arguments: str) -> list[str]:
        """A Snakemake command of this place, as a user would type it."""
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        configs = ["--workflow-profile", "profiles/demo", "--configfile", *CONFIGS]
        return [snakemake, *arguments, *configs, "--cores", str(self.cores), f"--resources=gpu={self.cores}"]

    def start(self, *arguments: str) -> subprocess.Popen:
        with open(self.folder / "snakemake.log", "a") as log:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        command = self.command(*arguments)
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **options)

    def training(self, running: subprocess.Popen) -> dict[str, psutil.Process]:
        """Training processes below a Snakemake, by job."""
        found = {}
        try:
            children = psutil.Process(running.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return found
        for child in children:
            try:
                line = child.cmdline()
            except psutil.Error:
                continue
            if len(line) > 1 and line[1] in SCRIPTS:
                value = line[line.index(SCRIPTS[line[1]]) + 1]
                found[value.removeprefix("build/kill/results/runs/").removesuffix("/split0")] = child
        return found

    def is_time(self, job: Job, kind: str) -> bool:
        """Whether a job is where a kill of this kind finds it: a write is at work or just over, the export has begun."""
        folder = self.folder / job.folder
        if kind == "write":
            recent = time.time() - 0.2
            return any(is_recent(path, recent) for path in folder.rglob("*resume.pt*"))
        last = folder / Path(job.target).relative_to(job.folder).parent / "metrics.jsonl"
        return kind != "export" or last.exists()


class Campaign:
    """Kills of a lab's jobs, at random moments out of `seed`; `reach` is the part of a job's life they fall into."""

    def __init__(self, lab: Lab, jobs: list[Job], seed: int = 0, reach: float = 1.0) -> None:
        self.lab, self.jobs = lab, {job.name: job for job in jobs}
        self.random, self.reach = random.Random(seed), reach

    def unbroken(self) -> None:
        """Every job once, undisturbed."""
        running = self.lab.start(*(job.target for job in self.jobs.values()))
        while running.poll() is None:
            for name, process in self.lab.training(running).items():
                if (now := age(process)) < float("inf"):
                    self.jobs[name].lifetime = max(self.jobs[name].lifetime, now)
            time.sleep(0.05)
        assert running.returncode == 0, (self.lab.folder / "snakemake.log").read_text()[-3000:]
        for job in self.jobs.values():
            job.unbroken = digests(self.lab.folder / job.folder)
            assert job.unbroken
            self.forget(job)

    def forget(self, job: Job) -> None:
        shutil.rmtree(self.lab.folder / job.folder)

    def moment(self, job: Job) -> tuple[str, float]:
        """How a job dies next, and at what age: at once, or with the first write or export from then on."""
        kinds = ["time"] * 12 + ["write"] * 5 + ["export"] * 2 + ["SIGTERM"] * 2
        kind = self.random.choice(kinds)
        # a job that goes on has less before it than one that starts, so an age near the end comes up seldom as it is
        reach = self.reach * (1 if kind in ("time", "SIGTERM") else 0.7)
        return kind, self.random.uniform(0, reach * job.lifetime)

    def round(self) -> None:
        """Snakemake once; each of its training jobs is killed, and Snakemake goes on with the others."""
        jobs = {job.name: job for job in self.jobs.values() if job.due > 0}
        running = self.lab.start(*(job.target for job in jobs.values()), "--keep-going")
        plans = {name: self.moment(job) for name, job in jobs.items()}
        done = set()
        while running.poll() is None:
            alive = self.lab.training(running)
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                for name in alive.keys() - done:
                    kind, after = plans[name]
                    if age(alive[name]) >= after and self.lab.is_time(jobs[name], kind):
                        done.add(name)
                        self.kill(jobs[name], alive[name], kind)
                time.sleep(0.004)
        for job in jobs.values():
            self.compare(job)

    def crash(self) -> None:
        """Snakemake with a few jobs; at one moment all processes are killed, its own among them, as by a power cut."""
        due = [job for job in self.jobs.values() if job.due > 0]
        jobs = {job.name: job for job in self.random.sample(due, min(self.lab.cores, len(due)))}
        after = {name: self.random.uniform(0, self.reach * job.lifetime) for name, job in jobs.items()}
        running = self.lab.start(*(job.target for job in jobs.values()))
        alive = {}
        while running.poll() is None and not any(age(alive[name]) > after[name] for name in alive):
            alive = self.lab.training(running)
            time.sleep(0.02)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            for name in alive:
                jobs[name].kills["everything"] += 1
            refused = self.lab.run(*(job.target for job in jobs.values()))
            assert "--unlock" in refused.stdout + refused.stderr
            unlocked = self.lab.run("--unlock")
            assert unlocked.returncode == 0, unlocked.stderr
        for job in jobs.values():
            self.compare(job)

    def kill(self, job: Job, process: psutil.Process, kind: str) -> None:
        began = time.monotonic()
        try:
            process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
            if kind == "SIGTERM":
                process.wait(timeout=30)
        except psutil.NoSuchProcess:
            return
        job.kills[kind] += 1
        if kind == "SIGTERM":
            job.slowest_exit = max(job.slowest_exit, time.monotonic() - began)

    def compare(self, job: Job) -> None:
        """A job that came to its end must have left what the unbroken one did; then it starts from nothing again."""
        folder = self.lab.folder / job.folder
        # Snakemake removes what a failed job has declared, so the target is there only where the job has ended well
        if not (self.lab.folder / job.target).exists() or any(folder.rglob("resume*.pt")):
            return
        job.ends += 1
        found = digests(folder)
        if found != job.unbroken:
            differing = [
                key for key in job.unbroken.keys() | found if job.unbroken.get(key) != found.get(key)
            ]
            job.lost.append(f"{len(differing)} differ, first {min(differing)}")
        self.forget(job)

    def run(self, minutes: float = float("inf")) -> None:
        """Kill until every job has died as often as wanted or the time is over, then let all of them end."""
        self.unbroken()
        number, until = 0, time.monotonic() + 60 * minutes
        while any(job.due > 0 for job in self.jobs.values()) and time.monotonic() < until:
            number += 1
            self.crash() if number % 4 == 2 else self.round()
            print(f"after round {number}:\n{self.table()}", flush=True)
        self.finish()

    def finish(self) -> None:
        """Let every job end."""
        done = self.lab.run(*(job.target for job in self.jobs.values()))
        assert done.returncode == 0, done.stderr[-3000:]
        for job in self.jobs.values():
            ends = job.ends
            self.compare(job)
            assert job.ends == ends + 1, f"{job.name} left a resume state behind"

    def table(self) -> str:
        kinds = ["time", "write", "export", "SIGTERM", "everything"]
        lines = [f"| job | kills | {' | '.join(kinds)} | ends equal | lost | slowest SIGTERM exit |"]
        lines.append("|:--" * (len(kinds) + 5) + "|")
        for job in self.jobs.values():
            counts = [str(job.kills[kind]) for kind in kinds]
            cells = [
                job.name,
                str(job.kills.total()),
                *counts,
                str(job.ends - len(job.lost)),
                str(len(job.lost)),
            ]
            lines.append(f"| {' | '.join(cells)} | {job.slowest_exit:.1f} s |")
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--demo", type=Path, default=ROOT / "build/demo")
    parser.add_argument("--kills", type=int, default=20, help="of each job")
    parser.add_argument("--jobs", nargs="+", default=[*pretrained_methods(), *FINE_TUNES])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no kill is begun")
    parser.add_argument("--cores", type=int, default=2, help="jobs at a time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    jobs = [Job(name, args.kills) for name in args.jobs]
    campaign = Campaign(Lab(args.folder, args.demo.resolve(), args.cores), jobs, args.seed)
    campaign.run(args.minutes)
    print(campaign.table())
    facts = {job.name: {"kills": dict(job.kills), "ends": job.ends, "lost": job.lost} for job in jobs}
    (args.folder / "kills.json").write_text(json.dumps(facts, indent=1))
    raise SystemExit(any(job.lost for job in jobs))


if __name__ == "__main__":
    main()
