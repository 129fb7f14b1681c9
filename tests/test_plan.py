"""The plan: its jobs are Snakemake's, its FLOPs torch's, finished jobs count as measured, and its sums add up."""

import dataclasses
import json
import multiprocessing
import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import calibrate
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from refers import config
from refers.config.read import read_files
from refers.errors import UserError
from refers.model.classifier import Classifier
from refers.model.encoders import build_encoder
from refers.planning import plan, step_cache
from refers.planning.costs import GPU_RULES, START, Cost, CostModel
from refers.planning.jobs import Job, finetune_key, jobs_of, pretrain_key, speed_key
from refers.planning.step_cache import StepCache
from refers.planning.step_costs import (
    ATTENTION,
    context_of,
    cost_of_finetuning,
    cost_of_pretraining,
    speed_of_steps,
)
from refers.provenance.run_record import digest
from refers.study import paths
from refers.study.check import check
from test_objectives import OBJECTIVES, make
from test_pretrained import SOURCES, written
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[1]
RESOURCES = {"pretrain": {"threads": 4, "mem_mb": 24000}, "finetune": {"threads": 4, "mem_mb": 8000}}


@pytest.fixture
def values(tmp_path):
    """The published study, with nothing there."""
    paths = {name: str(tmp_path / name) for name in ("results", "store", "interim", "benchmarks")}
    return config.merge(read_files([ROOT / "config/config.yaml"]), {"pathvars": paths})


def steps_of(values, **speed):
    """steps.json with one invented cost for every kind of step, and one speed where `speed` is given."""
    study, steps, speeds = check(values), {}, {}
    cost = {"flops": 3e12, "forward_flops": 1e12, "batch": 96, "parameters": 2e8, "encoder_parameters": 1e8}
    cost |= {"gpu_bytes": 10 * 2**30, "unit": "image", "feature_width": 1536}
    for method in study.methods:
        if not study.is_imported(method):
            steps[pretrain_key(study, method)] = cost
        for cell in study.cells:
            steps[finetune_key(study, method, *cell)] = cost
        if speed:
            speeds[speed_key(study, method, "bf16")] = {"device": "some GPU", "threads": 1, **speed}
    return {"steps": steps, "speeds": speeds}


# The target rules of the command below; and the graph of the rules themselves, which takes no time.
UNPLANNED = {"tables", "figures", "cells", "rule_graph"}


@pytest.fixture(scope="module", params=["", "demo", "external"])
def dry_run(request, snakemake, downloads, tmp_path_factory):
    """(study, jobs that Snakemake would run for every table, figure and cell of it), with all downloads and no result."""
    folder = tmp_path_factory.mktemp("planned")
    paths = {name: f"{folder}/{name}" for name in ("results", "store", "interim", "logs", "benchmarks")}
    files = [ROOT / f"config/{name}.yaml" for name in filter(None, ["config", request.param])]
    # the demo names no checkpoint and no BERT
    options = downloads[:2] if request.param == "demo" else downloads
    options = [*options, f"pathvars={{{', '.join(f'{name}: {path}' for name, path in paths.items())}}}"]
    options += ["--configfile", *files[1:]] if files[1:] else []
    found = snakemake("-n", "tables", "figures", "cells", "--cores", 8, "--verbose", *options)
    assert found.code == 0, found.output
    return check(config.merge(read_files(files), {"pathvars": paths})), jobs_in(found.output)


def jobs_in(output):
    """Jobs that a dry run prints: (rule, wildcards) -> the files of its input, output, log and benchmark."""
    jobs = {}
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        fields = dict(re.findall(r"^ {4}(\w+): (.*)", block, re.MULTILINE))
        wildcards = frozenset(re.findall(r"(\w+)=([^,]+)", fields.get("wildcards", "")))
        names = ("input", "output", "log", "benchmark")
        # a fine-tune that saves its classifier is a rule of its own only in the output that it names
        key = (rule.removesuffix("_kept"), wildcards)
        jobs[key] = {name: fields[name].split(", ") if name in fields else [] for name in names}
    return jobs


def key_of(job):
    return job.rule, frozenset((name, str(value)) for name, value in job.wildcards.items())


