"""Datasets of one's own: the example of docs/add-a-dataset.md, `own`, `make real`'s adapter, pools of images to pre-train on."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import make_pneumonia
from PIL import Image
from refers import config
from refers.config.read import read_files
from refers.data import adapters
from refers.data.adapters import adapter
from refers.data.leakage import check as check_leakage
from refers.data.mimic_studies import MimicStudies, PoolSource, pool
from refers.data.splits import make_split
from refers.errors import UserError
from refers.files import file_digest
from refers.study import check as checking
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/add-a-dataset.md"
REAL = ROOT.parent / "shared/data/pneumonia"
real = pytest.mark.skipif(not REAL.exists(), reason="the pneumonia download is not here")
CONFIG = ROOT / "config/config.yaml"


def write_image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


# ---- the guide


@pytest.fixture
def wrists(tmp_path, monkeypatch):
    """The guide's adapter among the others, and a small download that it reads."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    for path in Path(adapters.__file__).parent.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "wrists.py").write_text(blocks("python")[0])
    monkeypatch.setattr(checking, "ADAPTERS", folder)
    spec = importlib.util.spec_from_file_location("wrists", folder / "wrists.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    download = tmp_path / "wrists"
    lines = ["image,person,fracture,implant"]
    for number in range(40):
        write_image(download / f"images/{number:04}.png", number)
        lines.append(f"{number:04}.png,{number // 2},{number // 2 % 2},{number // 4 % 2}")
    (download / "labels.csv").write_text("\n".join([*lines, "9999.png,99,1,0"]) + "\n")
    return module, download


def test_the_adapter_of_the_guide_reads_its_download(wrists):
    module, download = wrists
    frame, counts = module.read_index(download)
    assert (len(frame), frame["patient_id"].nunique(), counts["missing_images"]) == (40, 20, 1)
    rule = yaml.safe_load(blocks("yaml")[0])["datasets"]["wrists"]
    settings = config.Split(dataset="wrists", classes=rule["classes"], views=["frontal"], **rule["split"])
    split, _ = make_split(frame, settings)
    assert (split.groupby("patient_id")["split"].nunique() == 1).all()


def test_the_entries_of_the_guide_are_columns_figures_and_a_table_by_class(wrists):
    values = config.merge(read_files([CONFIG]), *map(yaml.safe_load, blocks("yaml")))
    study = check(values)
    plain = check(read_files([CONFIG]))
    assert study.cells[: len(plain.cells)] == plain.cells
    assert [str(cell) for cell in study.cells[len(plain.cells) :]] == ["wrists/1", "wrists/10", "wrists/100"]
    assert study.splits("wrists") == [0, 1]
    assert {
        "roc_wrists",
        "reliability_wrists",
        "ratios_wrists",
    } == study.config.figures.keys() - plain.config.figures.keys()
    assert study.config.tables.keys() - plain.config.tables.keys() == {"classes_wrists"}
    specs = Specs(Availability(study, AssumeAvailable()))
    assert [column["class"] for column in specs.table("classes_wrists")["columns"]][:2] == [
        "Fracture",
        "Implant",
    ]
    assert specs.table("table1")["columns"][-1]["id"] == "wrists/100"
    assert study.pool("c2l_wrists") == "wrists-nih"
    # what a command is told as JSON is checked again and must stay what it is
    again = check(study.config.model_dump(mode="json"))
    assert again.config == study.config


def test_own_datasets_alone_leave_out_tables_and_figures_of_the_others(wrists):
    values = config.merge(read_files([CONFIG]), yaml.safe_load(blocks("yaml")[0]), {"study": {"cells": []}})
    study = check(values)
    assert study.datasets == ["wrists"]
    assert "table3" not in study.config.tables
    assert "roc_nih" not in study.config.figures
    assert {"table1", "probe"} <= study.config.tables.keys()


def test_a_study_without_a_column_is_one_line():
    with pytest.raises(UserError, match=r"study\.cells: the study has no column"):
        check(config.merge(read_files([CONFIG]), {"study": {"cells": []}}))


def test_null_removes_an_entry():
    study = check(config.merge(read_files([CONFIG]), {"tables": {"controls": None}}))
    assert "controls" not in study.config.tables


def test_every_problem_of_a_new_dataset_is_in_one_line():
    mine = {
        "sources": {"mine": {"layot": "shenzhen", "folder": "mine"}},
        "datasets": {"mine": {"source": "mine", "own": "yes please", "split": {"kind": "randon"}}},
        "images": {"size": 1},
    }
    with pytest.raises(UserError) as error:
        check(config.merge(read_files([CONFIG]), mine))
    for part in (
        "'layot'",
        "missing layout, images",
        "missing title, classes",
        "own",
        "'randon'",
        "images.size",
    ):
        assert part in str(error.value), part


def test_every_unknown_name_is_in_one_line():
    mine = {
        "datasets": {
            "mine": {"title": "Mine", "source": "mine", "classes": ["A"], "split": {"kind": "random"}}
        },
        "sources": {"shenzhen": {"layout": "shenzen"}},
        "study": {"methods": ["refers", "referz"]},
    }
    with pytest.raises(UserError) as error:
        check(config.merge(read_files([CONFIG]), mine))
    for part in ("no source 'mine'", "no adapter 'shenzen'", "no method 'referz'"):
        assert part in str(error.value), part


# ---- pools


def source(name, patients, splits=(), views=None, parts=None, value=0):
    """A source of one image per patient, each a picture of its own, in the order given."""
    count = len(patients)
    index = pd.DataFrame(
        {
            "image_id": [f"{name}{number}" for number in range(count)],
            "patient_id": patients,
            "study_id": [f"{name}{number}" for number in range(count)],
            "view": views or ["frontal"] * count,
            "split": parts or [""] * count,
            f"label:{name}": np.arange(count) % 2,
        }
    )
    store = np.stack([np.full((8, 8), value + number, np.uint8) for number in range(count)])
    frames = [
        pd.DataFrame({"row": np.arange(len(each)), "split": each}).query("split != ''") for each in splits
    ]
    return PoolSource(name, index, store, (), frames)


def test_a_pool_leaves_out_whatever_is_in_a_test_set():
    patients = ["a", "a", "b", "c", "d", "e"]
    one = source(
        "one", patients, [["test", "", "train", "val", "train", "train"], ["train", "", "test", "", "", ""]]
    )
    one.store[4] = one.store[0]
    frame, rows, counts = pool([one])
    assert frame["image_id"].tolist() == ["one/one3", "one/one5"]
    assert frame["split"].tolist() == ["val", "train"]
    assert [each.tolist() for each in rows] == [[3, 5]]
    reasons = {"test image": 2, "patient of a test image": 1, "identical to a test image": 1}
    assert counts["one"] == {"train": 1, "val": 1, "left_out": reasons}


def test_official_test_images_count_where_the_source_is_a_column():
    parts = ["train_val", "train_val", "test", "train_val"]
    split = [["train", "train", "", "val"]]
    assert pool([source("one", ["a", "b", "c", "d"], split, parts=parts)])[2]["one"]["left_out"] == {
        "test image": 1
    }
    assert pool([source("one", ["a", "b", "c", "d"], parts=parts)])[2]["one"]["left_out"] == {}


def test_sources_of_a_pool_stay_apart_and_ct_slices_out(tmp_path):
    patients = [str(number) for number in range(40)]
    views = ["frontal"] * 38 + ["ct", "lateral"]
    frame, rows, counts = pool([source("one", patients), source("two", patients, views=views, value=100)])
    assert counts["two"]["left_out"] == {"no radiograph": 1}
    assert [counts[name]["val"] for name in ("one", "two")] == [2, 2]
    assert frame["patient_id"].nunique() == len(frame) == 79
    assert frame.loc[frame["image_id"].str.startswith("one/"), "label:two"].isna().all()
    frame["view"] = "frontal"
    frame.to_parquet(tmp_path / "index.parquet")
    np.save(tmp_path / "images.npy", np.zeros((len(frame), 8, 8), np.uint8))
    data = MimicStudies(tmp_path / "index.parquet", tmp_path / "images.npy", None)
    assert {name: len(members) for name, members in data.splits.items()} == {"train": 75, "val": 4}
    assert data.label_names == ("one", "two")
    assert len(rows[1]) == 39


def test_a_source_with_nothing_to_train_on_is_one_line():
    with pytest.raises(UserError, match=r"no image of one is left to train on"):
        pool([source("one", ["a", "b"], [["test", "val"]])])


def test_reports_need_mimic():
    values = config.merge(read_files([CONFIG]), {"methods": {"refers": {"pretrain": {"sources": ["nih"]}}}})
    with pytest.raises(
        UserError, match=r"methods\.refers\.pretrain\.sources: refers pairs images with reports"
    ):
        check(values)
    with pytest.raises(UserError, match=r"no source 'nig'"):
        check(config.merge(read_files([CONFIG]), {"methods": {"c2l": {"pretrain": {"sources": ["nig"]}}}}))


# ---- the children's pneumonia set


def test_pneumonia_reads_kind_and_number(tmp_path):
    folder = make_pneumonia(
        tmp_path,
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0115-0001-0002.jpeg",
        "train/PNEUMONIA/person7_bacteria_24.jpeg",
        "train/PNEUMONIA/person7_virus_25.jpeg",
        "val/PNEUMONIA/person7_bacteria_26.jpeg",
        "test/PNEUMONIA/person7_virus_27.jpeg",
    )
    frame = adapter("pneumonia")(folder)[0].set_index("image_id")
    assert frame["patient_id"].to_dict() == {
        "train/IM-0115-0001.jpeg": "normal-115",
        "train/NORMAL2-IM-0115-0001-0002.jpeg": "normal-115",
        "train/person7_bacteria_24.jpeg": "bacteria-7",
        "train/person7_virus_25.jpeg": "virus-7",
        "val/person7_bacteria_26.jpeg": "bacteria-7",
        "test/person7_virus_27.jpeg": "virus-7",
    }
    assert frame["split"].value_counts().to_dict() == {"train_val": 5, "test": 1}
    assert frame["label:Pneumonia"].tolist().count(0) == 2
    viral = frame["label:Viral"]
    assert (viral.isna().sum(), viral.sum()) == (2, 2)


def test_pneumonia_of_one_picture_is_one_person(tmp_path):
    folder = make_pneumonia(
        tmp_path, "train/PNEUMONIA/person1_bacteria_1.jpeg", "train/PNEUMONIA/person3_bacteria_3.jpeg"
    )
    twin = folder / "chest_xray/train/PNEUMONIA/person2_bacteria_2.jpeg"
    twin.write_bytes((folder / "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg").read_bytes())
    patients = adapter("pneumonia")(folder)[0].set_index("image_id")["patient_id"]
    assert patients["train/person1_bacteria_1.jpeg"] == patients["train/person2_bacteria_2.jpeg"]
    assert patients.nunique() == 2


def test_pneumonia_refuses_a_name_that_says_nothing(tmp_path):
    folder = make_pneumonia(tmp_path, "train/PNEUMONIA/person7_fungus_24.jpeg")
    with pytest.raises(UserError, match=r"person7_fungus_24\.jpeg: its name has not"):
        adapter("pneumonia")(folder)


@pytest.fixture(scope="module")
def children():
    return adapter("pneumonia")(REAL)[0]


@real
def test_the_real_download(children):
    assert children["split"].value_counts().to_dict() == {"train_val": 5216, "test": 624}
    assert children.groupby("split")["label:Viral"].sum().to_dict() == {"train_val": 1345, "test": 148}
    assert children.groupby("split")["label:Pneumonia"].sum().to_dict() == {"train_val": 3875, "test": 390}
    sets = children.groupby("patient_id")["split"].nunique()
    shared = sets[sets > 1].index
    assert len(shared) == 94
    assert shared.str.startswith("normal-").all()


@real
@pytest.mark.parametrize("name", ["pneumonia", "viral", "pneumonia_random"])
def test_the_splits_of_the_real_study_leak_nothing_that_they_do_not_accept(children, name):
    """Twins are one person, so that nobody's picture is in two sets; a digest of the file stands for the picture."""
    entry = check(read_files([CONFIG, ROOT / "config/real.yaml"])).dataset(name)
    settings = config.Split(
        dataset=name, classes=entry.classes, views=["frontal"], **config.to_dict(entry.split)
    )
    split, report = make_split(children, settings)
    if entry.split.kind == "official":
        assert report["images"]["test"] == {"pneumonia": 624, "viral": 390}[name]
    paths = children["path"].tolist()
    store = np.array([[[*bytes.fromhex(file_digest(REAL / path))]] for path in paths], np.uint8)
    found = check_leakage(split, children["view"], store, entry.accept, name)
    assert found["duplicates_across_sets"] == 0
    assert found["duplicates_within_sets"] >= 28
    assert found["patients_across_sets"] == (94 if name == "pneumonia" else 0)


def test_the_real_study_has_its_rows_and_its_anchors():
    study = check(read_files([CONFIG, ROOT / "config/real.yaml"]))
    assert [str(cell) for cell in study.cells] == [
        f"{name}/{ratio}" for name in ("pneumonia", "viral") for ratio in (1, 10, 100)
    ]
    assert len(study.seeds) == 3
    specs = Specs(Availability(study, AssumeAvailable()))
    table = specs.table("table1")
    printed = {
        (number["column"], number["auc"])
        for about in table["independent"].values()
        for number in about["numbers"]
    }
    assert printed == {
        ("pneumonia/100", 89.9),
        ("pneumonia/100", 95.5),
        ("pneumonia/100", 96.9),
        ("pneumonia/100", 94.7),
        ("viral/100", 91.1),
        ("viral/100", 95.2),
    }
    assert all(row["methods"][0] in study.methods for row in table["rows"])
    against = specs.table_tests("against_random")
    assert {test[1] for test in against} == {"random"}
    assert len(against) == 6 * len(study.table("against_random").rows)
    assert specs.credits()
    assert study.config.claims is None
