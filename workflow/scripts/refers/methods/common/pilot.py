"""Learning-rate pilot: short pre-trainings of one method that differ in optimiser and peak rate alone.

All candidates start from the same weights and see the same batches in the same order. They are judged on the held-out loss
of pre-training; test data take no part.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from refers import config
from refers.errors import Diverged, UserError
from refers.files import read_object, write_json
from refers.provenance.run_files import read_metrics, read_pilot
from refers.provenance.run_record import digest
from refers.training.resume import clear_resume
from refers.training.task import Task
from refers.training.trainer import fit

RESULT = "candidate.json"
# Held-out losses that differ by less than this share of the lowest one are tied.
TIED = 1e-3


def try_candidates(
    settings: config.Pretrain,
    pilots: config.Pilots,
    build: Callable[[config.Pretrain], Task],
    device: torch.device,
    folder: Path,
    fingerprint: str,
) -> list[dict[str, Any]]:
    """Train every candidate: its optimiser and rate, `loss` on held-out items, `trivial`, and the step where it `diverged`.

    `folder` keeps the results of finished candidates and the resume state of the one that trains, for a rerun with the
    same `fingerprint`; the caller removes it when the results are on disk.

    Raises:
        UserError: as `fit`, but for a loss or weight that becomes non-finite: that candidate has diverged.
        Preempted: as `fit`.
    """
    short = settings.replace(training=pilots.shortened(settings.training))
    found = []
    for candidate in pilots.candidates(settings.training.optimiser):
        place = folder / f"{candidate.name}-{candidate.lr:g}"
        print(f"candidate {candidate.name} {candidate.lr:g}", flush=True)
        own = short.at(candidate)
        found.append(_try_one(own, build, device, place, digest([fingerprint, config.to_dict(own)])))
    return found


def _try_one(
    settings: config.Pretrain, build: Callable, device: torch.device, folder: Path, fingerprint: str
) -> dict[str, Any]:
    """Train one candidate, or return what an earlier process found of it."""
    path, started = folder / RESULT, time.monotonic()
    if (
        path.exists()
        and (saved := read_object(path, "pilot", ("fingerprint", "found")))["fingerprint"] == fingerprint
    ):
        print("finished by an earlier process", flush=True)
        return saved["found"] | {"earlier": True}
    loss, trivial, diverged, earlier = None, None, None, False
    try:
        facts = fit(build(settings), settings.training, device, folder, fingerprint, started)
        earlier = bool(facts["resumed_at"])
        held_out = _last_validation(folder / "metrics.jsonl")
        trivial, loss = held_out.get("trivial"), held_out["loss"]
    except Diverged as error:
        print(error, flush=True)
        diverged = error.step
    if loss is not None and not math.isfinite(loss):
        loss, diverged = None, settings.training.steps
    optimiser = settings.training.optimiser
    found = {
        "name": optimiser.name,
        "lr": optimiser.lr,
        "loss": loss,
        "trivial": trivial,
        "diverged": diverged,
    }
    write_json(path, {"fingerprint": fingerprint, "found": found})
    clear_resume(folder)
    return found | {"earlier": earlier}


def _last_validation(metrics: Path) -> dict[str, float]:
    return [record["validation"] for record in read_metrics(metrics) if "validation" in record][-1]


def choice_of(path: Path, method: str, settings: config.Pretrain, inputs: dict[str, str]) -> config.Candidate:
    """What the pilot of a method chose for its pre-training.

    Args:
        path: METHOD.json of pilot.py.
        method: whose pre-training it is.
        settings: of the pre-training, before the choice.
        inputs: SHA-256 of what it reads, as `Inputs.digests` gives them.

    Raises:
        UserError: the file is damaged, or the pilot was of another method, of other settings or of other data.
    """
    pilot = read_pilot(path)
    again = "delete it and rerun pilot.py"
    if pilot["method"] != method:
        raise UserError(f"{path}: the pilot of {pilot['method']}, not of {method}; {again}")
    # A tuple of the settings is a list in JSON.
    if digest(pilot["settings"].get("pretrain")) != digest(config.to_dict(settings)):
        raise UserError(f"{path}: a pilot with other settings of {method}; {again}")
    if odd := [name for name, found in inputs.items() if pilot["inputs"].get(name, found) != found]:
        raise UserError(f"{path}: a pilot with another {odd[0]}; {again}")
    return config.load(config.Candidate, pilot["chosen"], str(path))


def choose(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The choice among candidates: `chosen`, `ties` with it, and whether it is at the `edge` of its optimiser's rates.

    The lowest loss counts; of those that tie with it the first in the list, so that the configured one comes first.

    Raises:
        UserError: every candidate diverged.
    """
    finite = [each for each in tried if each["loss"] is not None]
    if not finite:
        raise UserError("every candidate diverged; add lower rates to pilots.grid")
    best = min(each["loss"] for each in finite)
    near = [each for each in finite if each["loss"] <= best + TIED * abs(best)]
    chosen, *ties = ({"name": each["name"], "lr": each["lr"]} for each in near)
    rates = [each["lr"] for each in tried if each["name"] == chosen["name"]]
    return {"chosen": chosen, "ties": ties, "edge": chosen["lr"] in (min(rates), max(rates))}