def test_the_jobs_and_what_they_need_are_snakemakes(dry_run):
    study, jobs = dry_run
    made_by = {path: key for key, job in jobs.items() for path in job["output"]}
    needed = {key: {made_by[path] for path in job["input"] if path in made_by} for key, job in jobs.items()}
    wanted = {
        key: {need for need in needs if need[0] not in UNPLANNED}
        for key, needs in needed.items()
        if key[0] not in UNPLANNED
    }
    planned = jobs_of(study)
    found = {key_of(job): {key_of(planned[need]) for need in job.needs} for job in planned.values()}
    assert found.keys() == wanted.keys()
    for key, needs in wanted.items():
        assert found[key] == needs, key
    assert len(found) == len(planned)


def test_targets_benchmarks_and_logs_are_snakemakes(dry_run):
    study, jobs = dry_run
    planned = {key_of(job): job for job in jobs_of(study).values()}
    for key, job in jobs.items():
        rule, wildcards = key[0], dict(key[1])
        if not job["log"]:
            assert rule in UNPLANNED, "a rule without a log only collects targets"
            continue
        assert str(study.resolve(paths.log(rule), **wildcards)) in job["log"]
        assert [str(study.resolve(paths.benchmark(rule), **wildcards))] == job["benchmark"]
        if rule not in UNPLANNED:
            assert planned[key].target == job["output"][0]
            assert planned[key].benchmark == job["benchmark"][0]


def test_an_imagenet_start_needs_the_imported_encoder(values):
    jobs = jobs_of(check(config.merge(values, {"pretrain": {"init": "imagenet"}})), ["refers"], ["nih/1"])
    imported = next(target for target, job in jobs.items() if job.rule == "import_encoder")
    assert imported in next(job for job in jobs.values() if job.rule == "pretrain").needs


def test_a_tier_holds_what_the_study_holds(values):
    """An overlay with fewer methods keeps the tiers of the published study."""
    fewer = check(config.merge(values, {"study": {"methods": ["imagenet"]}}))
    assert jobs_of(fewer, ["refers"], ["nih/1"]) == {}
    assert {job.wildcards.get("method") for job in jobs_of(fewer, None, ["nih/1"]).values()} == {
        None,
        "imagenet",
    }


def test_a_tier_of_an_unknown_method_is_one_line(values):
    values["plan"]["tiers"].append({"title": "x", "methods": ["reefers"]})
    with pytest.raises(UserError, match=r"^config\.plan\.tiers: no method 'reefers'"):
        check(values)


# ---- FLOPs and memory


@pytest.fixture(scope="module")
def elsewhere():
    """Call a function in another process: a backward pass of fake tensors starts threads that forbid later tests to fork."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda *call, **options: pool.submit(*call, **options).result()


def test_the_flops_of_a_transformer_are_those_of_its_formula(small_model, elsewhere):
    size, width, tokens, hidden, classes, batch = small_model, 16, 17, 32, 5, 6
    block = 2 * tokens * width * (4 * width + 2 * hidden) + 4 * tokens**2 * width
    embed = 2 * 16 * (64 * width + width * width)
    image = embed + size.depth * block + 2 * 2 * width * classes
    found = elsewhere(cost_of_finetuning, size, config.Training(batch_size=batch), classes)
    once = 2 * 16 * width * width  # positions, the same for every image
    assert found["forward_flops"] == batch * image + once
    # attention's backward pass computes its scores again; pixels have no gradient
    assert found["flops"] == pytest.approx(3 * batch * image, rel=0.05)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fake_tensors_cost_what_real_ones_cost(name, small_model, context, elsewhere):
    kind, options = OBJECTIVES[name]
    training = config.Training(batch_size=4)
    settings = config.Pretrain(objective=kind, model=small_model, settings=options, training=training)
    found = elsewhere(cost_of_pretraining, settings, context)
    objective = make(name, small_model, context).train()
    if hasattr(objective, "distort"):
        objective.distort = torch.clone
    by_study = objective.unit == "study"
    views = objective.settings.views if by_study else objective.crops
    images = torch.rand(4, views, 1, 32, 32)
    batch = {
        "images": images if by_study or views > 1 else images[:, 0],
        "tokens": torch.randint(1, 50, (4, 12)),
        "labels": torch.zeros(4, len(context.label_names)),
        "word": torch.zeros(4, dtype=torch.int64),
    }
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with counter:
        objective(batch)["loss"].backward()
    assert found["flops"] == pytest.approx(counter.get_total_flops(), rel=0.02)
    parameters = sum(tensor.numel() for tensor in objective.parameters())
    assert found["parameters"] == parameters
    assert found["gpu_bytes"] > 4 * 3 * found["encoder_parameters"]


def cost_of_own(source, *call):
    """cost_of_pretraining where an objective of one's own is called `own`."""
    sys.modules["refers.methods.own"] = written(source)
    return cost_of_pretraining(*call)


