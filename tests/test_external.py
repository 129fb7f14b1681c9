"""Classifiers on the test images of another dataset: shared findings, the numbers by hand, the config, the jobs, and the demo."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from made_tables import ROWS, auc_of
from refers import config
from refers.cells.external import of_findings, read_external, summarise_external
from refers.config.read import read_files
from refers.errors import UserError
from refers.evaluation.cell_file import read_measured
from refers.evaluation.predictions import SplitPredictions, frame_of, read_seeds
from refers.evaluation.statistics import Bootstrap, summarise
from refers.files import file_digest, write_json
from refers.model.classifier import Classifier, probabilities
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.reporting.build_table import index_results
from refers.reporting.measured import build_measured
from refers.reporting.table_formats import to_markdown
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.training.finetuning import LabelledImages, predict
from sklearn.metrics import roc_auc_score
from test_finetuning import labelled

ROOT = Path(__file__).parents[1]
PUBLISHED = read_files([ROOT / "config/config.yaml", ROOT / "config/external.yaml"])
HERE, THERE = ["Effusion", "Mass", "Nodule"], ["Nodule-Mass", "Pleural effusion"]
FINDINGS = {
    "Pleural effusion": {"here": ["Effusion"], "other": ["Pleural effusion"]},
    "Nodule or mass": {"here": ["Nodule", "Mass"], "other": ["Nodule-Mass"]},
}


def made(images, labels, scores, seed=0, seeds=2):
    """A test set with random labels of some classes, two images a patient, and scores of others in two runs."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"{seed}i{n:03d}" for n in range(images)])
    patients = np.array([f"{seed}p{n // 2:03d}" for n in range(images)])
    truth = rng.integers(0, 2, (images, labels))
    return SplitPredictions(ids, patients, truth, [rng.random((images, scores)) for _ in range(seeds)])


# ---- the numbers


def test_a_finding_of_several_classes_has_any_label_and_the_highest_score():
    test = SplitPredictions(
        np.array(["a", "b"]),
        np.array(["a", "b"]),
        np.array([[1, 0], [0, 1]]),
        [np.array([[0.1, 0.7, 0.2], [0.9, 0.3, 0.4]])],
    )
    pairs = [(each["other"], each["here"]) for each in FINDINGS.values()]
    found = of_findings(test, THERE, HERE, pairs)
    assert found.labels.tolist() == [[0, 1], [1, 0]]
    assert found.scores[0].tolist() == [[0.1, 0.7], [0.9, 0.4]]
    both = of_findings(
        SplitPredictions(test.ids, test.patients, np.array([[0, 1, 0], [0, 0, 1]]), test.scores),
        HERE,
        HERE,
        [(["Nodule", "Mass"], ["Nodule", "Mass"])],
    )
    assert both.labels.tolist() == [[1], [1]]


def test_each_test_set_has_its_aucs_and_the_interval_of_its_own_bootstrap():
    external, own = made(80, 2, 2), made(60, 2, 2, seed=1)
    # a perfect and a reversed score for the classifiers that were trained there
    right = external.labels * np.array([1, -1]) + np.array([0, 1])
    other = SplitPredictions(external.ids, external.patients, external.labels, [right, right])
    found = summarise_external({"external": external, "own": own, "other": other}, ["a", "b"], 200, 3)
    assert found["findings"] == ["a", "b"]
    for name, each in (("external", external), ("own", own)):
        runs = [[roc_auc_score(each.labels[:, c], one[:, c]) for c in (0, 1)] for one in each.scores]
        test = found["tests"][name]
        assert test["mean"]["values"] == pytest.approx(np.mean(runs, axis=1))
        assert test["mean"]["sd"] == pytest.approx(np.std(np.mean(runs, axis=1), ddof=1))
        assert test["per_finding"]["b"]["mean"] == pytest.approx(np.mean(runs, axis=0)[1])
        assert test["per_finding"]["a"]["positives"] == each.labels[:, 0].sum()
        assert test["mean"]["positives"] + test["mean"]["negatives"] == 2 * len(each.ids)
        # as auc.json has them of the same images
        resamples = Bootstrap([each.patients], 200, 3).resample([each])
        known = summarise([each], ["a", "b"], resamples)
        assert test["mean"]["interval"] == pytest.approx(known["bootstrap"]["mean"])
        assert test["per_finding"]["a"]["interval"] == pytest.approx(known["per_class"]["a"]["interval"])
        assert test["bootstrap"]["unit"] == "patient"
    per = found["tests"]["other"]["per_finding"]
    assert (per["a"]["mean"], per["b"]["mean"]) == (1, 0)
    assert per["a"]["interval"] == [1, 1]


