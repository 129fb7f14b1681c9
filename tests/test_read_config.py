"""Config files as people write them: values that YAML 1.1 would misread, keys twice, spellings, settings of objectives."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from refers.config import Finetune, Pretrain, load, read
from refers.config.objective import declared_settings, objectives
from refers.config.study import StudyConfig
from refers.errors import UserError
from refers.methods import load_objective

ROOT = Path(__file__).parents[1]


def read_one(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read.read_files([path])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E-4", 0.00015),
        ("3e5", 300_000),
        ("-3", -3),
        ("1_000", 1000),
        ("0", 0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("'0750'", "0750"),
        ("0x10", "0x10"),
        ("on", True),
        ("~", None),
        ("nih/1", "nih/1"),
    ],
)
def test_a_value_means_what_a_person_means_by_it(tmp_path, text, value):
    found = read_one(tmp_path, f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("a: 1\nb: 0750\n", ["line 2", "0750", "750"]),
        ("a: 1\nb: {c: 1}\na: 2\n", ["line 3", "'a'", "twice"]),
        ("b:\n  c: 1\n  d: 2\n  c: 3\n", ["line 4", "'c'", "twice"]),
        ("a:\n\tb: 1\n", ["line 2"]),
        ("a: {b: 1\n", ["line 2"]),
        ("2026: 1\n", ["line 1", "2026", "quotes"]),
        ("- 1\n", ["not a map"]),
        ("", ["not a map"]),
        (b"a: \xff\xfe\n", ["cannot be read as YAML"]),
        ("training: {optimiser: {lr: 1}, optimizer: {lr: 2}}\n", ["optimiser", "optimizer"]),
        ("pretrain: {training: {optimiser: {lr: 1}, optimizer: {lr: 2}}}\n", ["optimiser", "optimizer"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_its_line(tmp_path, text, facts):
    with pytest.raises(UserError) as error:
        read_one(tmp_path, text)
    message = str(error.value)
    assert all(fact in message for fact in facts), message
    assert "\n" not in message


def test_merge_keys_override_and_are_no_doubles(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"
    assert read_one(tmp_path, text)["b"] == {"x": 1, "y": 3}


def test_shipped_configs_mean_to_us_what_yaml_means_by_them():
    for path in (ROOT / "config").glob("*.yaml"):
        if path.stem != "claims":
            assert read.read_files([path]) == yaml.safe_load(path.read_text()), path


def test_optimizer_is_another_spelling_of_optimiser_in_every_layer(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("pretrain: {training: {optimiser: {lr: 0.1, momentum: 0.5}}}\n")
    over = tmp_path / "over.yaml"
    over.write_text("pretrain: {training: {optimizer: {lr: 0.2}}}\n")
    found = read.read_files([base, over])["pretrain"]["training"]
    assert found == {"optimiser": {"lr": 0.2, "momentum": 0.5}}
    for kind in (Pretrain, Finetune):
        assert load(kind, {"training": {"optimizer": {"lr": 0.25}}}).training.optimiser.lr == 0.25


def test_values_of_the_command_line_become_numbers_inside_maps():
    given = {
        "plan": {"steps": "5", "gpus": ["1", "2"], "tflops": "1e2"},
        "note": "a: b",
        "text": {"encoder": "~"},
    }
    found = read.read_arguments(given)
    assert found == {
        "plan": {"steps": 5, "gpus": [1, 2], "tflops": 100},
        "note": "a: b",
        "text": {"encoder": None},
    }


def published():
    return read.read_files([ROOT / "config/config.yaml"])


def change(values, path, value):
    *parents, last = path.split(".")
    for key in parents:
        values = values[key]
    if value is None:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("path", "value", "facts"),
    [
        ("methodes", {}, ["unknown key 'methodes'", "did you mean 'methods'"]),
        (
            "datasets.nih.sorce",
            "nih",
            ["config.datasets.nih", "unknown key 'sorce'", "did you mean 'source'"],
        ),
        ("datasets.mine", {"title": "Mine"}, ["config.datasets.mine", "source", "classes", "split"]),
        ("plan.tflops", 0, ["config.plan.tflops", "above 0"]),
        ("plan.gpus", ["four"], ["config.plan.gpus.0", "whole number", "'four'"]),
        ("study.seeds", [0, 0], ["config.study.seeds", "twice"]),
        ("images.tolerance", "1 %", ["config.images.tolerance", "expected a number"]),
        ("methods.refers.title", 5, ["config.methods.refers.title", "expected text"]),
        ("datasets.nih.split.fractions", [0.5, 0.1, 0.1], ["config.datasets.nih.split", "sum to 1"]),
        ("datasets.nih.split.kind", "officiall", ["did you mean 'official'"]),
        ("figures.roc_nih.ratio", None, ["config.figures.roc_nih", "ratio"]),
        ("tables.table1.baseline", None, ["config.tables.table1", "baseline"]),
        ("verdict.margin", float("nan"), ["config.verdict.margin", "finite"]),
        ("audit.cells", {"x": "nih"}, ["config.audit.cells.x"]),
        ("text.encoder", None, ["config.text", "build"]),
    ],
)
def test_a_wrong_entry_is_one_line_with_the_path_of_its_key(path, value, facts):
    values = published()
    change(values, path, value)
    with pytest.raises(UserError) as error:
        load(StudyConfig, values)
    message = str(error.value)
    assert all(fact in message for fact in facts), message
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["`touch x`", "$(touch x)", "a b", "../up", "Upper", "1st", "a.b", "", "ünder", "a_vs_b", "a\n"]
)
@pytest.mark.parametrize("section", ["methods", "datasets", "sources", "tables", "figures", "groups"])
def test_a_name_that_could_harm_a_path_or_a_shell_is_refused(section, name):
    values = published()
    values[section][name] = next(iter(values[section].values()))
    with pytest.raises(UserError, match="not a name"):
        load(StudyConfig, values)


def test_all_mistakes_are_told_at_once():
    values = published()
    change(values, "plan.tflops", -1)
    change(values, "images.size", "big")
    with pytest.raises(UserError) as error:
        load(StudyConfig, values)
    assert all(path in str(error.value) for path in ("config.plan.tflops", "config.images.size"))


def test_settings_of_every_objective_are_known_without_torch():
    code = "import sys; from refers.config.objective import *; [declared_settings(n)() for n in objectives()]; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "workflow/scripts", capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", objectives())
def test_declared_settings_are_those_that_the_objective_gets(name):
    _, kind = load_objective(name)
    declared = declared_settings(name)
    assert declared.model_json_schema() == kind.model_json_schema()


@pytest.mark.parametrize(
    ("objective", "settings", "facts"),
    [
        ("refers", {"fusion_hiden": 3}, ["unknown key 'fusion_hiden'", "did you mean 'fusion_hidden'"]),
        ("refers", {"decoder": {"widht": 3}}, ["x.decoder", "unknown key 'widht'", "did you mean 'width'"]),
        ("transvw", {"zoom": [1.2, 0.8]}, ["x.zoom", "below its start"]),
        ("c2l", {"queue": 1}, ["x.queue", "at least 8"]),
    ],
)
def test_a_wrong_setting_of_an_objective_is_one_line(objective, settings, facts):
    with pytest.raises(UserError) as error:
        load(declared_settings(objective), settings, "x")
    assert all(fact in str(error.value) for fact in facts), error.value


def test_an_unknown_objective_is_answered_with_the_nearest_one():
    with pytest.raises(UserError, match="did you mean 'refers'"):
        declared_settings("referz")