LOOP = """        turned = torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(images, turns)])
"""


@pytest.mark.parametrize("unit", SOURCES)
def test_an_objective_of_your_own_is_counted(unit, small_model, context, elsewhere):
    settings = config.Pretrain(objective="own", model=small_model, training=config.Training(batch_size=4))
    found = elsewhere(cost_of_own, SOURCES[unit], settings, context)
    assert (found["unit"], found["batch"]) == (unit, 4)
    assert found["flops"] > found["forward_flops"] > 0


def test_a_step_that_asks_for_contents_is_uncounted_and_spoils_no_other_count(
    small_model, context, elsewhere
):
    source = re.sub(r" +every = .*\n +turned = .*\n", LOOP, SOURCES["image"])
    assert LOOP in source
    training = config.Training(batch_size=4)
    before = elsewhere(cost_of_finetuning, small_model, training)
    settings = config.Pretrain(objective="own", model=small_model, training=training)
    found = elsewhere(cost_of_own, source, settings, context)
    assert found.keys() == {"uncounted"}
    assert "contents of a tensor" in found["uncounted"]
    assert elsewhere(cost_of_finetuning, small_model, training) == before


def test_a_residual_network_is_counted_too(elsewhere):
    sizes = config.ResNet(architecture="resnet18", image_size=64)
    found = elsewhere(cost_of_finetuning, sizes, config.Training(batch_size=2))
    model = Classifier(build_encoder(sizes), 14, 0.0)
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with counter:
        model(torch.rand(2, 1, 64, 64)).sum().backward()
    assert found["flops"] == counter.get_total_flops()


def test_memory_grows_with_the_batch_and_with_adams_moments(small_model, elsewhere):
    def peak(batch, name="sgd"):
        training = config.Training(batch_size=batch, optimiser=config.Optimiser(name=name))
        return elsewhere(cost_of_finetuning, small_model, training)["gpu_bytes"]

    assert peak(16) - peak(8) == pytest.approx(peak(8) - peak(4) + peak(12) - peak(8), rel=0.05)
    parameters = sum(
        tensor.numel() for tensor in Classifier(build_encoder(small_model), 14, 0.0).parameters()
    )
    assert peak(8, "adam") - peak(8) == 4 * parameters


PUBLISHED = check(read_files([ROOT / "config/config.yaml"]))


@pytest.fixture(scope="module")
def published_text(tmp_path_factory):
    """A random BERT-base and the label names, as every objective of the published study is told."""
    return context_of(tmp_path_factory.mktemp("bert"), PUBLISHED.config.text)


@pytest.mark.parametrize("name", [name for name in PUBLISHED.methods if not PUBLISHED.is_imported(name)])
def test_a_step_of_the_published_study_fits_into_22_gigabytes(name, published_text, elsewhere):
    context_and_workspaces = 1e9
    pretraining = PUBLISHED.pretrain_settings(name)
    context = dataclasses.replace(published_text, words=pretraining.words.count)
    found = [elsewhere(cost_of_pretraining, pretraining, context)]
    tuning = PUBLISHED.finetune_settings(name, "nih", 100)
    found.append(elsewhere(cost_of_finetuning, pretraining.model, tuning.training))
    for cost in found:
        assert 1e9 < cost["gpu_bytes"] + context_and_workspaces < 22e9


def test_real_steps_have_a_speed(small_model, elsewhere):
    found = elsewhere(
        speed_of_steps, small_model, config.Training(batch_size=4), torch.device("cpu"), steps=3, seconds=600
    )
    assert (found["steps"], found["batch"], found["kind"]) == (3, 4, "cpu")
    flops = elsewhere(cost_of_finetuning, small_model, config.Training(batch_size=4))["flops"]
    assert found["flops_per_second"] * found["seconds_per_step"] == pytest.approx(flops)


