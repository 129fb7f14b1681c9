"""FLOPs of a training step and this machine's FLOP/s: the two numbers that a plan divides.

In: configs of studies. Out: steps.json with FLOPs, parameters and GPU memory of every kind of step, counted on fake
tensors, and the FLOP/s of twenty real steps with every kind of encoder, on the device that the study asks for or, where
that is a GPU and there is none, on CPUs, labelled so. What an earlier calibration counted for the same kind of step is taken
from the cache. No data are needed.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from refers import config
from refers.arguments import Arguments, whole
from refers.config.read import read_files
from refers.config.study import Reports, TrainingPart
from refers.errors import UserError, run
from refers.files import write_json
from refers.planning.jobs import finetune_key, pretrain_key, speed_key
from refers.planning.step_cache import StepCache
from refers.planning.step_costs import context_of, cost_of_finetuning, cost_of_pretraining, speed_of_steps
from refers.study.check import check
from refers.study.study import Study
from refers.training.runtime import choose_device


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", required=True, help="JSON of the part of the study's config that training steps depend on"
    )
    parser.add_argument("--methods", nargs="+", required=True, help="methods of the study that a plan prices")
    parser.add_argument(
        "--steps", type=whole(0, 1000), required=True, help="real steps to time per encoder; 0 times none"
    )
    parser.add_argument("--demo", type=Path, nargs="+", default=[], help="config files of the demo, in order")
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder of what earlier calibrations counted"
    )
    parser.add_argument("--out", type=Path, required=True, help="steps.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    steps, speeds = {}, {}
    studies = [(Study(config.load_json(TrainingPart, args.config, "config")), args.methods)]
    if args.demo:
        demo = check(read_files(args.demo))
        studies.append((demo, demo.priced_methods))
    device = device_of([study for study, _ in studies])
    cache = StepCache(args.cache)
    for study, methods in studies:
        count_steps(study, methods, cache, steps)
        time_steps(study, methods, device, args.steps, speeds)
    write_json(args.out, {"torch": torch.__version__, "steps": steps, "speeds": speeds})


def device_of(studies: list[Study]) -> torch.device:
    """A GPU if a study asks for one and one can be used, else the CPU.

    It is chosen before steps are counted: fake tensors of a GPU open a context on a real one, which another job may use.
    """
    wanted = {study.config.device for study in studies} - {"cpu"}
    try:
        device = choose_device(max(wanted, default="cpu"))
    except UserError as error:
        print(f"{error}; CPUs are timed", flush=True)
        device = choose_device("cpu")
    if device.type == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return device


def count_steps(study: Study, methods: list[str], cache: StepCache, found: dict[str, dict]) -> None:
    """Add the costs of every kind of step of these methods that `found` lacks."""
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            if not study.is_imported(method) and (key := pretrain_key(study, method)) not in found:
                settings = study.pretrain_settings(method)
                count = partial(pretraining_step, settings, study.config.text, Path(folder))
                cost = cache.get(key, count, settings.objective)
                found[key] = {"method": method, **cost}
                if reason := cost.get("uncounted"):
                    print(f"{method}: a pre-training step is uncounted: {reason}", flush=True)
                else:
                    print(f"{method}: {cost['flops'] / 1e9:,.0f} GFLOP per pre-training step", flush=True)
            model = study.model_settings(method)
            for cell in study.cells:
                if (key := finetune_key(study, method, *cell)) not in found:
                    training = study.finetune_settings(method, *cell).training
                    cost = cache.get(key, partial(cost_of_finetuning, model, training))
                    found[key] = {"method": method, **cost}


def pretraining_step(settings: config.Pretrain, text: Reports, folder: Path) -> dict[str, Any]:
    """Cost of a pre-training step with a study's `text` settings; a random BERT is written to `folder` once."""
    return cost_of_pretraining(settings, context_of(folder, text, settings.words.count))


def time_steps(
    study: Study, methods: list[str], device: torch.device, steps: int, found: dict[str, dict]
) -> None:
    """Add the speed of every kind of encoder of these methods that `found` lacks; `steps` 0 times nothing."""
    device = choose_device("cpu") if study.config.device == "cpu" else device
    for method in methods if steps else []:
        for cell in study.cells:
            training = study.finetune_settings(method, *cell).training
            key = speed_key(study, method, training.precision)
            if key in found:
                continue
            model = study.model_settings(method)
            try:
                speed = speed_of_steps(model, training, device, steps)
            except UserError as error:  # a precision that this machine lacks
                print(f"{method}: not timed: {error}", flush=True)
                continue
            found[key] = {"method": method, **speed}
            print(
                f"{method}: {speed['flops_per_second'] / 1e9:,.0f} GFLOP/s over {speed['steps']} steps of"
                f" {speed['batch']} images, {speed['device']}, {speed['threads']} threads",
                flush=True,
            )


if __name__ == "__main__":
    run(main)
