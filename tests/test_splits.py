import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refers.config import Split, load
from refers.data import leakage
from refers.data.adapters import adapter, nih
from refers.data.released_lists import read_list
from refers.data.splits import draw_subset, hash_order, make_split, minority_warnings
from refers.errors import UserError

SHARED = Path(__file__).parents[2] / "shared/data"
RELEASED = SHARED / "refers-released/DataProcessed"
SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"
real = pytest.mark.skipif(not SHARED.exists(), reason="real data are not here")
TWO = ["A", "B"]


def index(patients: list[str], split: str | list[str] = "", seed: int = 0) -> pd.DataFrame:
    """An index of one image for each entry of `patients`, with classes A and B."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image_id": [f"i{row:04d}.png" for row in range(len(patients))],
            "patient_id": patients,
            "view": "frontal",
            "split": split,
            "label:A": rng.integers(0, 2, len(patients)).astype(np.float32),
            "label:B": (rng.random(len(patients)) < 0.2).astype(np.float32),
        }
    )


def plan(**values) -> Split:
    return load(Split, {"dataset": "toy", "kind": "random", "classes": TWO, "views": ["frontal"]} | values)


def write_lists(folder: Path, **lists: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return folder


@settings(max_examples=60)
@given(st.lists(st.integers(1, 4), min_size=40, max_size=60), st.integers(0, 9))
def test_a_random_split_keeps_every_patient_on_one_side(images, seed):
    """A patient has at most a tenth of the images: no set, validation's tenth neither, can be passed over."""
    patients = [f"p{number}" for number, count in enumerate(images) for _ in range(count)]
    frame, report = make_split(index(patients), plan(seed=seed))
    assert frame.groupby("patient_id")["split"].nunique().max() == 1
    assert report["patients_across_sets"] == 0
    assert sum(report["images"].values()) == len(patients) == len(frame)
    assert frame["row"].tolist() == list(range(len(patients)))


def test_a_random_split_has_its_shares_and_depends_on_dataset_and_seed():
    single = index([f"p{row}" for row in range(1000)])
    frame, report = make_split(single, plan())
    assert report["images"] == {"train": 700, "val": 100, "test": 200}
    assert make_split(single, plan())[0].equals(frame)
    for other in (plan(seed=1), plan(dataset="other")):
        assert not make_split(single, other)[0]["split"].equals(frame["split"])
    grouped = make_split(index([f"p{row // 4}" for row in range(1000)]), plan())[1]["images"]
    assert abs(grouped["train"] - 700) <= 4


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_every_set_has_its_share_of_the_patients_with_a_rare_label(positive, seed):
    """Forty patients of two hundred have the rarer label; where it was drawn blindly, validation had 0 to 9 of them."""
    patients = [f"p{number}" for number in range(200) for _ in range(1 + number % 3)]
    frame = index(patients)
    rare = frame["patient_id"].isin([f"p{number}" for number in range(40)])
    frame["label:A"] = np.float32(rare if positive else ~rare)
    split, report = make_split(frame, plan(classes=["A"], seed=seed))
    kind = "positive" if positive else "negative"
    found = {part: counts[kind] for part, counts in report["label_patients"]["A"].items()}
    assert found == {"train": 28, "val": 4, "test": 8}
    assert {part: counts[kind] for part, counts in report["labels"]["A"].items()} == {
        part: int((frame.loc[rows["row"], "label:A"] == positive).sum())
        for part, rows in split.groupby("split")
    }
    for part, share in zip(("train", "val", "test"), (0.7, 0.1, 0.2), strict=True):
        assert abs(report["images"][part] - share * len(frame)) <= 3, "the shares are shares of the images"