def test_a_kind_of_step_is_counted_once(tmp_path, monkeypatch):
    counted = []

    def costs(code, key="a"):
        monkeypatch.setattr(step_cache, "code_of", lambda script, methods: code)
        count = lambda: counted.append(key) or {"flops": len(counted)}  # noqa: E731
        return StepCache(tmp_path).get(key, count, "refers")["flops"]

    assert [costs("now"), costs("now"), costs("now", "b"), costs("now")] == [1, 1, 2, 1]
    assert costs("later") == 3, "other code counts anew"
    file = tmp_path / "a.json"
    for damaged in ("{", "[]", file.read_text().replace('"flops": 3', '"flops": 8')):
        file.write_text(damaged)
        assert costs("later") == len(counted), "a damaged file counts as none"
    assert len(counted) == 6


@pytest.mark.parametrize("device", ["cuda", "auto", "cpu"])
def test_a_gpu_is_taken_before_steps_are_counted(values, monkeypatch, device):
    """Counting opens a context on a GPU, if there is one: on that which is held, or on none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    here, told = torch.device("cpu" if device == "cpu" else "cuda"), []
    monkeypatch.setattr(calibrate, "choose_device", lambda name: told.append(name) or here)
    studies = [check(config.merge(values, {"device": each})) for each in (device, "cpu")]
    assert calibrate.device_of(studies) == here
    assert told == [device]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ("" if device == "cpu" else "0")


def test_processors_are_timed_where_a_gpu_cannot_be_used_and_the_reason_is_said(values, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    def choose(name):
        if name == "cuda":
            raise UserError("the driver is old")
        return torch.device(name)

    monkeypatch.setattr(calibrate, "choose_device", choose)
    assert calibrate.device_of([check(values)]) == torch.device("cpu")
    assert capsys.readouterr().out == "the driver is old; CPUs are timed\n"


# ---- costs


def model_of(values, **speed):
    return CostModel(check(values), steps_of(values, **speed), RESOURCES)


def job(values, rule, **about):
    """The job of a rule with these wildcards."""
    return next(
        job
        for job in jobs_of(check(values)).values()
        if job.rule == rule and about.items() <= job.wildcards.items()
    )


def test_a_fine_tune_trains_validates_and_predicts_once_a_seed(values):
    """3e12 FLOP a step of 96 images: 1/32 TFLOP an image, a third of it forward."""
    found = model_of(values).estimate(job(values, "finetune", method="refers", dataset="shenzhen", ratio=100))
    val, test, image, forward = 66, 132, 3e12 / 96, 1e12 / 96
    validations = 1 + 20  # of 334 epochs
    flops = 1000 * 128 * image + validations * val * forward + (val + test) * forward
    assert found.flops == pytest.approx(3 * flops)
    assert found.source == "assumed"
    assert found.seconds == pytest.approx(START + found.flops / (71e12 * 0.31))
    assert found.gpu_mib == 10 * 1024
    assert found.ram_mib == pytest.approx(8000e6 / 2**20)


def test_a_pilot_costs_its_candidates_and_two_validations_each(values):
    """7 candidates of 857 steps; 96 images a step, 2.1 % of 377,110 held out."""
    found = model_of(values).estimate(job(values, "pilot", method="model_genesis"))
    image, forward, held_out = 3e12 / 96, 1e12 / 96, round(0.021 * 377110)
    assert found.flops == pytest.approx(7 * (857 * 96 * image + 2 * held_out * forward))
    whole = model_of(values).estimate(job(values, "pretrain", method="model_genesis"))
    assert found.flops < 0.025 * whole.flops
    assert found.disk == 0
    # Adam keeps a second moment of 2e8 parameters that the configured SGD does not
    assert found.gpu_mib == pytest.approx(10 * 1024 + 4 * 2e8 / 2**20)


def test_a_pilot_counts_as_measured_with_the_settings_that_it_recorded(values):
    one = job(values, "pilot", method="c2l")
    measure(values, one)
    study = check(values)
    settings = {"pretrain": study.pretrain_settings("c2l"), "pilots": study.config.pilots}
    plain = {name: config.to_dict(each) for name, each in settings.items()}
    record = {"settings_sha256": digest(plain), "resumed_at": 0, "device": "some GPU"}
    record["chosen"] = {"name": "adam", "lr": 1e-3}
    path = Path(one.target)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    assert model_of(values).estimate(one).source == "measured"
    path.write_text(json.dumps(record | {"resumed_at": 1}))
    assert model_of(values).estimate(one).source == "assumed"
    # run.json of the pre-training has the optimiser that the pilot chose
    encoder = job(values, "pretrain", method="c2l")
    chosen = settings["pretrain"].at(config.Candidate(name="adam", lr=1e-3))
    measure(values, encoder, record_of(values, settings_sha256=digest(config.to_dict(chosen))))
    assert model_of(values).estimate(encoder).source == "measured"


def test_a_batch_is_no_larger_than_the_training_set(values):
    found = model_of(values).estimate(job(values, "finetune", method="refers", dataset="vinbigdata", ratio=1))
    assert found.flops < 3 * (1000 * 105 + 44 * 1500 + 4500) * 3e12 / 96


def test_a_gpu_that_was_timed_counts_and_a_cpu_does_not_stand_in_for_it(values):
    one = job(values, "pretrain", method="refers")
    timed = model_of(values, kind="cuda", flops_per_second=1e14)
    assert timed.estimate(one).source == "calibrated"
    assert timed.estimate(one).seconds == pytest.approx(START + timed.estimate(one).flops / 1e14)
    other = model_of(values, kind="cpu", flops_per_second=1e11)
    assert other.estimate(one).source == "assumed"
    assert other.seconds_on_this_machine(one, other.estimate(one)) == pytest.approx(
        START + other.estimate(one).flops / 1e11
    )
    on_cpu = config.merge(values, {"device": "cpu"})
    assert model_of(on_cpu, kind="cpu", flops_per_second=1e11).estimate(one).source == "calibrated"


def measure(values, job, record=None, lines=('{"s": 40.0, "max_rss": 50}', '{"s": 77.5, "max_rss": 321.5}')):
    """A benchmark file of a job, and a run.json beside its outputs."""
    path = Path(job.benchmark)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    if record is not None:
        beside = Path(job.target).with_name("run.json")
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(record))


def record_of(values, **other):
    """run.json of a whole pre-training of REFERS on one GPU."""
    settings = config.to_dict(check(values).pretrain_settings("refers"))
    record = {"settings_sha256": digest(settings), "resumed_at": 0, "processes": 1, "device": "some GPU"}
    return record | other


def test_the_last_run_of_a_job_counts_instead_of_an_estimate(values):
    one = job(values, "pretrain", method="refers")
    measure(values, one, record_of(values))
    found = model_of(values).estimate(one)
    assert (found.seconds, found.ram_mib, found.source) == (77.5, 321.5, "measured")
    assert found.gpu_mib == 10 * 1024, "what a benchmark file does not hold is still estimated"
    packing = job(values, "pack_images", source="nih")
    measure(values, packing)
    assert model_of(values).estimate(packing).source == "measured"


@pytest.mark.parametrize(
    "other",
    [{"settings_sha256": "of other settings"}, {"resumed_at": 5}, {"processes": 4}, {"device": "cpu"}, None],
    ids=["other settings", "resumed", "four GPUs", "processors", "no record"],
)
def test_a_run_that_is_not_the_planned_one_does_not_count(values, other):
    one = job(values, "pretrain", method="refers")
    measure(values, one, None if other is None else record_of(values, **other))
    assert model_of(values).estimate(one).source == "assumed"


@pytest.mark.parametrize("lines", [["not JSON"], ["{}"], []], ids=["damaged", "no seconds", "empty"])
def test_a_benchmark_file_without_a_time_does_not_count(values, lines):
    one = job(values, "pretrain", method="refers")
    measure(values, one, record_of(values), lines)
    assert model_of(values).estimate(one).source == "assumed"


@pytest.mark.parametrize(
    ("device", "timed", "ran", "source"),
    [
        ("cpu", "cpu", "cpu", "measured"),
        ("cpu", "cpu", "some GPU", "calibrated"),
        ("auto", "cpu", "cpu", "measured"),
        ("auto", "cuda", "cpu", "calibrated"),
        ("auto", "cuda", "some GPU", "measured"),
    ],
)
def test_a_run_counts_on_the_kind_of_device_that_is_planned(values, device, timed, ran, source):
    values = config.merge(values, {"device": device})
    one = job(values, "pretrain", method="refers")
    measure(values, one, record_of(values, device=ran))
    assert model_of(values, kind=timed, flops_per_second=1e12).estimate(one).source == source


def test_a_state_is_on_disk_twice_while_it_is_written(values):
    """2e8 parameters in all, 1e8 of them the encoder's, SGD: weights, momentum and the best weights, four bytes each."""
    pretraining, tuning = (
        job(values, "pretrain", method="refers"),
        job(values, "finetune", method="refers", dataset="shenzhen", ratio=100),
    )
    assert model_of(values).estimate(pretraining).transient == 2 * 4 * (2e8 + 2e8 + 1e8)
    assert model_of(values).estimate(tuning).transient == 2 * 4 * 3e8 + 2 * 4 * 1e8, "and two seeds are done"
    ahead = config.merge(values, {"pretrain": {"training": {"optimiser": {"lookahead_every": 5}}}})
    more = model_of(ahead).estimate(pretraining).transient - model_of(values).estimate(pretraining).transient
    assert more == 2 * 4 * 2e8