def test_a_finding_with_one_label_in_any_set_is_in_no_mean():
    external, own = made(40, 2, 2), made(40, 2, 2, seed=1)
    own.labels[:, 0] = 0
    found = summarise_external({"external": external, "own": own}, ["a", "b"], 100, 0)
    assert found["findings"] == ["b"]
    tests = found["tests"]
    assert tests["external"]["mean"]["values"] == tests["external"]["per_finding"]["b"]["values"]
    assert tests["own"]["per_finding"]["a"]["mean"] is None
    assert tests["external"]["per_finding"]["a"]["mean"] is not None
    own.labels[:] = 0
    nothing = summarise_external({"external": external, "own": own}, ["a", "b"], 100, 0)
    assert nothing["findings"] == []
    assert nothing["tests"]["external"]["mean"]["mean"] is None


# ---- the programs


def write_run(folder, seed, tested, external, record=True):
    """predictions.parquet of a run of HERE, and on_vbd.parquet with labels of THERE."""
    folder.mkdir(parents=True)
    rows = pd.DataFrame({"image_id": tested.ids, "patient_id": tested.patients})
    rows[[f"label:{name}" for name in HERE]] = tested.labels
    frames = [frame_of(rows, HERE, tested.scores[seed], part) for part in ("val", "test")]
    pd.concat(frames).to_parquet(folder / "predictions.parquet", index=False)
    frame = pd.DataFrame({"image_id": external.ids, "patient_id": external.patients})
    frame[[f"label:{name}" for name in THERE]] = external.labels
    frame[[f"score:{name}" for name in HERE]] = external.scores[seed]
    frame.to_parquet(folder / "on_vbd.parquet", index=False)
    for name, inputs, outputs in (
        ("run", {}, {"predictions": "predictions.parquet"}),
        ("on_vbd", {"predictions": "predictions.parquet"}, {"predictions": "on_vbd.parquet"}),
    ):
        digests = [
            {key: file_digest(folder / path) for key, path in each.items()} for each in (inputs, outputs)
        ]
        digests[0 if name == "on_vbd" else 1]["classifier"] = str(seed)
        facts = {"script": "x.py", "settings": {}, "seed": seed}
        write_json(folder / f"{name}.json", facts | dict(zip(("inputs", "outputs"), digests, strict=True)))
    return folder


@pytest.fixture
def runs(tmp_path):
    tested, external = made(60, 3, 3), made(50, 2, 3, seed=1)
    folders = [write_run(tmp_path / f"seed{seed}", seed, tested, external) for seed in (0, 1)]
    return folders, tested, external