def test_several_classes_are_stratified_at_once():
    """Iterative stratification: the rarest class is exact, and patients that it placed count for the others."""
    rng = np.random.default_rng(3)
    frame = index([f"p{row}" for row in range(1000)]).drop(columns=["label:A", "label:B"])
    wanted = {"C": 0.03, "D": 0.1, "E": 0.3}
    for name, rate in wanted.items():
        frame[f"label:{name}"] = np.float32(rng.random(1000) < rate)
    _, report = make_split(frame, plan(classes=list(wanted)))
    assert report["images"] == {"train": 700, "val": 100, "test": 200}
    for name, parts in report["label_patients"].items():
        total = sum(counts["positive"] for counts in parts.values())
        for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
            assert abs(parts[part]["positive"] - share * total) <= 1, (name, part)


@pytest.mark.parametrize(
    ("patients", "sets"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (8, (5, 1, 2)), (17, (12, 2, 3))]
)
def test_few_patients_are_shared_out_by_largest_remainders_and_reach_every_set(patients, sets):
    frame = index([f"p{row}" for row in range(300)])
    frame["label:A"] = np.float32(np.arange(300) < patients)
    for seed in range(3):
        found = make_split(frame, plan(classes=["A"], seed=seed))[1]["label_patients"]["A"]
        assert tuple(counts["positive"] for counts in found.values()) == sets


def test_the_validation_part_of_an_official_split_is_stratified_too():
    frame = index([f"p{row}" for row in range(1000)], ["train_val"] * 800 + ["test"] * 200)
    frame["label:A"] = np.float32(np.arange(1000) % 20 == 0)
    found = make_split(frame, plan(kind="official", classes=["A"]))[1]["label_patients"]["A"]
    assert [counts["positive"] for counts in found.values()] == [35, 5, 10]


def test_few_patients_with_a_label_are_a_warning_that_names_set_class_and_count():
    frame = index([f"p{row // 2}" for row in range(200)])
    frame["label:A"] = np.float32(np.arange(200) >= 30)
    split, report = make_split(frame, plan(classes=["A"]))
    warnings = minority_warnings(report, 4, "toy")
    assert [
        re.findall(r"(\w+) has (\d+) patients \((\d+) images\) (\w+) for A", text) for text in warnings
    ] == [
        [("val", "2", "4", "negative")],
        [("test", "3", "6", "negative")],
    ]
    assert all(text.startswith("toy: ") and "fewer than 4" in text for text in warnings)
    assert minority_warnings(report, 2, "toy") == []
    store = np.arange(len(split) * 4, dtype=np.uint16).view(np.uint8).reshape(-1, 2, 4)
    found = leakage.check(split, frame["view"], store, (), "toy", 4)
    assert found["warnings"] == warnings
    assert found["label_patients"] == report["label_patients"]


def test_the_order_is_the_same_on_every_machine():
    assert hash_order(["a", "b", "c", "d", "e"], "nih", 0).tolist() == [
        0,
        2,
        3,
        1,
        4,
    ]  # sha256 of nih/0/a ...


def test_a_missing_image_moves_no_other_patient_far():
    patients = [f"p{row}" for row in range(500)]
    whole = index(patients)
    full = make_split(whole, plan())[0].set_index("patient_id")["split"]
    part = make_split(whole[:-5], plan())[0].set_index("patient_id")["split"]
    assert (full[part.index] != part).sum() <= 10


def test_official_lists_are_kept_and_train_val_is_cut_seven_to_one():
    patients = [f"p{row // 2}" for row in range(1000)]
    given = ["train_val" if row < 800 else "test" if row < 990 else "" for row in range(1000)]
    frame, report = make_split(index(patients, given), plan(kind="official"))
    assert report["images"] == {"train": 700, "val": 100, "test": 190}
    assert report["left_out"] == {"in no official list": 10}
    assert set(frame.loc[frame["split"] == "test", "row"]) == set(range(800, 990))
    assert report["patients_across_sets"] == 0


def test_official_parts_that_are_named_already_are_used_as_they_are():
    given = ["train"] * 30 + ["val"] * 10 + ["test"] * 20
    frame, _ = make_split(index([f"p{row}" for row in range(60)], given), plan(kind="official"))
    assert frame["split"].tolist() == given
    with pytest.raises(UserError, match="no official split"):
        make_split(index(["p1", "p2"]), plan(kind="official"))