def test_what_is_indexed_here_counts_instead_of_the_published_total(values):
    assert model_of(values).images("nih") == 112120
    folder = Path(values["pathvars"]["store"]) / "nih"
    folder.mkdir(parents=True)
    (folder / "index.json").write_text('{"rows": 1000}')
    assert model_of(values).images("nih") == 1000
    store = model_of(values).estimate(job(values, "pack_images", source="nih"))
    assert store.disk == 1000 * 256**2


def test_a_source_of_unknown_size_is_one_line(values):
    del values["plan"]["images"]["covid"]
    with pytest.raises(UserError, match=r"plan\.images: no published number .* covid"):
        model_of(values).images("covid")


def test_steps_of_other_settings_are_refused(values):
    measured = steps_of(values) | {"steps": {}}
    with pytest.raises(UserError, match=r"steps\.json .* other settings"):
        CostModel(check(values), measured, {}).estimate(job(values, "pretrain", method="refers"))


# ---- the report


@pytest.fixture
def report(values):
    return plan.report({"study": check(values)}, steps_of(values), RESOURCES)


def test_tiers_add_up(values, report):
    tiers = {tier["title"]: tier for tier in report["tiers"]}
    everything, targets = tiers["everything"], report["targets"]
    training = sum(line["seconds"] for line in targets if line["rule"] in ("pilot", "pretrain", "finetune"))
    assert everything["jobs"] == len(targets) == len({line["target"] for line in targets})
    assert everything["training_hours"] == pytest.approx(training / 3600)
    assert everything["training_hours"] + everything["other_hours"] == pytest.approx(
        sum(line["seconds"] for line in targets) / 3600
    )
    assert everything["disk_bytes"] == sum(line["disk"] for line in targets)
    by_method = sum(row["encoder_hours"] + row["finetune_hours"] for row in report["methods"])
    imported = sum(line["seconds"] for line in targets if line["rule"] == "import_encoder")
    assert by_method * 3600 == pytest.approx(training + imported)
    assert all(tier["training_hours"] <= everything["training_hours"] for tier in tiers.values())