def test_scripts(runs, tmp_path, call):
    folders, tested, external = runs
    there = made(50, 2, 2, seed=1)
    rows = pd.DataFrame({"image_id": there.ids, "patient_id": there.patients})
    rows[[f"label:{name}" for name in THERE]] = external.labels
    own = tmp_path / "there.parquet"
    pd.concat([frame_of(rows, THERE, there.scores[0], part) for part in ("val", "test")]).to_parquet(own)
    options = ["--method", "refers", "--dataset", "nih", "--ratio", 100, "--splits", 0, 0, "--seeds", 0, 1]
    options += ["--predictions", *(folder / "predictions.parquet" for folder in folders), "--other", "vbd"]
    options += ["--external", *(folder / "on_vbd.parquet" for folder in folders), "--resamples", 100]
    out = tmp_path / "on_vbd.json"
    rest = ["--trained-there", own, "--findings", json.dumps(FINDINGS), "--out", out]
    done = call("external", *options, *rest)
    assert done.returncode == 0, done.stderr
    assert "over 2 findings" in done.stdout
    found = read_measured(out, "external")
    assert (found["other"], found["findings"]) == ("vbd", [*FINDINGS])
    mass = external.labels[:, 0]
    expected = [roc_auc_score(mass, one[:, 1:].max(axis=1)) for one in external.scores]
    per = {name: test["per_finding"]["Nodule or mass"] for name, test in found["tests"].items()}
    assert per["external"]["values"] == pytest.approx(expected)
    nodules = tested.labels[:, 1:].max(axis=1)
    expected = [roc_auc_score(nodules, one[:, 1:].max(axis=1)) for one in tested.scores]
    assert per["own"]["values"] == pytest.approx(expected)
    assert per["other"]["values"] == pytest.approx([roc_auc_score(mass, there.scores[0][:, 0])])
    # other test images, and classes that are not there
    rows.loc[0, "label:Nodule-Mass"] = 1 - rows.loc[0, "label:Nodule-Mass"]
    pd.concat([frame_of(rows, THERE, there.scores[0], part) for part in ("val", "test")]).to_parquet(own)
    done = call("external", *options, *rest)
    assert (done.returncode, "of other test images or labels" in done.stderr) == (1, True)
    wrong = json.dumps({"Hernia": {"here": ["Hernia"], "other": ["Nodule-Mass"]}})
    done = call("external", *options, "--findings", wrong, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--findings Hernia: no class 'Hernia'; known are Effusion, Mass, Nodule" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(image_id=frame["image_id"][0]), "an image is there twice"),
        (lambda frame: frame.assign(**{"score:Mass": 1.5}), r"a score is not a number in \[0, 1\]"),
        (lambda frame: frame.drop(columns="score:Mass"), "has scores of Effusion, Nodule, not of"),
        (lambda frame: frame.iloc[1:], "of other images or labels than"),
    ],
)
def test_a_damaged_file_of_external_predictions_is_refused(runs, change, message):
    folders, *_ = runs
    path = folders[1] / "on_vbd.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    path.with_suffix(".json").unlink()
    own = [folder / "predictions.parquet" for folder in folders]
    with pytest.raises(UserError, match=message):
        read_external([folder / "on_vbd.parquet" for folder in folders], own, HERE)


def test_predictions_of_another_classifier_than_the_runs_are_refused(runs):
    folders, *_ = runs
    record = json.loads((folders[1] / "on_vbd.json").read_text())
    record["inputs"]["classifier"] = "another"
    write_json(folders[1] / "on_vbd.json", record)
    own = [folder / "predictions.parquet" for folder in folders]
    with pytest.raises(UserError, match=r"on_vbd\.parquet: made with another classifier.*rerun predict\.py"):
        read_external([folder / "on_vbd.parquet" for folder in folders], own, HERE)