def test_views_and_labels_that_do_not_fit_are_left_out_and_counted():
    frame = index([f"p{row}" for row in range(100)])
    frame.loc[:9, "view"] = "lateral"
    frame.loc[10:14, "label:A"] = np.nan
    frame.loc[15:17, "label:B"] = -1
    kept, report = make_split(frame, plan())
    assert report["left_out"] == {"view lateral": 10, "uncertain label": 3, "undefined label": 5}
    assert kept["row"].min() == 18
    assert make_split(frame, plan(classes=["B"], views=["frontal", "lateral"]))[1]["left_out"] == {
        "uncertain label": 3
    }


def checked(frame, accepted=(), store=None, views=None):
    frame = frame.assign(row=np.arange(len(frame)))
    if store is None:
        store = np.arange(len(frame) * 4, dtype=np.uint8).reshape(-1, 2, 2)
    views = pd.Series(["frontal"] * len(frame)) if views is None else pd.Series(views)
    return leakage.check(frame, views, store, accepted, "nih")


def test_a_patient_in_two_sets_is_named_unless_accepted():
    leaky = index(["p1", "p2", "p3", "p1", "p4"], ["train", "train", "val", "test", "test"])
    with pytest.raises(
        UserError, match=r"nih: patients in several sets: \S+ \(train\), \S+ \(test\); .*accept: \[patients\]"
    ):
        checked(leaky)
    report = checked(leaky, ["patients"])
    assert report["patients_across_sets"] == 1
    assert sum("1 patients" in warning for warning in report["warnings"]) == 1
    with pytest.raises(UserError, match="patients in several sets"):
        checked(leaky, ["duplicates"])


def test_a_case_of_leakage_is_shown_by_one_image_of_each_set():
    leaky = index(["p1"] * 6 + ["p2"], ["train"] * 5 + ["test", "val"])
    with pytest.raises(UserError, match=r"several sets: i0000\.png \(train\), i0005\.png \(test\);"):
        checked(leaky)


def test_the_same_picture_in_two_sets_is_found_by_its_content():
    frame = index(["p1", "p2", "p3", "p4"], ["train", "train", "val", "test"])
    store = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    store[1] = store[0]
    assert checked(frame, store=store)["duplicates_within_sets"] == 1
    store[3] = store[0]
    with pytest.raises(UserError, match="nih: duplicates in several sets"):
        checked(frame, store=store)
    assert checked(frame, ["duplicates"], store=store)["duplicates_across_sets"] == 1


def test_one_sided_classes_and_other_views_are_reported():
    frame = index(["p1", "p2", "p3", "p4"], ["train", "train", "test", "test"])
    frame["label:A"] = np.float32([1, 0, 1, 1])
    frame["label:B"] = np.float32([1, 0, 0, 1])
    report = checked(frame, views=["frontal", "lateral", "frontal", "other"])
    assert report["label_patients"]["B"]["train"] == {"positive": 1, "negative": 1}
    assert report["single_class"] == {"test": ["A"]}
    assert report["labels"]["A"]["test"] == {"positive": 2, "negative": 0}
    assert report["images"] == {"train": 2, "val": 0, "test": 2}
    assert report["views"] == {"train": {"frontal": 1, "lateral": 1}, "test": {"frontal": 1, "other": 1}}
    facts = [("test: A ", "AUC undefined"), ("train: 1 ", "lateral"), ("test: 1 ", "other")]
    for warning, (start, end) in zip(report["warnings"], facts, strict=True):
        assert warning.startswith(start)
        assert warning.endswith(end)