def test_released_weights_spare_pretraining_and_mimic(values):
    tier, changed = next(pair for pair in plan.tiers_of(check(values)) if "released" in pair[0].title)
    rules = Counter(job.rule for job in jobs_of(changed, tier.methods, tier.cells).values())
    assert rules == {
        "index_source": 2,
        "pack_images": 2,
        "split_dataset": 9,
        "check_split": 9,
        "label_subset": 9,
        "import_encoder": 1,
        "finetune": 9,
        "cell": 3,
    }


def test_more_gpus_are_faster_until_the_critical_path_is_left(report):
    rules = {line["target"]: line["rule"] for line in report["targets"]}
    gpu = sum(line["seconds"] / 3600 for line in report["targets"] if line["rule"] in GPU_RULES)
    critical = sum(step["hours"] for step in report["critical_path"])
    assert gpu / 16 < critical < gpu / 4
    assert report["schedules"] == [
        {"gpus": 1, "least_hours": pytest.approx(gpu), "gpu_share": pytest.approx(1)},
        {"gpus": 4, "least_hours": pytest.approx(gpu / 4), "gpu_share": pytest.approx(1)},
        {"gpus": 16, "least_hours": pytest.approx(critical), "gpu_share": pytest.approx(gpu / 16 / critical)},
    ]
    path = [rules[step["target"]] for step in report["critical_path"]]
    assert path[0] == "index_source"
    assert path.index("pretrain") < path.index("finetune")


@st.composite
def graphs(draw):
    """Up to a dozen jobs, each after those that it needs, and their costs."""
    jobs, costs = {}, {}
    for number in range(draw(st.integers(0, 12))):
        needs = draw(st.sets(st.sampled_from(sorted(jobs)), max_size=3)) if jobs else set()
        target = f"t{number:02d}"
        jobs[target] = Job("cell", target, "", tuple(sorted(needs)), {})
        costs[target] = Cost(draw(st.integers(0, 50)), "assumed")
    return jobs, costs


