"""`snakemake gpu_check`: does training run on this machine's GPU, how fast, in how much memory? Minutes, and no data.

Each check is a function of `refers.planning.gpu_checks` in a process of its own, so that one that crashes spoils no other.
The important ones come first; what the time does not reach is said to be out of time.
"""

import importlib.util
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refers import devices
from refers.errors import UserError
from refers.planning import gpu_checks
from refers.planning.gpu_checks import Place
from refers.planning.gpu_report import (
    FAILED,
    FINETUNING,
    LOCK,
    MEMORY,
    NO_APEX,
    NO_GPU,
    NO_TIME,
    OK,
    PRODUCTS,
    RESUME,
    STEP,
)
from refers.planning.isolation import Failed, OutOfTime, call
from refers.planning.jobs import finetune_key, pretrain_key
from refers.study.study import Study
from refers.training.runtime import HELD, hold_gpus

PREPARED = "random BERT"
STEPS = 20  # timed steps of a check at most
SHARE = 1 / 3  # of the whole time that one check may take
TIMED = 1 / 200  # of the whole time that the timed steps of one check are to take, within these seconds:
SHORTEST, LONGEST = 0.3, 4.0
SWITCHED = ("bf16", "fp16")  # precisions that every method is tried in
APEX = ("apex-o1", "apex-o2")


@dataclass(frozen=True)
class Check:
    """One row: what is checked, with which settings, and the call that checks it.

    key: of the step in a plan; cost: of the one as configured, whose FLOPs are the same, and whose memory too where it is
    `estimated`. absent: why it cannot be made here.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple = ()
    method: str = ""
    key: str = ""
    cost: str = ""
    precision: str = ""
    compile: bool = False
    estimated: bool = True
    absent: str = ""

    @property
    def about(self) -> dict[str, Any]:
        names = {"check": self.name, "method": self.method, "precision": self.precision}
        return names | {"compile": self.compile, "key": self.key}


@dataclass
class Budget:
    """Seconds that all checks may take together."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        return time.monotonic() - self.began

    @property
    def of_a_check(self) -> float:
        return min(self.seconds - self.used, SHARE * self.seconds)


def run(study: Study, costs: dict[str, dict], folder: Path) -> dict[str, Any]:
    """Run every check that the time allows, on a GPU that is held until this process ends; the content of gpu_check.json.

    Args:
        costs: of training steps by key, as in steps.json.
        folder: on whose disk models and resume states are written for the time being.

    Raises:
        UserError: the study wants a GPU, and none can be used.
    """
    if reason := devices.absent(study.config.device):
        raise UserError(reason)
    on_gpu = study.config.device != "cpu" and not devices.absent("cuda")
    name = _hold(on_gpu)
    budget = Budget(study.config.gpu_check.seconds)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".gpu_check.") as temporary:
        here = Path(temporary)
        place = Place(study.config.device, study.config.text, here / "bert", study.config.images.size, here)
        listed = [
            Check(PREPARED, gpu_checks.write_bert),
            Check(PRODUCTS, gpu_checks.matrix_rates, (precisions_of(study, on_gpu),)),
            Check(LOCK, gpu_checks.lock, (name,)),
            *checks_of(study, on_gpu),
        ]
        for number, check in enumerate(listed):
            rows.append(_row(check, replace(place, folder=here / str(number)), budget))
            print(f"{budget.used:6.1f} s  {_line(rows[-1])}", flush=True)
    about = {key: value for key, value in rows[1].items() if key not in {*listed[1].about, "status"}}
    for row, check in zip(rows, listed, strict=True):
        row |= _compared(row, check, costs, about.get("rates", {}))
    seconds = {"budget_seconds": budget.seconds, "seconds": round(budget.used, 1)}
    return {"kind": "cuda" if on_gpu else "cpu", **seconds, **about, "rows": rows[rows[0]["status"] == OK :]}


def _hold(on_gpu: bool) -> str:
    """Take a GPU, as a run does, or on a CPU a name that stands for one; the name of its lock."""
    if on_gpu:
        hold_gpus(1)
        return os.environ[HELD]
    devices.claim([name := f"none-{secrets.token_hex(8)}"])
    return name


def precisions_of(study: Study, on_gpu: bool) -> list[str]:
    """Precisions whose rate of matrix products is measured; a CPU has no fast ones but fp32."""
    if not on_gpu:
        return ["fp32"]
    found = {check.precision for check in checks_of(study, on_gpu) if not check.absent}
    return sorted({gpu_checks.kind_of_products(name) for name in found})