def test_an_empty_part_and_an_absent_class_are_said():
    few = index(["p1", "p2", "p3", "p4"], ["train", "train", "test", "val"])
    few[["label:A", "label:B"]] = np.float32([[1, 0], [0, 0], [1, 1], [1, 1]])
    report = make_split(few, plan(kind="official"))[1]
    (warning,) = report["warnings"]
    assert warning.startswith("B has no positive")
    assert report["labels"]["B"]["test"] == {"positive": 1, "negative": 0}
    for row, part in ((0, "train"), (2, "test"), (3, "val")):
        with pytest.raises(UserError, match=f"no {part} image"):
            make_split(few.drop(index=[row, 1] if part == "train" else row), plan(kind="official"))
    with pytest.raises(UserError, match="no class 'C'; the index has A, B"):
        make_split(few, plan(classes=["A", "C"]))


def test_released_lists_give_parts_and_labels(tmp_path):
    frame = index([f"p{row}" for row in range(6)])
    frame[["label:A", "label:B"]] = np.float32(0)
    lists = write_lists(
        tmp_path / "lists",
        train=["images_001/i0000.png 1 0", "gone.png 0 0", "i0001.jpg 0.0 1.0"],
        valid=["i0002.png 0 0"],
        test=["i0003.png 0 0", "i0004.png 1 1"],
    )
    kept, report = make_split(frame, plan(kind="released"), lists)
    assert kept["split"].tolist() == ["train", "train", "val", "test", "test"]
    assert kept[["label:A", "label:B"]].to_numpy().tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [1, 1]]
    assert report["left_out"] == {"listed, not in the index": 1, "in no released list": 1}
    assert report["label_disagreements"] == {"A": 2, "B": 2}


def test_lists_whose_labels_contradict_the_download_are_refused(tmp_path):
    frame = index([f"p{row}" for row in range(40)])
    frame["label:A"], frame["label:B"] = np.float32([0, 1] * 20), np.float32(0)

    def split(flipped: int, classes: int) -> dict:
        """The report, where the lists call that many images of A otherwise."""
        labels = frame["label:A"].astype(int).to_numpy().copy()
        labels[:flipped] = 1 - labels[:flipped]
        lines = [
            f"{name} {f'{1 - a} {a}' if classes == 1 else f'{a} 0'}"
            for name, a in zip(frame["image_id"], labels, strict=True)
        ]
        lists = write_lists(tmp_path / "lists", train=lines[4:], val=lines[:2], test=lines[2:4])
        return make_split(frame, plan(kind="released", classes=TWO[:classes]), lists)[1]

    for classes in (1, 2):
        assert split(5, classes)["label_disagreements"] == {"A": 5}
        with pytest.raises(UserError, match=r"lists: labels of A differ .* for 40 images, of 40 "):
            split(40, classes)
        with pytest.raises(UserError, match=r"labels of A differ .* for 10 images"):
            split(10, classes)


def test_files_of_one_list_that_differ_in_their_suffix_are_two_images(tmp_path):
    train = ["i0000.png 1 0", "i0000.jpg 0 1", "i0003.jpg 0 1"]
    lists = write_lists(tmp_path / "lists", train=train, val=["i0001.png 0 0"], test=["i0002.png 0 0"])
    kept, report = make_split(index(["p0", "p1", "p2", "p3"]), plan(kind="released"), lists)
    assert kept[["label:A", "label:B"]].to_numpy().tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert report["left_out"] == {"listed, not in the index": 1}


def test_one_image_under_two_names_is_in_two_lists(tmp_path):
    lists = write_lists(tmp_path / "lists", val=["i0000.jpg 0 0"], test=["i0001.png 0 0", "i0000.png 0 0"])
    with pytest.raises(UserError, match=r"test\.txt: entry 2: i0000\.png is already in val\.txt"):
        make_split(index(["p0", "p1", "p2"]), plan(kind="released"), lists)