@given(graphs())
def test_no_chain_is_longer_than_the_critical_path(graph):
    jobs, costs = graph
    path = plan.critical_path(jobs, costs)
    assert all(before["target"] in jobs[after["target"]].needs for before, after in pairwise(path))

    def longest(target):
        return costs[target].seconds + max(map(longest, jobs[target].needs), default=0)

    total = sum(step["hours"] for step in path) * 3600
    assert total == pytest.approx(max(map(longest, jobs), default=0))


def test_the_text_names_every_tier_and_where_the_hours_are_from(report):
    text = plan.to_markdown(report)
    assert "NVIDIA GeForce RTX 3090, 22.0 TFLOP/s assumed (31% of 71)" in text
    for tier in report["tiers"]:
        assert f"| {tier['title']} " in text
    html = plan.to_html(report)
    assert html.count("<table>") == html.count("</table>") == 6


def test_what_one_target_needs_is_what_snakemake_would_run_for_it(snakemake, downloads, values, tmp_path):
    folders = [f"{name}: {tmp_path / name}" for name in ("results", "store", "interim", "benchmarks")]
    done = snakemake(
        "-n", "tables", "--verbose", "--cores", 8, *downloads, f"pathvars={{{', '.join(folders)}}}"
    )
    assert done.code == 0, done.output
    planned = Counter(map(key_of, jobs_of(check(values), targets=["tables"]).values()))
    assert planned == Counter(key for key in jobs_in(done.output) if key[0] not in UNPLANNED)
    # the figures draw some of the same runs
    assert planned.keys() < {
        key_of(each) for each in jobs_of(check(values), targets=["tables", "figures"]).values()
    }


def test_the_hours_of_the_tables_are_split_without_rest(report):
    tables = tier_of(report, "tables (the default target)")
    assert sum(part["share"] for part in report["parts"]) == pytest.approx(1)
    trained = [part for part in report["parts"] if part["part"] != "features and maps"]
    assert sum(part["hours"] for part in trained) == pytest.approx(tables["training_hours"])
    assert sum(part["fast_hours"] for part in trained) == pytest.approx(tables["fast_hours"])
    # 22 TFLOP/s are assumed, and others publish 41.8 for transformers and 29 for residual networks
    assert 22 / 41.8 < tables["fast_hours"] / tables["training_hours"] < 22 / 29


def test_a_smaller_study_saves_what_it_does_not_train(values, report):
    saved = {row["choice"]: row["hours"] for row in report["savings"]}
    seeds = next(hours for choice, hours in saved.items() if "seed" in choice)
    tuning = sum(part["hours"] for part in report["parts"] if part["part"].startswith("fine-tuning"))
    assert seeds == pytest.approx(tuning / 3, rel=0.01)
    pretraining = next(
        part["hours"] for part in report["parts"] if part["part"] == "pre-training, other rows"
    )
    assert saved["the rows of Table 1 alone"] > pretraining > 0
    main = next(part["hours"] for part in report["parts"] if part["part"] == "pre-training, rows of Table 1")
    of_rows = {"refers", "model_genesis", "c2l", "context_restoration", "transvw"}
    lines = [line for line in report["targets"] if line["rule"] == "pretrain"]
    assert main == pytest.approx(
        sum(line["seconds"] for line in lines if line["target"].split("/")[-2] in of_rows) / 3600
    )
    assert 0 < saved["one split of every dataset"] < tuning


def test_a_seed_less_saves_its_share_of_what_was_measured(values):
    study = check(values)
    for one in jobs_of(study).values():
        if one.rule == "finetune":
            measure(values, one)
            for seed in study.seeds:
                settings = config.to_dict(study.finetune_settings(*list(one.wildcards.values())[:3]))
                settings = config.merge(settings, {"training": {"seed": seed}})
                record = study.resolve(paths.RUN_RECORD, **one.wildcards, seed=seed)
                record.parent.mkdir(parents=True, exist_ok=True)
                record.write_text(json.dumps({"settings_sha256": digest(settings), "device": "some GPU"}))
    found = plan.report({"study": study}, steps_of(values), RESOURCES)
    tuned = [line for line in found["targets"] if line["rule"] == "finetune"]
    assert {line["source"] for line in tuned} == {"measured"}
    in_tables = {job.target for job in jobs_of(study, targets=["tables"]).values()}
    count = sum(line["target"] in in_tables for line in tuned)
    saved = next(row["hours"] for row in found["savings"] if "seed" in row["choice"])
    assert saved == pytest.approx(count * 77.5 / 3 / 3600)


