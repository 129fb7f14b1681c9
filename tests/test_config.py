"""Settings: ranges, unknown keys, overlays, the schema, and every shipped config."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from refers import config
from refers.config import schema
from refers.config.study import StudyConfig
from refers.errors import UserError
from refers.methods import load_objective
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs

ROOT = Path(__file__).parents[1]
SMALL_BERT = {
    "vocabulary": 100,
    "width": 8,
    "depth": 1,
    "heads": 1,
    "max_length": 8,
    "dropout": 0.0,
    "seed": 0,
}
OVERLAYS = ["", "demo", "code", "trial"]


def shipped(overlay):
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return (
        config.merge(values, yaml.safe_load((ROOT / f"config/{overlay}.yaml").read_text()))
        if overlay
        else values
    )


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"trainin": {}}, ["x: unknown key 'trainin'", "did you mean 'training'"]),
        ({"training": {"steps": 0}}, ["x.training.steps", "at least 1", "found 0"]),
        ({"training": {"steps": 10}}, ["x.training: warmup_steps 10000 is not below steps 10"]),
        ({"training": {"precision": "fp8"}}, ["x.training.precision: 'fp8' must be one of bf16, fp16, fp32"]),
        (
            {"training": {"optimiser": {"lr": "fast"}}},
            ["x.training.optimiser.lr: expected a number", "'fast'"],
        ),
        ({"training": {"seed": 1.5, "steps": True}}, ["x.training.seed", "x.training.steps", "whole number"]),
        ({"training": {"augment": {"area": [0.1]}}}, ["x.training.augment.area", "[0.1]"]),
        ({"training": {"augment": {"area": [1.0, 0.1]}}}, ["x.training.augment.area", "[1.0, 0.1]"]),
        ({"model": {"patch_size": 15}}, ["x.model: image_size 224 is not a multiple of patch_size 15"]),
        ({"model": {"architecture": "vgg"}}, ["x.model: architecture must be one of transformer, resnet18"]),
        ({"model": {"architecture": "timm"}}, ["x.model", "name"]),
        ({"model": {"architecture": "resnet18", "width": 3}}, ["x.model: unknown key 'width'"]),
        ({"model": {"aggregation": "none"}}, ["set classifier: aggregation"]),
        ({"training": 3}, ["x.training: expected a map of settings, found 3"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_key(values, facts):
    with pytest.raises(UserError) as error:
        config.load(config.Pretrain, values, "x")
    assert all(fact in str(error.value) for fact in facts), error.value
    assert "\n" not in str(error.value)


def test_settings_survive_the_command_line():
    settings = config.load(
        config.Pretrain, {"model": {"width": 96, "heads": 4}, "training": {"steps": 20_000}}
    )
    assert config.load_json(config.Pretrain, json.dumps(config.to_dict(settings)), "x") == settings


def test_overlays_merge_maps_and_replace_lists():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert config.merge(base, {"a": {"c": [3]}, "d": 2}) == {"a": {"b": 1, "c": [3]}, "d": 2}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_the_schema_is_the_one_that_the_models_give(tmp_path):
    schema.write_schema(tmp_path / "schema.yaml")
    committed = (ROOT / "workflow/schemas/config.schema.yaml").read_text()
    assert (tmp_path / "schema.yaml").read_text() == committed, "run `make schema`"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_shipped_config_is_accepted_by_every_job(overlay):
    values = shipped(overlay)
    found = check(values)
    assert len(found.cells) == 9
    assert found.seeds == [0, 1, 2]


def test_the_published_study_has_every_row_and_the_papers_settings():
    found = check(shipped(""))
    assert len(found.methods) == 16
    assert found.methods[-1] == "random"
    refers = found.pretrain_settings("refers")
    assert refers.training.steps == 300_000
    assert refers.training.warmup_steps == 10_000
    optimiser = refers.training.optimiser
    assert (optimiser.name, optimiser.lr, optimiser.text_lr, optimiser.decoder_lr) == (
        "sgd",
        3e-3,
        3e-4,
        3e-4,
    )
    assert found.finetune_settings("lsp_resnet50", "nih", 100).training.optimiser.name == "adam"
    assert found.finetune_settings("refers", "nih", 100).training.optimiser.name == "sgd"


def pretrained(found):
    """(method, resolved settings of its pre-training) for every method that has one."""
    names = [method for method in found.config.methods if not found.is_imported(method)]
    return [(method, found.pretrain_settings(method)) for method in names]


@pytest.mark.parametrize(("overlay", "images"), [("", 28_800_000), ("code", 2_400_000), ("trial", 7_200)])
def test_every_method_sees_the_same_number_of_images(overlay, images):
    seen = {}
    for method, settings in pretrained(check(shipped(overlay))):
        _, kind = load_objective(settings.objective)
        views = getattr(config.load(kind, settings.settings), "views", 1)
        seen[method] = settings.training.steps * settings.training.batch_size * views
        if overlay == "trial" and settings.model.architecture != "transformer":
            assert seen.pop(method) < images, "the trial's residual networks are the documented exception"
    assert seen == dict.fromkeys(seen, images)
    assert len(seen) >= 10


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_key_starts_every_transformer_from_imagenet(overlay):
    found = check(config.merge(shipped(overlay), {"pretrain": {"init": "imagenet"}}))
    start = found.model_settings("imagenet")
    kinds = set()
    for method, settings in pretrained(found):
        kinds.add(settings.model.architecture)
        if settings.model.architecture == "transformer":
            assert settings.init == "imagenet"
            assert settings.model.activation == start.activation == "gelu"
            assert found.model_settings(method) == settings.model, "the plan counts another encoder"
        else:
            assert settings.init == "scratch"
    assert kinds == {"transformer", "resnet18", "resnet50", "resnet101"}


TIMM = {
    "title": "Mine",
    "model": {"architecture": "timm", "name": "resnet18"},
    "pretrain": {"objective": "lsp"},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pretrain": {"model": {"activation": "relu"}}},
            r"methods\.refers\..* has activation gelu instead of relu",
        ),
        (
            {"methods": {"imagenet": {"model": {"heads": 6}}}},
            r"methods\.refers\..* has heads 6 instead of 12",
        ),
        ({"methods": {"mine": TIMM}}, r"methods\.mine\..* has activation gelu .*set init: scratch for mine"),
        ({"methods": {"mine": {**TIMM, "pretrain": {"objective": "lsp", "init": "scratch"}}}}, None),
    ],
    ids=["activation", "heads", "another architecture", "from scratch"],
)
def test_a_start_whose_weights_mean_something_else_is_one_line(change, message):
    values = config.merge(shipped(""), {"pretrain": {"init": "imagenet"}}, change)
    if message is None:
        check(values)
        return
    with pytest.raises(UserError, match=message) as error:
        check(values)
    assert "\n" not in str(error.value)


def test_a_checkpoint_beside_pretraining_settings_is_refused_until_an_overlay_removes_them():
    authors = {"checkpoint": "models/refers_checkpoint.pth"}
    with pytest.raises(UserError, match=r"methods\.refers: checkpoint .*`pretrain: null`") as error:
        check(config.merge(shipped(""), {"methods": {"refers": authors}}))
    assert "\n" not in str(error.value)
    study = check(config.merge(shipped(""), {"methods": {"refers": authors | {"pretrain": None}}}))
    assert study.is_imported("refers")
    assert study.checkpoint_file("refers") == Path(authors["checkpoint"])


def test_the_authors_checkpoint_has_one_name():
    tiers = check(shipped("")).config.plan.tiers
    (name,) = {path for tier in tiers for path in tier.checkpoints.values()}
    assert name in shipped("")["origins"]
    files = [path for folder in ("docs", "config") for path in (ROOT / folder).iterdir() if path.is_file()]
    texts = {path: path.read_text() for path in files}
    named = {found for text in texts.values() for found in re.findall(r"[\w./-]*refers\w*\.pth", text)}
    assert named <= {name, Path(name).name}
    assert name in texts[ROOT / "docs/data.md"]


def test_a_start_needs_a_checkpoint():
    values = config.merge(shipped(""), {"pretrain": {"init": "imagenet"}})
    values["methods"]["imagenet"] = {"title": "x", "pretrain": {"objective": "lsp"}}
    with pytest.raises(UserError, match=r"methods\.imagenet has no checkpoint to start from"):
        check(values)


def test_an_absent_checkpoint_of_ones_own_is_no_matter_of_the_documented_downloads(tmp_path):
    values = shipped("")
    values["methods"]["mine"] = {"title": "Mine", "own": True, "checkpoint": str(tmp_path / "mine.pth")}
    found = Availability(check(values))
    assert found.method_status("mine").endswith("place it there, or correct methods.mine.checkpoint")
    assert "docs/data.md" in found.method_status("imagenet")


def test_absent_reports_are_absent_data_of_every_method_that_is_pretrained(tmp_path):
    values = config.merge(
        shipped(""), {"data_root": str(tmp_path), "text": {"encoder": None, "build": SMALL_BERT}}
    )
    source = values["sources"]["mimic"]
    for pattern in [*source["files"], source["images"]]:
        path = tmp_path / "mimic" / pattern.replace("*", "0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for method in ("refers", "lsp_transformer"):
        reason = Availability(check(values)).method_status(method)
        assert reason.startswith(f"data absent: {tmp_path}/mimic/mimic-cxr-reports/files/p1* not found")
    (tmp_path / "mimic/mimic-cxr-reports/files/p10").mkdir(parents=True)
    assert Availability(check(values)).method_status("refers") == ""


def test_a_figure_of_maps_that_cannot_be_made_says_why_and_asks_for_no_job(tmp_path):
    def found(change):
        there = {"data_root": str(tmp_path), "text": {"encoder": None, "build": SMALL_BERT}}
        there |= {"pathvars": {"results": str(tmp_path / "results")}}
        there |= {"datasets": {"nih": {"split": {"kind": "official"}}}}
        known = Specs(Availability(check(config.merge(shipped(""), there, change))))
        return known.figure("figure3_nih")["methods"][0]["status"], known.figure_cells("figure3_nih")

    values = shipped("")
    for source, names in (("mimic", ["reports"]), ("nih", [])):
        entry = values["sources"][source]
        for pattern in [*entry["files"], entry["images"], *(entry[name] for name in names)]:
            path = tmp_path / entry["folder"] / pattern.split("|")[0].replace("*", "0")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    reason, cells = found({})
    assert (reason.startswith(f"data absent: {tmp_path}/nih/BBox_List_2017.csv not found"), cells) == (
        True,
        [],
    )
    (tmp_path / "nih/BBox_List_2017.csv").touch()
    assert found({}) == ("", [("refers", ("nih", 100))])
    model = {"aggregation": "add", "classifier": "aggregation"}
    for change, start in (
        (
            {"methods": {"refers": {"model": model}}},
            "not run: refers's classifier reads the aggregation output",
        ),
        ({"figures": {"figure3_nih": {"ratio": 50}}}, "not run: nih/50 is not a cell of the study"),
        ({"sources": {"nih": {"boxes": ""}}}, "not run: sources.nih names no boxes"),
    ):
        reason, cells = found(change)
        assert (reason.startswith(start), cells) == (True, []), reason
    (tmp_path / "results/attention/figure3_nih").mkdir(parents=True)
    (tmp_path / "results/attention/figure3_nih/maps.npz").touch()
    (tmp_path / "nih/BBox_List_2017.csv").unlink()
    assert found({})[0] == "", "maps that are here need no boxes any more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"study": {"methods": ["referz"]}},
            r"study\.methods: no method 'referz' \(did you mean 'refers'\?\); known are refers, ",
        ),
        (
            {"study": {"cells": [{"dataset": "chexpert", "ratios": [1]}]}},
            "study.cells: no dataset 'chexpert'",
        ),
        ({"finetune": {"cells": {"nih/2": {}}}}, "finetune.cells: no cell 'nih/2'"),
        (
            {"tables": {"table1": {"rows": ["refers", "moco"]}}},
            "tables.table1.rows: no method or group 'moco'",
        ),
        (
            {"methods": {"refers": {"pretrain": {"training": {"step": 1}}}}},
            "methods.refers.pretrain.training: unknown key 'step'",
        ),
    ],
)
def test_a_name_without_an_entry_is_one_line(change, message):
    with pytest.raises(UserError, match=message):
        check(config.merge(shipped(""), change))


def test_small_datasets_are_split_several_times_and_train_the_same_seeds_on_each():
    study = check(shipped(""))
    assert {name: len(study.splits(name)) for name in study.datasets} == {
        "nih": 1,
        "vinbigdata": 1,
        "shenzhen": 3,
        "covid_t1": 3,
        "covid_t2": 3,
    }
    assert study.runs("covid_t2") == [(split, seed) for split in range(3) for seed in range(3)]
    values = shipped("")
    values["study"]["splits"] = 2
    values["datasets"]["nih"]["split"]["kind"] = "official"
    study = check(values)
    assert (study.splits("nih"), study.splits("covid_t2")) == ([0, 1], [0, 1, 2])
    assert [study.split_settings("covid_t2", split).seed for split in (0, 1, 2)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"no split 3 of covid_t2: the study has 3; see study\.splits"):
        study.split_settings("covid_t2", 3)


def test_several_splits_that_would_be_the_same_run_are_refused_in_one_line():
    values = shipped("")
    values["study"]["splits"] = 2
    with pytest.raises(UserError, match="2 splits of nih at 100 % would be the same run 2 times") as error:
        check(values)
    assert "\n" not in str(error.value)
    assert "set splits: 1 for it in study.cells" in str(error.value)
    values = shipped("")
    values["study"]["cells"][0] = {"dataset": "nih", "ratios": [1, 10], "splits": 2}
    values["study"]["cells"].append({"dataset": "nih", "ratios": [100]})
    with pytest.raises(UserError, match="nih is listed with two numbers of splits"):
        config.load(StudyConfig, values)


def test_the_official_split_of_nih_waits_for_its_columns_and_is_not_judged():
    values = shipped("")
    study = check(values)
    assert study.dataset("nih").split.kind == "released"
    assert study.dataset("nih").comparable
    assert not study.dataset("nih_official").comparable
    assert "nih_official" not in study.datasets
    values["study"]["cells"].append({"dataset": "nih_official", "ratios": [1, 10, 100]})
    study = check(values)
    assert study.split_settings("nih_official", 0).kind == "official"
    for ratio in (1, 10, 100):
        tuned = [study.finetune_settings("refers", name, ratio) for name in ("nih", "nih_official")]
        assert tuned[0] == tuned[1]


def test_absent_lists_are_one_line_with_both_ways_out(tmp_path):
    values = shipped("") | {"data_root": str(tmp_path)}
    for pattern in [*values["sources"]["nih"]["files"], values["sources"]["nih"]["images"]]:
        path = tmp_path / "nih" / pattern.split("|")[0].replace("*", "0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    reason = Availability(check(values)).dataset_status("nih")
    assert (
        f"git clone https://github.com/funnyzhou/REFERS {tmp_path}/REFERS, or set datasets.nih.split.kind"
        in reason
    )
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("method", "referz", "refers"),
        ("dataset", "nhi", "nih"),
        ("table", "tabel1", "table1"),
        ("figure", "pipelin", "pipeline"),
        ("source", "zzz", None),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(kind, name, nearest):
    with pytest.raises(UserError) as error:
        getattr(check(shipped("")), kind)(name)
    hint = f" (did you mean '{nearest}'?)" if nearest else ""
    assert str(error.value).startswith(f"no such {kind}: {name}{hint}; config has ")


def test_what_is_assumed_available_needs_no_disk(tmp_path):
    study = check(shipped("") | {"data_root": str(tmp_path)})
    on_disk, assumed = Availability(study), Availability(study, AssumeAvailable())
    for method in study.methods:
        for cell in study.cells:
            assert not on_disk.can_run(method, cell)
            assert assumed.can_run(method, cell)
    assert not assumed.results_exist("<results>/tables/cells.csv")
    with pytest.raises(UserError, match=r"^refers/nih/1: "):
        on_disk.require("refers", "nih", 1)
    assumed.require("refers", "nih", 1)


def test_a_script_reports_a_bad_setting_in_one_line(tmp_path):
    command = [
        sys.executable,
        "workflow/scripts/pretrain.py",
        "--method",
        "refers",
        "--config",
        '{"modell": {}}',
    ]
    command += [
        f"--{name}={tmp_path}" for name in ("index", "store", "manifest", "tokens", "text-encoder", "out")
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: refers: unknown key 'modell' (did you mean 'model'?)")


@pytest.mark.parametrize(
    ("table", "image"),
    [
        ("shenzhen_metadata.csv", "images/a.png"),
        ("shenzhen_metadata.csv", "images/images/a.png"),
        ("ClinicalReadings/a.txt", "CXR_png/a.png"),
    ],
)
def test_a_source_may_lie_in_any_of_its_layouts(tmp_path, table, image):
    values = shipped("") | {"data_root": str(tmp_path)}
    absent = "shenzhen_metadata.csv or ClinicalReadings/*.txt not found"
    assert absent in Availability(check(values)).source_status("shenzhen")
    for name in (table, image):
        (tmp_path / "shenzhen" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shenzhen" / name).touch()
    there = Availability(check(values))
    assert there.source_status("shenzhen") == ""
    assert there.source_files("shenzhen") == [tmp_path / "shenzhen" / table]