def test_without_a_training_list_the_rest_of_the_index_trains(tmp_path):
    lists = write_lists(tmp_path / "lists", val=["i0002.png 0 0"], test=["i0003.png 1 0"])
    kept, report = make_split(index([f"p{row}" for row in range(6)]), plan(kind="released"), lists)
    assert kept["split"].tolist() == ["train", "train", "val", "test", "train", "train"]
    assert report["lists"]["train"] == "the rest of the index"
    assert any("no train.txt: the 4 images" in warning for warning in report["warnings"])
    write_lists(lists, train=["i0000.png 1 0", "i0001.png 0 0"])
    report = make_split(index([f"p{row}" for row in range(6)]), plan(kind="released"), lists)[1]
    assert not any("train.txt" in warning for warning in report["warnings"])


def test_binary_lists_are_one_hot_with_the_positive_class_last(tmp_path):
    lists = write_lists(
        tmp_path / "lists",
        train=["i0000.png 0 1", "a b.png 1 0", "i0002.png 1 0"],
        val=["i0003.png 1 0"],
        test=["i0001.png 1 0"],
    )
    names, labels = read_list(lists / "train.txt", 1)
    assert names == ["i0000.png", "a b.png", "i0002.png"]
    assert labels.tolist() == [[1], [0], [0]]
    kept, _ = make_split(index(["p0", "p1", "p2", "p3"]), plan(kind="released", classes=["A"]), lists)
    assert kept["label:A"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("classes", "line", "message"),
    [
        (1, "i0000.png 1 1", "row 2: expected an image and two one-hot columns"),
        (1, "i0000.png 1", "row 2: expected an image and two one-hot columns"),
        (2, "i0000.png 1 2", "row 2: expected an image and 2 labels"),
        (3, "i0000.png 1 0", "row 2: expected an image and 3 labels"),
    ],
)
def test_a_bad_row_of_a_list_is_named(tmp_path, classes, line, message):
    good = "x.png 1 0" if classes < 3 else "x.png 1 0 0"
    lists = write_lists(tmp_path / "lists", test=[good, line])
    with pytest.raises(UserError, match=rf"test\.txt: {message}"):
        read_list(lists / "test.txt", classes)


def test_lists_that_are_absent_or_name_an_image_twice_are_refused(tmp_path):
    frame = index(["p0", "p1"])
    with pytest.raises(UserError, match="needs the folder"):
        make_split(frame, plan(kind="released"))
    lists = write_lists(tmp_path / "lists", val=["i0000.png 0 0"])
    with pytest.raises(UserError, match=r"no test\.txt"):
        make_split(frame, plan(kind="released"), lists)
    write_lists(lists, test=["i0000.png 0 0"])
    with pytest.raises(UserError, match=r"i0000\.png is already in val\.txt"):
        make_split(frame, plan(kind="released"), lists)