def test_a_kept_classifier_scores_the_test_images_of_another_dataset(runs, small_model, tmp_path):
    folders, *_ = runs
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 36, 36), dtype=np.uint8)
    frame = labelled(rng, 12, THERE)
    frame["split"] = ["train"] * 4 + ["val"] * 2 + ["test"] * 6
    np.save(tmp_path / "images.npy", images)
    frame.to_parquet(tmp_path / "split.parquet", index=False)
    models = {}
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        models[folder] = Classifier(build_encoder(small_model), len(HERE), 0.0).eval()
        save_encoder(folder / "classifier.safetensors", models[folder], {"classes": len(HERE)})
        (folder / "run.json").unlink()
    settings = config.Finetune(training=config.Training(precision="fp32"))
    command = [
        sys.executable,
        ROOT / "workflow/scripts/predict.py",
        "--config",
        json.dumps(config.to_dict(settings)),
    ]
    command += ["--classifiers", *(folder / "classifier.safetensors" for folder in folders)]
    command += ["--predictions", *(folder / "predictions.parquet" for folder in folders), "--seeds", "0", "1"]
    command += ["--cell", "refers", "nih", "100", "0", "--other", "vbd", "--store", tmp_path / "images.npy"]
    command += ["--split", tmp_path / "split.parquet", "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 test images of vbd predicted by 2 classifiers" in done.stdout
    data = LabelledImages(images, frame[frame["split"] == "test"], THERE)
    for folder, model in models.items():
        found = pd.read_parquet(folder / "on_vbd.parquet")
        assert found["image_id"].tolist() == [f"i{n}" for n in range(6, 12)]
        assert (found[[f"label:{name}" for name in THERE]].to_numpy() == data.labels).all()
        scores = probabilities(predict(model, data, settings, 32, torch.device("cpu")), len(HERE))
        np.testing.assert_allclose(found[[f"score:{name}" for name in HERE]], scores, rtol=1e-6)
        record = json.loads((folder / "on_vbd.json").read_text())
        assert record["inputs"]["classifier"] == file_digest(folder / "classifier.safetensors")
        assert (record["tested_on"], record["cell"]["dataset"]) == ("vbd", "nih")
    test = read_external(
        [folder / "on_vbd.parquet" for folder in folders],
        [folder / "predictions.parquet" for folder in folders],
        HERE,
    )
    assert (test[1], len(test[0].scores)) == (THERE, 2)


# ---- the config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"datasets": {"vinbigdata": {"findings": {"Pleural effusion": ["Effusion"]}}}},
            r"config\.datasets\.vinbigdata: findings\.Pleural effusion: no class 'Effusion'; classes are"
            r" Aortic enlargement, Atelectasis",
        ),
        (
            {"tables": {"external_nih": {"tested_on": "vinbigdat"}}},
            r"external_nih\.tested_on: no dataset 'vinbigdat' \(did you mean 'vinbigdata'\?\)",
        ),
        ({"tables": {"external_nih": {"columns": ["nih/5"]}}}, r"external_nih\.columns: no cell 'nih/5'"),
        (
            {"tables": {"external_nih": {"tested_on": "shenzhen"}}},
            r"nih and shenzhen share no finding; .*nih has Atelectasis, .*; shenzhen has none",
        ),
        (
            {"tables": {"external_nih": {"tested_on": "nih_official"}}},
            "nih and nih_official have the images of one download, nih",
        ),
        (
            {"study": {"cells": [{"dataset": "nih", "ratios": [100]}]}},
            "vinbigdata is no column of the study, so pre-training may read its test images",
        ),
        ({"tables": {"external_nih": {"tested_on": ""}}}, "shows external, tested_on and columns belong together"),
        ({"tables": {"measures": {"tested_on": "nih"}}}, "shows external, tested_on and columns belong together"),
        (
            {"tables": {"external_nih": {"reference": "refers", "baseline": "c2l"}}},
            "shows external is of fine-tuned rows alone",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_one_line_before_any_work(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        check(config.merge(PUBLISHED, changes))
    assert "\n" not in str(caught.value)


def test_nih_and_vinbigdata_share_nine_findings():
    study = check(PUBLISHED)
    shared = study.shared_findings("nih", "vinbigdata")
    assert len(shared) == 9
    assert shared["Nodule or mass"] == {"here": ["Nodule", "Mass"], "other": ["Nodule-Mass"]}
    back = study.shared_findings("vinbigdata", "nih")
    assert {name: (each["other"], each["here"]) for name, each in back.items()} == {
        name: (each["here"], each["other"]) for name, each in shared.items()
    }
    assert set(study.shared_findings("nih_official", "vinbigdata")) == set(shared)


def test_only_a_study_with_external_tests_keeps_classifiers_of_all_seeds():
    plain, study = check(read_files([ROOT / "config/config.yaml"])), check(PUBLISHED)
    assert (plain.saved_seeds, plain.external_tables) == ([0], [])
    assert study.saved_seeds == [0, 1, 2]
    assert study.saves_classifier("c2l", "vinbigdata", 100)
    assert not study.saves_classifier("c2l", "vinbigdata", 100, split=1)
    assert not study.saves_classifier("c2l", "vinbigdata", 10)
    assert not plain.saves_classifier("c2l", "vinbigdata", 100)


# ---- the table


def test_the_table_prints_the_three_numbers_of_a_finding_and_says_what_is_missing():
    availability = Availability(check(PUBLISHED), AssumeAvailable())
    spec = Specs(availability).table("external_nih")
    columns = spec["columns"]
    assert [column["title"] for column in columns[:3]] == [
        *("Mean, on VBD", "Mean, on NIH", "Mean, on VBD, trained there")
    ]
    assert len(columns) == 3 * 10
    assert spec["comparable"] is False
    assert spec["joined"] == {"Nodule or mass": {"NIH": ["Nodule", "Mass"]}}
    spec |= {
        "rows": ROWS[:3],
        "columns": [each for each in columns if each["finding"] in ("", "Atelectasis")],
    }
    spec["absent"] = {"imagenet/nih/100": "not run: no classifier"}

    def number(mean):
        about = {"mean": mean, "sd": 0.01, "sd_splits": None, "interval": [mean - 0.1, mean + 0.1]}
        return about | {"undefined_resamples": 0, "positives": 9, "negatives": 41, "se": None}

    drawn = {"level": 0.95, "resamples": 1000, "seed": 0, "unit": "patient", "units": 90}
    tests = {
        name: {"mean": number(mean), "bootstrap": drawn, "per_finding": {"Atelectasis": number(mean + 0.05)}}
        for name, mean in (("external", 0.6), ("own", 0.8), ("other", 0.7))
    }
    about = {
        "dataset": "nih",
        "ratio": 100,
        "classes": ["Mass"],
        "predictions_sha256": ["1"],
        "bootstrap": drawn,
    }
    about |= {
        "other": "vinbigdata",
        "findings": ["Atelectasis"],
        "settings": {"findings": {"Atelectasis": {}}},
    }
    files = [{"method": "refers", "tests": tests} | about]
    files += [{"method": "c2l", "tests": {name: tests[name] for name in ("external", "own")}} | about]
    cells = [
        (f"{method}/auc.json", auc_of(method, "nih/100", [0.8, 0.81]) | {"predictions_sha256": ["1"]})
        for method in ("refers", "c2l", "imagenet")
    ]
    indexed = index_results([(f"{each['method']}/on.json", each) for each in files], "method")
    table = build_measured(spec, index_results(cells, "method"), indexed, {})
    printed = {key: entry.printed for key, entry in table.entries.items() if key[0] == "refers"}
    assert [*printed.values()] == [
        *("60.0 [50.0, 70.0]", "80.0 [70.0, 90.0]", "70.0 [60.0, 80.0]"),
        *("65.0 [55.0, 75.0]", "85.0 [75.0, 95.0]", "75.0 [65.0, 85.0]"),
    ]
    there = table.entries["c2l", "nih/100/vinbigdata/mean/other"]
    assert there.status == "not run: the cell of the other dataset is not available"
    assert table.entries["imagenet", "nih/100/vinbigdata/mean/own"].status == "not run: no classifier"
    text = to_markdown(table)
    assert "Nodule or mass is Nodule or Mass of NIH" in text


# ---- the jobs


def test_external_tests_are_asked_for_and_cost_nothing_else(snakemake, downloads):
    overlay = ["--configfile", "config/external.yaml"]
    table = snakemake(
        "-n", "results/tables/external_nih.md", "--cores", 8, "--quiet=rules", *downloads, *overlay
    )
    assert table.code == 0, table.output
    # seven rows, each trained on NIH with its classifiers kept and on VinBigData
    assert {rule: table.jobs[rule] for rule in ("finetune_kept", "predict", "external", "table")} == {
        **{"finetune_kept": 14, "predict": 7, "external": 7, "table": 1}
    }
    assert "finetune" not in table.jobs
    default, asked = (
        snakemake("-n", "tables", "--cores", 8, "--quiet=rules", *downloads, *more) for more in ([], overlay)
    )
    assert not {"predict", "external"} & default.jobs.keys()
    tuned = [found.jobs["finetune"] + found.jobs["finetune_kept"] for found in (default, asked)]
    assert tuned[0] == tuned[1], "no further fine-tune where classifiers are kept from the start"
    found = snakemake("-n", "results/cells/refers/nih/100pct/on_vinbigdata.json", "--cores", 8, *downloads)
    assert (found.code, "no such target" in found.output) == (1, True)


# ---- the demo


def test_a_finished_cell_is_tested_on_another_dataset(snakemake, demo, copy_project, tmp_path):
    results = tmp_path / "results"
    for part in ("encoders", "runs"):
        # new files, encoders before runs; Snakemake compares times alone where it made none of them
        left = shutil.ignore_patterns("classifier.*", "on_*")
        folders = (demo / "results" / part / "imagenet", results / part / "imagenet")
        shutil.copytree(*folders, ignore=left, copy_function=shutil.copyfile)
    external = {"shows": "external", "columns": ["nih/100"], "tested_on": "vinbigdata", "rows": ["imagenet"]}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"tables": {"external": {"title": "External", **external}}}))
    moved = "{" + ", ".join(f"{name}: {tmp_path}/{name}" for name in ("results", "logs", "benchmarks")) + "}"
    common = ["--workflow-profile", "profiles/demo", "--config", f"pathvars={moved}"]
    with_table = [*common, "--configfile", "config/demo.yaml", overlay]
    target = f"{results}/tables/external.csv"
    done = snakemake(target, *with_table)
    assert done.code == 0, done.output[-3000:]
    # the cell had kept no classifier; that of VinBigData, which is only read, stays as it is
    wanted = {"finetune_kept": 1, "cell": 1, "predict": 1, "external": 1, "table": 1, "total": 5}
    assert done.jobs == wanted
    runs = results / "runs/imagenet"
    again, first = (
        read_seeds(
            [folder / f"runs/imagenet/nih/100pct/split0/seed{seed}/predictions.parquet" for seed in range(3)]
        )
        for folder in (results, demo / "results")
    )
    assert all(map(np.array_equal, again.test.scores, first.test.scores)), (
        "the same run, its classifiers kept"
    )
    rows = pd.read_csv(target).set_index("column")
    frames = [pd.read_parquet(runs / f"nih/100pct/split0/seed{n}/on_vinbigdata.parquet") for n in range(3)]
    other = read_seeds(
        [runs / f"vinbigdata/100pct/split0/seed{seed}/predictions.parquet" for seed in range(3)]
    )
    assert set(frames[0]["image_id"]) == set(other.test.ids), "the test images and no others"
    for name, here, there in (
        ("Pleural effusion", ["Effusion"], "Pleural effusion"),
        ("Nodule or mass", ["Nodule", "Mass"], "Nodule-Mass"),
    ):
        scores = [frame[[f"score:{each}" for each in here]].max(axis=1) for frame in frames]
        expected = [roc_auc_score(frames[0][f"label:{there}"], one) for one in scores]
        assert rows.loc[f"nih/100/vinbigdata/{name}/external", "mean"] == pytest.approx(
            100 * np.mean(expected)
        )
        place = other.classes.index(there)
        expected = [roc_auc_score(other.test.labels[:, place], one[:, place]) for one in other.test.scores]
        assert rows.loc[f"nih/100/vinbigdata/{name}/other", "mean"] == pytest.approx(100 * np.mean(expected))
    # once more nothing is to be done, with the table and without it
    cell = f"{results}/cells/imagenet/nih/100pct/auc.json"
    for options in ([target, *with_table], [cell, *common]):
        assert "Nothing to be done" in snakemake("-n", *options).output
    # and the predictions alone give the same table, without classifiers or downloads
    elsewhere = copy_project(tmp_path / "elsewhere")
    shutil.copytree(
        runs,
        elsewhere / "build/demo/results/runs/imagenet",
        ignore=shutil.ignore_patterns("classifier.*", "run.json", "metrics.*"),
    )
    options = ["--cores", 2, "--configfile", "config/demo.yaml", overlay]
    alone = snakemake("build/demo/results/tables/external.csv", *options, folder=elsewhere)
    assert alone.code == 0, alone.output[-3000:]
    assert alone.jobs == {"cell": 1, "external": 1, "table": 1, "total": 3}
    again = pd.read_csv(elsewhere / "build/demo/results/tables/external.csv").set_index("column")
    pd.testing.assert_series_equal(again["mean"], rows["mean"])