def test_the_rates_of_one_gpu_are_not_those_of_another(values):
    other = config.merge(values, {"plan": {"device": "NVIDIA A100", "tflops": 312}})
    found = plan.report({"study": check(other)}, steps_of(other), RESOURCES)
    assert not found["published"]
    assert all(tier["fast_hours"] == tier["training_hours"] for tier in found["tiers"])


def test_measured_jobs_have_one_time(values):
    on_gpu = plan.report(
        {"study": check(values)}, steps_of(values, kind="cuda", flops_per_second=1e14), RESOURCES
    )
    assert all(line["fast"] is None for line in on_gpu["targets"] if line["rule"] in ("pretrain", "finetune"))
    assert all(tier["fast_hours"] == tier["training_hours"] for tier in on_gpu["tiers"])


def tier_of(found, title):
    return next(tier for tier in found["tiers"] if tier["title"] == title)


def test_an_uncounted_step_is_printed_as_such_and_in_no_sum(values, report):
    measured = steps_of(values)
    measured["steps"][pretrain_key(check(values), "c2l")] = {"uncounted": "it asks for contents"}
    found = plan.report({"study": check(values)}, measured, RESOURCES)
    line = next(
        line for line in found["targets"] if line["target"].endswith("encoders/c2l/encoder.safetensors")
    )
    assert (line["source"], line["flops"], line["disk"]) == ("uncounted", 0, 4 * 1e8)
    before, after = (tier_of(kind, "everything")["training_hours"] for kind in (report, found))
    targets = [line["target"].replace("encoders/c2l/encoder.safetensors", "pilots/c2l.json"), line["target"]]
    missing = [old["seconds"] for old in report["targets"] if old["target"] in targets]
    assert before - after == pytest.approx(sum(seconds - START for seconds in missing) / 3600)
    assert len(missing) == 2
    text = plan.to_markdown(found)
    assert f"Uncounted, so that their hours are missing from every sum: {', '.join(targets)};" in text
    assert re.search(r"\| c2l +\| uncounted +\|", text)
    assert "Uncounted" not in plan.to_markdown(report)


def test_an_uncounted_step_has_no_time_on_this_machine_either(values):
    measured = steps_of(values, kind="cpu", flops_per_second=1e11)
    measured["steps"][pretrain_key(check(values), "c2l")] = {"uncounted": "it asks for contents"}
    found, one = CostModel(check(values), measured, RESOURCES), job(values, "pretrain", method="c2l")
    assert found.seconds_on_this_machine(one, found.estimate(one)) is None
    settings = config.to_dict(check(values).pretrain_settings("c2l"))
    measure(values, one, {"settings_sha256": digest(settings), "resumed_at": 0})
    assert (found.estimate(one).source, found.estimate(one).seconds) == ("measured", 77.5)


def test_the_target_works_without_any_data(snakemake, tmp_path):
    """On the demo's models, whose steps are counted and timed for real."""
    paths = {name: f"{tmp_path}/{name}" for name in ("results", "store", "interim", "logs", "benchmarks")}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        yaml.safe_dump({"pathvars": paths, "data_root": f"{tmp_path}/nothing", "plan": {"steps": 3}})
    )
    done = snakemake(
        "plan", "--workflow-profile", "profiles/demo", "--configfile", "config/demo.yaml", overlay
    )
    assert done.code == 0, done.output
    assert "everything: " in done.output
    found = json.loads((tmp_path / "results/plan/plan.json").read_text())
    # five methods on ten splits of columns, two pre-trainings and a pilot
    assert tier_of(found, "everything")["training_sources"] == {"calibrated": 53}
    lines = (tmp_path / "results/plan/plan.csv").read_text().splitlines()
    assert len(lines) == len(found["targets"]) + 1
    again = snakemake(
        "-n", "plan", "--workflow-profile", "profiles/demo", "--configfile", "config/demo.yaml", overlay
    )
    assert "plan" in again.jobs, "it looks again every time"
    assert "calibrate" not in again.jobs, "but times nothing twice"