def checks_of(study: Study, on_gpu: bool) -> Iterator[Check]:
    """Checks in the order of their weight: a step of every method, what a run must survive, other precisions, compiled."""
    seconds = min(max(TIMED * study.config.gpu_check.seconds, SHORTEST), LONGEST)
    methods: dict[str, str] = {}
    for name in study.methods:
        if not study.is_imported(name):
            # of methods whose steps cost the same, the first
            methods.setdefault(pretrain_key(study, name), name)
    settings = {name: study.pretrain_settings(name) for name in methods.values()}

    def step(method: str, **changes: Any) -> Check:
        own = settings[method]
        changed = own.replace(training=own.training.replace(**changes))
        pair = {own.training.precision, changed.training.precision}
        return Check(
            STEP,
            gpu_checks.pretraining_step,
            (changed, STEPS, seconds),
            method,
            pretrain_key(study, method, changed.training.precision),
            pretrain_key(study, method),
            changed.training.precision,
            changed.training.compile,
            # bf16's and fp16's numbers are of one size
            len(pair) == 1 or pair == {*SWITCHED},
        )

    yield from map(step, settings)
    yield finetuning_of(study, seconds)
    for method, own in [*settings.items()][:1]:
        precision = own.training.precision
        yield Check(RESUME, gpu_checks.resume, (own,), method, precision=precision)
        yield Check(MEMORY, gpu_checks.out_of_memory, (own,), method, precision=precision)
    for method, own in settings.items():
        for precision in SWITCHED:
            if precision != own.training.precision:
                yield replace(step(method, precision=precision), absent="" if on_gpu else NO_GPU)
    for method in [*settings][:1]:
        missing = "" if importlib.util.find_spec("apex") else NO_APEX
        for precision in APEX:
            yield replace(step(method, precision=precision), absent=missing if on_gpu else NO_GPU)
    for method, own in settings.items():
        if not own.training.compile:
            # a CPU's compiler takes minutes, and says nothing about a GPU's
            yield replace(step(method, compile=True), absent="" if on_gpu else NO_GPU)


def finetuning_of(study: Study, seconds: float) -> Check:
    """A fine-tuning step of the first method on the first column."""
    method, cell = study.methods[0], study.cells[0]
    settings, model = study.finetune_settings(method, *cell), study.model_settings(method)
    asked = (model, settings, study.dataset(cell.dataset).classes, STEPS, seconds)
    key, training = finetune_key(study, method, *cell), settings.training
    about = (method, key, key, training.precision, training.compile)
    return Check(FINETUNING, gpu_checks.finetuning_step, asked, *about)


def _row(check: Check, place: Place, budget: Budget) -> dict[str, Any]:
    """What a check found, or why it found nothing."""
    if check.absent:
        return {**check.about, "status": check.absent}
    try:
        if (seconds := budget.of_a_check) <= 0:
            raise OutOfTime
        found = call(check.function, place, *check.arguments, seconds=seconds)
    except OutOfTime:
        return {**check.about, "status": NO_TIME}
    except Failed as error:
        return {**check.about, "status": f"{FAILED}: {error}"}
    return {**check.about, "status": OK, **found}


def _compared(
    row: dict[str, Any], check: Check, costs: dict[str, dict], rates: dict[str, float]
) -> dict[str, Any]:
    """What a timed step reached of the rate of matrix products, and the plan's estimate of its memory."""
    cost = costs.get(check.cost, {})
    if "seconds_per_step" not in row or "flops" not in cost:
        return {}
    found = {"flops_per_second": cost["flops"] / row["seconds_per_step"]}
    if rate := rates.get(gpu_checks.kind_of_products(check.precision)):
        found["share"] = found["flops_per_second"] / rate
    if check.estimated:
        found["estimated_bytes"] = cost["gpu_bytes"]
    if "distortion_seconds" in row:
        found["distortion_share"] = row["distortion_seconds"] / row["seconds_per_step"]
    return found


def _line(row: dict[str, Any]) -> str:
    """A row in the log."""
    about = [row["check"], row["method"], row["precision"], "compiled" if row["compile"] else ""]
    taken = f"{row['seconds_per_step']:.3f} s per step" if "seconds_per_step" in row else ""
    return "  ".join(filter(None, [*about, row["status"], taken]))