@pytest.mark.parametrize("values", [{"fractions": (0.7, 0.2, 0.2)}, {"classes": []}, {"views": []}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UserError):
        plan(**values)


@pytest.mark.parametrize(
    ("excess", "accepted"), [(9e-7, True), (-9e-7, True), (1.1e-6, False), (-1.1e-6, False)]
)
def test_fractions_sum_to_one_within_a_millionth(excess, accepted):
    fractions = (0.7, 0.1, 0.2 + excess)
    if accepted:
        assert plan(fractions=fractions).fractions == fractions
    else:
        with pytest.raises(UserError, match="do not sum to 1"):
            plan(fractions=fractions)


def training(count: int, positives: dict[str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"row": np.arange(count), "image_id": [f"i{row}" for row in range(count)], "split": "train"}
    )
    rng = np.random.default_rng(1)
    for name, number in positives.items():
        frame[f"label:{name}"] = np.float32(0)
        frame.loc[rng.choice(count, number, replace=False), f"label:{name}"] = 1
    others = frame.assign(row=frame["row"] + count, image_id="t" + frame["image_id"], split="test")
    return pd.concat([frame, others], ignore_index=True)


@pytest.mark.parametrize("positives", [{"A": 500, "B": 3, "C": 1, "D": 0}, {"A": 2}, {"A": 998}])
@pytest.mark.parametrize("seed", range(5))
def test_subsets_are_nested_and_keep_every_class(positives, seed):
    split = training(1000, positives)
    drawn = {ratio: draw_subset(split, ratio, seed) for ratio in (1, 10, 100)}
    assert [len(drawn[ratio]) for ratio in (1, 10, 100)] == [10, 100, 1000]
    assert set(drawn[1]["row"]) < set(drawn[10]["row"]) < set(drawn[100]["row"]) == set(range(1000))
    labels = split.set_index("image_id").loc[drawn[1]["image_id"]].filter(like="label:")
    for name, number in positives.items():
        assert (labels[f"label:{name}"] == 1).any() == (number > 0)
    if len(positives) == 1:
        assert (labels["label:A"] == 0).any()


def test_a_subset_is_deterministic_and_changes_with_the_seed():
    split = training(1000, {"A": 300, "B": 100})
    assert draw_subset(split, 10, 3).equals(draw_subset(split.sample(frac=1, random_state=0), 10, 3))
    assert not draw_subset(split, 10, 3).equals(draw_subset(split, 10, 4))


def test_training_seeds_may_have_subsets_of_their_own_each_nested():
    split = training(1000, {"A": 300, "B": 100})
    rows = {seed: set(draw_subset(split, 10, 0, seed)["row"]) for seed in (None, 0, 1)}
    assert len({frozenset(each) for each in rows.values()}) == 3
    for seed, drawn in rows.items():
        assert set(draw_subset(split, 1, 0, seed)["row"]) < drawn
        assert set(draw_subset(split, 100, 0, seed)["row"]) == set(range(1000))


def test_a_subset_is_a_fair_draw_outside_the_rare_classes():
    split = training(4000, {"A": 2000, "B": 5})
    shares = [
        split.set_index("row").loc[draw_subset(split, 10, seed)["row"], "label:A"].mean()
        for seed in range(20)
    ]
    assert abs(np.mean(shares) - 0.5) < 0.03


@pytest.mark.parametrize("ratio", [0, -1, 101])
def test_a_ratio_is_a_percentage(ratio):
    with pytest.raises(UserError, match="percentage"):
        draw_subset(training(10, {"A": 5}), ratio, 0)


def run(script: str, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / f"{script}.py", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_scripts_from_index_to_subset(tmp_path):
    index([f"p{row // 2}" for row in range(400)]).to_parquet(tmp_path / "index.parquet")
    settings = json.dumps({"dataset": "toy", "kind": "random", "classes": TWO, "views": ["frontal"]})
    split, report = tmp_path / "split.parquet", tmp_path / "split.json"
    done = run(
        "split_dataset",
        "--index",
        tmp_path / "index.parquet",
        "--config",
        settings,
        "--out",
        split,
        "--report",
        report,
    )
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(split)
    assert frame.columns.tolist() == ["row", "image_id", "patient_id", "split", "label:A", "label:B"]
    assert frame.dtypes[["row", "label:A"]].tolist() == [np.int64, np.float32]
    assert json.loads(report.read_text())["images"] == frame["split"].value_counts().to_dict()
    subset = tmp_path / "subset_10pct.csv"
    options = ("--ratio", 10, "--seed", 0, "--out", subset, "--report", tmp_path / "subset_10pct.json")
    done = run("label_subset", "--split", split, *options)
    assert done.returncode == 0, done.stderr
    drawn = pd.read_csv(subset)
    said = json.loads((tmp_path / "subset_10pct.json").read_text())
    assert said["sha256"] == hashlib.sha256(subset.read_bytes()).hexdigest()
    assert (said["ratio"], said["seed"], said["images"]) == (10, 0, len(drawn))
    labels = frame.set_index("row").loc[drawn["row"]]
    assert said["positives"] == {name: int(labels[f"label:{name}"].sum()) for name in TWO}
    assert drawn.columns.tolist() == ["row", "image_id"]
    assert len(drawn) == round((frame["split"] == "train").sum() / 10)
    own = tmp_path / "own.csv"
    options = (*options[:4], "--training-seeds", 0, 4, "--out", own, "--report", tmp_path / "own.json")
    assert run("label_subset", "--split", split, *options).returncode == 0
    lists, said = pd.read_csv(own), json.loads((tmp_path / "own.json").read_text())
    assert lists.groupby("seed")["row"].nunique().to_dict() == {0: len(drawn), 4: len(drawn)}
    assert said["images"] == len(drawn)
    for seed, rows in lists.groupby("seed")["row"]:
        assert set(rows) != set(drawn["row"])
        labels = frame.set_index("row").loc[rows]
        assert said["positives"][str(seed)] == {name: int(labels[f"label:{name}"].sum()) for name in TWO}
    bad = run(
        "split_dataset", "--index", split, "--config", '{"seeds": 1}', "--out", split, "--report", report
    )
    assert bad.returncode == 1
    assert "unknown key 'seeds'" in bad.stderr


@real
def test_the_authors_nih_split_of_all_images(monkeypatch):
    names = pd.read_csv(SHARED / "nih/Data_Entry_2017_v2020.csv", usecols=["Image Index"])["Image Index"]
    monkeypatch.setattr(
        nih, "_images", lambda folder: ({name: f"images_001/{name}" for name in names}, Counter())
    )
    frame, _ = adapter("nih")(SHARED / "nih")
    nih_plan = {"dataset": "nih", "classes": list(nih.CLASSES), "views": ["frontal"]}
    released = make_split(frame, Split(kind="released", **nih_plan), RELEASED / "NIH_ChestX-ray")[1]
    assert released["images"] == {"train": 78468, "val": 11219, "test": 22433}
    assert released["patients"] == {"train": 21528, "val": 3090, "test": 6187}
    assert released["patients_across_sets"] == 0
    assert released["labels"]["Hernia"]["test"]["positive"] == 42
    assert released["labels"]["Pneumonia"]["val"]["positive"] == 133
    official, report = make_split(frame, Split(kind="official", **nih_plan))
    assert report["images"] == {"train": 75709, "val": 10815, "test": 25596}
    assert report["patients"]["test"] == 2797
    subset = draw_subset(official, 1, 0)
    assert len(subset) == 757
    assert set(subset["row"]) < set(draw_subset(official, 10, 0)["row"])


@real
@pytest.mark.parametrize(
    ("layout", "lists", "classes", "views", "images"),
    [
        ("nih", "NIH_ChestX-ray", nih.CLASSES, ["frontal"], (473, 48, 534)),
        (
            "covid",
            "COVID-19_Image_Data_Collection",
            ["COVID-19"],
            ["frontal", "lateral", "ct", "other"],
            (322, 25, 83),
        ),
        ("covid", "COVID-19_Image_Data_Collection", ["COVID-19"], ["frontal"], (219, 19, 67)),
    ],
)
def test_the_authors_lists_on_the_real_images_that_are_here(layout, lists, classes, views, images):
    frame, _ = adapter(layout)(SHARED / layout)
    settings = Split(dataset="x", kind="released", classes=list(classes), views=views)
    kept, report = make_split(frame, settings, RELEASED / lists)
    assert tuple(report["images"].values()) == images
    assert report["patients_across_sets"] == 0
    assert kept.filter(like="label:").isin([0, 1]).all(axis=None)


@real
@pytest.mark.parametrize(
    ("folder", "name", "classes", "rows", "positives"),
    [
        ("VinBigData_Chest_X-ray", "train", 14, 10500, 2139),
        ("VinBigData_Chest_X-ray", "test", 14, 3000, 613),
        ("Shenzhen_Tuberculosis", "valid", 1, 67, 34),
        ("COVID-19_Image_Data_Collection", "train", 1, 664, 356),
    ],
)
def test_every_released_list_is_read(folder, name, classes, rows, positives):
    names, labels = read_list(RELEASED / folder / f"{name}.txt", classes)
    assert len(set(names)) == len(labels) == rows
    assert labels[:, 0].sum() == positives
