"""Controls: shuffled reports and labels, other pre-training seeds, borrowed encoders, and the linear probe."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import auc_of, table_of
from refers import config
from refers.config.read import read_files
from refers.config.study import StudyConfig
from refers.data.mimic_studies import MimicStudies
from refers.data.splits import shuffle_labels
from refers.errors import UserError
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import read_seeds
from refers.evaluation.probe import fit
from refers.planning.jobs import jobs_of
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.study.study import Study
from refers.training.finetuning import LabelledImages, predict
from test_finetuning import finetune_command, labelled, world  # noqa: F401

ROOT = Path(__file__).parents[1]
PUBLISHED = read_files([ROOT / "config/config.yaml"])
PROBE = config.Probe(labels="own")


def study_of(changes):
    return check(config.merge(PUBLISHED, changes))


# ---- shuffled reports


def test_shuffled_reports_are_those_of_another_study_of_the_split_and_all_else_stays(mimic):
    own, shuffled = MimicStudies(*mimic), MimicStudies(*mimic, reports="shuffled")
    for name, members in own.splits.items():
        assert (shuffled.splits[name] == members).all()
        given, taken = ([tuple(row) for row in data.tokens[members]] for data in (own, shuffled))
        assert len(set(given)) == len(given)
        assert sorted(given) == sorted(taken), "each report once, and within the split"
        donors = members[[given.index(row) for row in taken]]
        assert (donors != members).all(), "no study keeps its own"
        for part in ("swapped", "lengths"):
            assert (getattr(shuffled, part)[members] == getattr(own, part)[donors]).all()
    for part in ("labels", "rows", "first", "count"):
        np.testing.assert_array_equal(getattr(shuffled, part), getattr(own, part))
    again = MimicStudies(*mimic, reports="shuffled")
    assert (again.tokens == shuffled.tokens).all(), "one fixed draw"


def test_one_study_has_no_other_report(mimic, tmp_path):
    frame = pd.read_parquet(mimic[0])
    # the reports of all held-out studies but one are gone
    saved = dict(np.load(mimic[2]))
    kept = np.arange(20) < 15
    saved |= {name: saved[name][kept] for name in ("study_id", "tokens", "swapped", "lengths")}
    np.savez(tmp_path / "tokens.npz", **saved)
    frame.to_parquet(tmp_path / "index.parquet")
    files = [tmp_path / "index.parquet", mimic[1], tmp_path / "tokens.npz"]
    with pytest.raises(
        UserError, match=r"reports: shuffled needs two val studies at least, found one; use own"
    ):
        MimicStudies(*files, reports="shuffled")
    assert len(MimicStudies(*files).splits["val"]) == 1


# ---- shuffled labels


def test_shuffled_labels_are_the_same_rows_of_labels_over_other_images():
    rows = labelled(np.random.default_rng(0), 200, ["A", "B"])
    rows["label:B"] = rows["label:A"]
    found = shuffle_labels(rows, 0)
    assert (found["label:A"] == found["label:B"]).all(), "the labels of an image stay together"
    assert sorted(found["label:A"]) == sorted(rows["label:A"])
    assert 0.3 < (found["label:A"] == rows["label:A"]).mean() < 0.7
    assert (found["image_id"] == rows["image_id"]).all()
    assert not found.equals(shuffle_labels(rows, 1))
    pd.testing.assert_frame_equal(found, shuffle_labels(rows, 0))


def test_shuffled_labels_leave_a_fine_tune_nothing_to_learn_and_the_test_set_as_it_is(world):  # noqa: F811
    """The label is the brightness of the image, which the same fine-tune learns with its own labels."""
    losses = {}
    for labels in ("own", "shuffled"):
        command = finetune_command(world, world / labels)
        place = command.index("--config") + 1
        command[place] = json.dumps(json.loads(command[place]) | {"labels": labels})
        subprocess.run(command, check=True, capture_output=True)
        files = sorted((world / labels).glob("seed*/predictions.parquet"))
        lines = [json.loads(line) for line in files[0].with_name("metrics.jsonl").read_text().splitlines()]
        losses[labels] = [line["validation"]["loss"] for line in lines if "validation" in line]
        record = json.loads(files[0].with_name("run.json").read_text())
        assert record["settings"]["labels"] == labels
    both = [read_seeds(sorted((world / name).glob("seed*/predictions.parquet"))) for name in losses]
    for part in ("test", "val"):
        one, other = (getattr(each, part) for each in both)
        assert (one.labels == other.labels).all(), "labels are shuffled for learning, not in what is scored"
    assert min(losses["own"]) < 0.3
    assert min(losses["shuffled"]) > 0.5


# ---- the linear probe


def planted(rng, images, features, classes, signal):
    x = rng.standard_normal((images, features)).astype(np.float32) * 3 + 5
    scores = (x[:, :classes] - 5) * signal + rng.logistic(size=(images, classes)) * 0.5
    return x, (scores > 0).astype(float)


def test_a_probe_finds_a_planted_direction_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    x, y = planted(rng, 1100, 12, 2, np.array([1.0, 0.0]))
    probe = fit(x[:500], y[:500], x[500:700], y[500:700], PROBE)
    found = auc(y[700:], probe.scores(x[700:]))
    assert found[0] > 0.95
    assert 0.4 < found[1] < 0.6
    assert all(about["converged"] for about in probe.fits)


def test_a_probe_is_scikits_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    for images, features in ((300, 8), (40, 90)):
        x, y = planted(rng, images, features, 1, 0.4)
        probe = fit(x, y, x, y, PROBE.replace(strengths=[0.1], iterations=2000))
        scaled = (x - x.mean(0)) / x.std(0)
        model = LogisticRegression(C=1 / (0.1 * images), tol=1e-9, max_iter=10_000).fit(scaled, y[:, 0])
        np.testing.assert_allclose(probe.scores(x)[:, 0], model.predict_proba(scaled)[:, 1], atol=2e-4)


def test_validation_chooses_the_penalty_and_ties_go_to_its_loss():
    rng = np.random.default_rng(0)
    x, y = planted(rng, 60, 80, 1, 0.3)
    val_x, val_y = planted(rng, 4000, 80, 1, 0.3)
    settings_of = lambda *strengths: PROBE.replace(strengths=list(strengths))  # noqa: E731
    grid = PROBE.strengths
    alone = {s: fit(x, y, val_x, val_y, settings_of(s)).scores(val_x) for s in grid}
    aucs = {s: auc(val_y, scores)[0] for s, scores in alone.items()}
    chosen = fit(x, y, val_x, val_y, PROBE).strengths[0]
    assert aucs[chosen] == pytest.approx(max(aucs.values()), abs=1e-3)
    # a perfect validation set for every strength: its loss decides
    good_x = np.float32([[20.0] * 80, [-20.0] * 80])
    easy_x, easy_y = np.repeat(good_x, 20, 0), np.repeat([[1.0], [0.0]], 20, 0)
    assert fit(easy_x, easy_y, easy_x, easy_y, PROBE).strengths == [min(grid)]
    # without both labels there is no AUC, so the loss decides too
    same = np.ones_like(val_y)
    by_loss = {s: -np.log(scores).mean() for s, scores in alone.items()}
    assert fit(x, y, val_x, same, PROBE).strengths == [min(by_loss, key=by_loss.__getitem__)]


def test_a_class_with_one_label_gets_a_constant_and_spoils_no_other():
    rng = np.random.default_rng(0)
    x, y = planted(rng, 200, 6, 2, 1.0)
    y[:, 1] = 0
    x[:, 5] = 7
    probe = fit(x, y, x, y, PROBE)
    assert probe.strengths[1] is None
    assert len(set(probe.scores(x)[:, 1])) == 1
    assert np.isfinite(probe.scores(x)).all()
    alone = fit(x, y[:, :1], x, y[:, :1], PROBE)
    np.testing.assert_allclose(probe.scores(x)[:, 0], alone.scores(x)[:, 0], atol=1e-4)
    nothing = fit(x, y[:, 1:], x, y[:, 1:], PROBE)
    assert (nothing.strengths, nothing.fits) == ([None], [])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.integers(3, 30), st.integers(1, 40))
def test_scores_are_probabilities_and_the_same_every_time(seed, images, features):
    rng = np.random.default_rng(seed)
    x, y = planted(rng, images, features, 2, 1.0)
    y[0], y[1] = 0, 1
    found = [fit(x, y, x, y, PROBE).scores(x) for _ in range(2)]
    assert ((found[0] >= 0) & (found[0] <= 1)).all()
    np.testing.assert_array_equal(*found)


def script(name, *arguments):
    command = [sys.executable, ROOT / f"workflow/scripts/{name}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


# of the pictures behind the store, as its index has them
SIZES = pd.DataFrame({"width": [36] * 90, "height": np.arange(90) % 20 + 25})


@pytest.fixture
def features(world, request):  # noqa: F811
    """Features of every image, by the evaluation that a test asks for."""
    settings_of = json.dumps({"batch_size": 7, "evaluation": getattr(request, "param", "centre")})
    SIZES.to_parquet(world / "index.parquet")
    files = ["--encoder", world / "encoder.safetensors", "--store", world / "images.npy"]
    files += ["--index", world / "index.parquet"]
    out = ["--out", world / "f.npy", "--record", world / "f.json"]
    done = script("extract_features", "--config", settings_of, *files, "--device", "cpu", *out)
    assert done.returncode == 0, done.stderr
    return world / "f.npy"


def probe(world, features, out, call=script, **values):  # noqa: F811
    files = ["--features", features, "--split", world / "split.parquet", "--subset", world / "subset.csv"]
    return call("probe", "--config", json.dumps({"labels": "own"} | values), *files, "--out", world / out)


@pytest.mark.parametrize("features", ["centre", "whole", "short_side"], indirect=True)
def test_features_are_what_the_classifier_of_a_fine_tune_reads(world, features, request):  # noqa: F811
    import torch
    from refers.model.classifier import Classifier
    from refers.model.encoders import load_encoder

    encoder, _ = load_encoder(world / "encoder.safetensors")
    model = Classifier(encoder, 1, 0.0)
    store = np.load(world / "images.npy")
    frame = pd.read_parquet(world / "split.parquet").assign(**SIZES)
    data = LabelledImages(store, frame, ["Bright"])
    how = config.Augment(evaluation=request.node.callspec.params["features"])
    tuning = config.Finetune(training=config.Training(augment=how))
    logits = predict(model, data, tuning, 32, torch.device("cpu"))
    found = torch.from_numpy(np.load(features))
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (90, encoder.feature_width))
    torch.testing.assert_close(model.head(found), logits, atol=1e-5, rtol=1e-4)
    record = json.loads((world / "f.json").read_text())
    assert record["settings"] == config.to_dict(config.Features(batch_size=7, evaluation=how.evaluation))


def test_a_probe_writes_what_a_fine_tune_writes_and_needs_no_torch(world, features, call, tmp_path):  # noqa: F811
    done = probe(world, features, "probe", call)
    assert done.returncode == 0, done.stderr
    found = read_seeds([world / "probe/predictions.parquet"])
    assert (len(found.val.ids), len(found.test.ids), found.classes) == (15, 25, ["Bright"])
    assert auc(found.test.labels, found.test.scores[0])[0] > 0.95
    record = json.loads((world / "probe/run.json").read_text())
    assert record["images"] == {"val": 15, "test": 25, "train": 20}
    assert record["strengths"]["Bright"] in PROBE.strengths
    assert record["inputs"].keys() == {"features", "split", "subset", "encoder"}
    done = probe(world, features, "shuffled", labels="shuffled")
    assert done.returncode == 0, done.stderr
    other = read_seeds([world / "shuffled/predictions.parquet"])
    assert (other.val.labels == found.val.labels).all()
    assert auc(other.test.labels, other.test.scores[0])[0] < 0.95


def test_the_test_set_chooses_nothing(world, features):  # noqa: F811
    frame = pd.read_parquet(world / "split.parquet")
    assert probe(world, features, "a").returncode == 0
    test = frame["split"] == "test"
    frame.loc[test, "label:Bright"] = 1 - frame.loc[test, "label:Bright"]
    frame.to_parquet(world / "split.parquet")
    assert probe(world, features, "b").returncode == 0
    one, other = (pd.read_parquet(world / name / "predictions.parquet") for name in "ab")
    assert (one["score:Bright"] == other["score:Bright"]).all()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None], ids=["empty", "truncated", "other"])
def test_a_file_that_holds_no_features_is_one_line(world, tmp_path, content):  # noqa: F811
    path = tmp_path / "f.npy"
    if content is None:
        np.save(path, np.zeros((90, 3)))
    else:
        path.write_bytes(content)
    done = probe(world, path, "out")
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {path}: .*; delete it and rerun extract_features\.py\n", done.stderr)


# ---- rows: like, encoder_of, pretrain.seeds


def test_a_second_pretraining_seed_is_a_row_like_any_other():
    study = study_of({"methods": {"refers": {"pretrain": {"seeds": [3, 5]}}}})
    assert study.methods[:3] == ["refers", "refers_seed5", "model_genesis"]
    assert list(study.config.methods)[:2] == ["refers", "refers_seed5"]
    first, second = (study.pretrain_settings(name) for name in ("refers", "refers_seed5"))
    assert (first.training.seed, second.training.seed) == (3, 5)
    assert first.replace(training=second.training) == second
    assert study.method("refers_seed5").title == "Our REFERS (pre-training seed 5)"
    assert study.config.tables["controls"].rows[:3] == ["refers", "refers_seed5", "shuffled_reports"]
    assert "refers_seed5" not in study.config.tables["table1"].rows
    assert "seeds" not in config.to_dict(first), "jobs are told one seed"
    assert check(config.to_dict(study.config)).config == study.config, "expanded once"


def test_seeds_of_all_methods_are_listed_among_the_controls():
    study = study_of({"pretrain": {"seeds": [0, 1]}, "study": {"methods": ["c2l", "imagenet", "random"]}})
    assert study.methods == ["c2l", "c2l_seed1", "imagenet", "random"]
    rows = study.config.tables["controls"].rows
    assert rows[:2] == ["refers", "refers_seed1"]
    assert {"c2l", "c2l_seed1", "shuffled_reports_seed1"} <= set(rows)
    assert not {"imagenet_seed1", "random_seed1", "shuffled_labels_seed1"} & study.config.methods.keys()


def test_a_control_follows_what_an_overlay_makes_of_its_method():
    changes = {"pretrain": {"training": {"steps": 77, "warmup_steps": 7}, "settings": {"views": 2}}}
    changes |= {"model": {"depth": 3}, "finetune": {"training": {"steps": 9999}}}
    study = study_of({"methods": {"refers": changes}})
    own, control = (study.pretrain_settings(name) for name in ("refers", "shuffled_reports"))
    assert (own.reports, control.reports) == ("own", "shuffled")
    assert own.replace(reports="shuffled") == control
    untrained = study.model_settings("random")
    assert untrained == own.model
    assert untrained.depth == 3
    assert study.is_imported("random")
    tuned = [study.finetune_settings(name, "nih", 1) for name in ("refers", "random", "shuffled_labels")]
    assert tuned[0] == tuned[1] == tuned[2].replace(labels="own")
    assert tuned[2].labels == study.probe_settings("shuffled_labels", "nih", 1).labels == "shuffled"


def test_a_control_differs_in_nothing_that_its_method_takes_from_elsewhere():
    study = study_of({"methods": {"refers": {"pretrain": {"seeds": [5, 6]}}}})
    assert study.pretrain_settings("shuffled_reports").training.seed == 5
    assert "shuffled_reports_seed6" not in study.config.methods
    own = {
        "refers": {"pretrain": {"seeds": [5]}},
        "shuffled_reports": {"pretrain": {"training": {"seed": 9}}},
    }
    assert study_of({"methods": own}).pretrain_settings("shuffled_reports").training.seed == 9
    study = study_of({"methods": {"refers": {"pretrain": {"init": "imagenet"}}}})
    assert study.model_settings("random") == study.pretrain_settings("refers").model
    assert study.model_settings("random").activation == "gelu"
    # the input of a checkpoint is that of its weights
    imported = {
        "checkpoint": "m.safetensors",
        "pretrain": None,
        "model": {"input": {"mean": [0.5], "std": [0.5]}},
    }
    study = study_of({"methods": {"refers": imported}})
    assert study.model_settings("random").input is None


def test_every_row_and_cell_of_a_table_comes_once():
    seeds = {"refers": {"pretrain": {"seeds": [0, 1]}}, "lsp_resnet18": {"pretrain": {"seeds": [0, 1]}}}
    mine = {"title": "Mine", "own": True, "pretrain": {"objective": "lsp", "seeds": [0, 1]}}
    study = study_of({"methods": seeds | {"mine": mine}, "tables": {"table2": {"pretrain_seeds": True}}})
    specs = Specs(Availability(study, AssumeAvailable()))
    for name in study.config.tables:
        rows, cells = specs.study.table_rows(name), specs.table_cells(name)
        assert len(rows) == len(set(rows)), name
        assert len(cells) == len(set(cells)), name
    assert {"mine", "mine_seed1"} <= set(specs.study.table_rows("controls"))


def test_a_plan_prices_what_a_study_takes_from_methods_outside_it():
    borrowed = {"title": "B", "encoder_of": "lsp_transformer"}
    changes = {"methods": {"b": borrowed, "refers": {"pretrain": {"init": "imagenet"}}}}
    changes |= {"study": {"methods": ["refers", "b"]}, "plan": {"tiers": [{"title": "t", "add": ["c2l"]}]}}
    assert set(study_of(changes).priced_methods) == {"refers", "imagenet", "lsp_transformer", "b", "c2l"}


def test_resnets_do_not_start_from_imagenet():
    resnet = {"architecture": "resnet18"}
    values = config.merge(PUBLISHED, {"study": {"methods": ["imagenet", "x"]}})
    start = {"title": "ImageNet", "model": resnet, "checkpoint": "r.pth"}
    own = {"title": "X", "model": resnet, "pretrain": {"objective": "lsp", "init": "imagenet"}}
    values["methods"] = PUBLISHED["methods"] | {"imagenet": start, "x": own}
    study = Study(config.load(StudyConfig, values))
    with pytest.raises(UserError, match=r"methods\.x\.pretrain\.init: .*set init: scratch"):
        study.pretrain_settings("x")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"a": {"encoder_of": "referz"}}, "methods.a.encoder_of: no method with an encoder of its own 'referz' (did"),
        ({"a": {"encoder_of": "shuffled_labels"}}, "methods.a.encoder_of: no method with an encoder of its own"),
        ({"a": {"encoder_of": "refers", "checkpoint": "random"}}, "takes another method's encoder as it is; leave out"),
        ({"a": {"encoder_of": "refers", "model": {"depth": 2}}}, "leave out model"),
        ({"a": {"like": "referz"}}, "config.methods.a.like: no method 'referz' (did you mean 'refers'?)"),
        ({"a": {"like": "random"}}, "config.methods.a.like: random has no settings of its own"),
        ({"imagenet": {"pretrain": {"seeds": [0, 1]}}}, "methods.imagenet: checkpoint takes the place of the pre-training"),
        ({"refers": {"pretrain": {"seeds": [1, 1]}}}, "lists a seed twice; keep one of the two"),
        ({"refers": {"pretrain": {"seeds": []}}}, "refers.pretrain.seeds: expected at least 1 entry"),
        ({"refers": {"pretrain": {"seeds": [0, -1]}}}, "seeds.1: must be at least 0"),
        ({"refers": {"pretrain": {"seeds": [0, 1], "training": {"seed": 4}}}}, "training.seed is set too"),
        (
            {"refers": {"pretrain": {"seeds": [0, 1]}}, "refers_seed1": {"checkpoint": "random"}},
            "config.methods.refers.pretrain.seeds: the row refers_seed1 is there already; rename that entry",
        ),
        ({"refers": {"pretrain": {"reports": "shufled"}}}, "'shufled' must be one of own, shuffled"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_one_line(methods, message):
    for entry in methods.values():
        entry.setdefault("title", "x")
    with pytest.raises(UserError) as error:
        study_of({"methods": methods})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_probe_has_no_tests_and_its_table_no_printed_numbers():
    with pytest.raises(UserError, match=r"tables\.probe: a probe runs once, so there are no t-tests"):
        study_of({"tables": {"probe": {"reference": "refers", "baseline": "best"}}})
    specs = Specs(Availability(study_of({}), AssumeAvailable()))
    assert specs.table_tests("probe") == specs.table_tests("controls") == []
    flags = {name: specs.table(name)["comparable"] for name in ("table1", "probe", "controls")}
    assert flags == {"table1": True, "probe": False, "controls": False}
    cells = [auc_of("refers", "nih/1", [0.8]), auc_of("c2l", "nih/1", [0.7])]
    spec = {"name": "probe", "protocol": "probe", "comparable": False, "reference": None, "baseline": None}
    found = table_of(cells, **spec)
    assert {entry.verdict for entry in found.entries.values()} <= {"not reported", "not run"}
    assert any(
        "of a linear probe, deterministic; the paper's numbers are of no such table" in note
        for note in found.notes
    )


# ---- rules


def test_a_borrowed_encoder_is_not_pretrained_again(snakemake, downloads):
    study = "study={methods: [refers, shuffled_labels]}"
    found = snakemake("-n", "cells", "encoders", "--cores", 8, "--quiet=rules", *downloads, study)
    assert found.code == 0, found.output
    assert found.jobs["pretrain"] == 1
    assert "import_encoder" not in found.jobs
    assert found.jobs["finetune"] + found.jobs["finetune_kept"] == 2 * (6 + 3 * 3)
    own = snakemake("-n", "results/encoders/shuffled_labels/encoder.safetensors", "--cores", 8, *downloads)
    assert own.code == 1
    assert "no such target" in own.output


def test_a_borrowed_encoder_has_the_pilot_and_the_record_of_its_owner(snakemake, downloads, tmp_path):
    overlay = {"methods": {"borrowed": {"title": "B", "own": True, "encoder_of": "lsp_transformer"}}}
    overlay["study"] = {"methods": ["borrowed"]}
    overlay["tables"] = {
        "mine": {"title": "T", "rows": ["borrowed", "refers"], "reference": "borrowed", "baseline": "refers"}
    }
    (tmp_path / "o.yaml").write_text(yaml.safe_dump(overlay))
    config_file = ("--configfile", tmp_path / "o.yaml")
    found = snakemake("-n", "tables", "pilots", "--cores", 8, "--quiet=rules", *config_file, *downloads)
    assert found.code == 0, found.output
    assert (found.jobs["pilot"], found.jobs["pretrain"]) == (1, 1)


def test_features_are_extracted_once_for_every_column_and_both_covid_datasets(snakemake, downloads):
    study = "study={methods: [refers, shuffled_labels]}"
    targets = [
        f"results/probes/{method}/{cell}/auc.json"
        for method in ("refers", "shuffled_labels")
        for cell in ("nih/1pct", "nih/100pct", "covid_t1/100pct", "covid_t2/100pct")
    ]
    found = snakemake("-n", *targets, "--cores", 8, "--quiet=rules", *downloads, study)
    assert found.code == 0, found.output
    wanted = {"pretrain": 1, "extract_features": 2, "probe": 2 * (2 + 2 * 3), "probe_cell": 8}
    assert {rule: found.jobs[rule] for rule in wanted} == wanted
    assert "finetune" not in found.jobs


def test_the_plan_prices_features_probes_and_the_controls_that_are_off():
    study = study_of({})
    jobs = jobs_of(study)
    probes = [job for job in jobs.values() if job.rule == "probe_cell"]
    assert len(probes) == 9 * len({job.wildcards["method"] for job in probes})
    assert {"random", "lsp_resnet50"} <= {job.wildcards["method"] for job in probes}
    tier = next(tier for tier in study.config.plan.tiers if tier.add)
    assert {"shuffled_reports", "shuffled_labels"} == set(tier.add)
    assert not set(tier.add) & set(study.methods)


def test_demo_runs_the_controls_that_cost_little():
    values = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    assert {"random", "shuffled_labels"} <= set(values["study"]["methods"])
