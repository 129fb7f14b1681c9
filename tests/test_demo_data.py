"""The generated datasets: official headers, reproducible bytes, and pictures, labels and reports that agree."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from refers.data.adapters import adapter
from refers.data.images import decode
from refers.demo.anatomy import SIZE
from refers.demo.dataset import SOURCES
from refers.demo.findings import CATALOGUE, EITHER, place
from refers.demo.generate import generate, make_plan
from refers.demo.reports import CHEXPERT, DENIALS, WORDS, write_report
from refers.demo.style import Picture, dicom_bytes, render
from refers.errors import UserError

SHARED = Path(__file__).parents[2] / "shared/data"
SCALE = 0.02


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    generate(root, seed=3, scale=SCALE, workers=1)
    return root


def header(path: Path) -> bytes:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).split(b"\n")[0]


def table(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.skipif(not SHARED.exists(), reason="official files are not here")
@pytest.mark.parametrize(
    ("ours", "official"),
    [
        ("mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "mini-mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz"),
        ("mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz", "mini-mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz"),
        ("mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz", "mini-mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz"),
        ("nih/Data_Entry_2017_v2020.csv", "nih/Data_Entry_2017_v2020.csv"),
        ("nih/BBox_List_2017.csv", "nih/BBox_List_2017.csv"),
        ("shenzhen/shenzhen_metadata.csv", "shenzhen/shenzhen_metadata.csv"),
        ("covid/metadata.csv", "covid/metadata.csv"),
    ],
)  # fmt: skip
def test_headers_equal_the_official_ones(data, ours, official):
    assert header(data / ours) == header(SHARED / official)


def test_bytes_depend_on_the_seed_alone(data, tmp_path):
    again = generate(tmp_path / "two", seed=3, scale=SCALE, workers=2)
    assert contents(tmp_path / "two") == contents(data)
    assert again["sha256"] != generate(tmp_path / "other", seed=4, scale=SCALE)["sha256"]


def test_folders_of_others_are_never_replaced_and_our_own_are(data, tmp_path):
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih/Data_Entry_2017_v2020.csv").write_text("somebody's download")
    with pytest.raises(UserError, match="did not write"):
        generate(tmp_path, seed=0, scale=SCALE)
    assert contents(tmp_path) == {"nih/Data_Entry_2017_v2020.csv": b"somebody's download"}
    root = tmp_path / "ours"
    generate(root, seed=4, scale=SCALE)
    generate(root, seed=3, scale=SCALE)
    assert contents(root) == contents(data)


@pytest.mark.parametrize("source", SOURCES)
def test_adapters_read_what_was_drawn(data, source):
    frame, _ = adapter(source)(data / source)
    plan = make_plan(source, 3, SCALE)
    assert len(frame) == len(plan.pictures)
    paths = dict(zip((str(Path(p.path).relative_to(source)) for p in plan.pictures), plan.truth, strict=True))
    assert set(frame["path"]) == set(paths)
    if source in ("nih", "vinbigdata"):
        for row in frame.to_dict("records"):
            names = {label.replace("Nodule/Mass", "Nodule-Mass") for label in paths[row["path"]]}
            assert {key[6:] for key, value in row.items() if key.startswith("label:") and value == 1} == names


def test_official_lists_and_splits_keep_patients_apart(data):
    lists = [set((data / f"nih/{name}.txt").read_text().split()) for name in ("train_val_list", "test_list")]
    assert not lists[0] & lists[1]
    assert lists[0] | lists[1] == {
        row["Image Index"] for row in table(data / "nih/Data_Entry_2017_v2020.csv")
    }
    assert not {name[:8] for name in lists[0]} & {name[:8] for name in lists[1]}
    parts: dict[str, set[str]] = {}
    for row in table(data / "mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz"):
        parts.setdefault(row["subject_id"], set()).add(row["split"])
    assert {part for found in parts.values() for part in found} == {"train", "validate", "test"}
    assert all(len(found) == 1 for found in parts.values())


def study_reports(number: int = 300):
    rng = np.random.default_rng(0)
    keys = list(CATALOGUE)
    for _ in range(number):
        chosen = rng.choice(keys, size=int(rng.integers(0, 4)), replace=False)
        places = [place(str(key), rng) for key in chosen]
        yield places, write_report(places, ["frontal"], rng)


def labelled_part(text: str) -> str:
    """The impression, or the findings where there is none: the last section."""
    return re.split("findings and impression: |impression: |conclusion: |findings: ", text)[-1]


def test_reports_labels_and_findings_agree():
    seen = set()
    for places, report in study_reports():
        if not report.labels:  # one of the few reports that say nothing
            continue
        text = " ".join(report.text.split()).lower()
        if "findings" in text:
            for item in places:
                assert any(word in text for word in WORDS[item.finding]), (item, text)
                assert item.side in text or item.side == "bilateral"
            assert ("possible" in text or "cannot be excluded" in text) == bool(report.hedged)
        labelled = labelled_part(text)
        stated = [item for item in places if any(word in labelled for word in WORDS[item.finding])]
        certain = [item for item in stated if item.finding not in report.hedged]
        positive = {name for item in certain for name in CATALOGUE[item.finding].chexpert}
        if any("lung opacity" in said and "possible" not in said for said in labelled.split(". ")):
            positive.add("Lung Opacity")
        hedged = {name for item in stated for name in CATALOGUE[item.finding].chexpert} - positive
        denied = {name for name, lines in DENIALS.items() if any(line.lower() in labelled for line in lines)}
        expected = dict.fromkeys(positive, 1.0) | dict.fromkeys(hedged, -1.0) | dict.fromkeys(denied, 0.0)
        if not (positive | hedged) - {"Support Devices"}:
            expected["No Finding"] = 1.0
        assert not denied & (positive | hedged)
        assert report.labels == expected, text
        assert hedged <= set(CHEXPERT)
        assert max(map(len, report.text.splitlines())) <= 78
        seen |= set(report.labels.values())
    assert seen == {1.0, -1.0, 0.0}


def test_reports_carry_what_labels_do_not():
    """Most findings are named in the text of a report and have no label of their own in it."""
    named = labelled = 0
    for places, report in study_reports(1000):
        text = " ".join(report.text.split()).lower()
        for item in places:
            own = set(CATALOGUE[item.finding].chexpert) - {"Lung Opacity"}
            named += any(word in text for word in WORDS[item.finding])
            labelled += any(report.labels.get(name) == 1.0 for name in own)
    assert labelled < named / 2


def test_the_chexpert_table_states_the_labels_of_the_reports(data):
    plan = make_plan("mimic", 3, SCALE)
    truth = {Path(p.path).parts[-2]: labels for p, labels in zip(plan.pictures, plan.truth, strict=True)}
    rows = table(data / "mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz")
    assert {f"s{row['study_id']}" for row in rows} == set(truth)
    for row in rows:
        assert {name: float(row[name]) for name in CHEXPERT if row[name]} == truth[f"s{row['study_id']}"]


@pytest.mark.parametrize("key", CATALOGUE)
def test_a_finding_changes_the_picture_inside_its_boxes_on_its_side(key):
    rng = np.random.default_rng(1)
    for attempt in range(4):
        item = place(key, rng)
        base = Picture("x.png", "frontal", "nih", (1, attempt), (2, attempt))
        without, _ = render(base)
        with_it, boxes = render(Picture("x.png", "frontal", "nih", (1, attempt), (2, attempt), (item,)))
        assert len(boxes[0]) == (2 if item.side == "bilateral" else 1)
        change = np.abs(with_it - without)
        inside = np.zeros_like(change, bool)
        for left, top, right, bottom in boxes[0]:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            inside[round(top * SIZE) : round(bottom * SIZE), round(left * SIZE) : round(right * SIZE)] = True
            if item.side in EITHER and key != "support_device":  # the patient's left is the image's right
                assert ((left + right) / 2 > 0.5) == (item.side == "left"), item
        assert change.max() > 0.05
        if key != "emphysema":  # its lungs change as a whole, diaphragm and heart too
            assert change[inside].mean() > 3 * change[~inside].mean()


@pytest.mark.parametrize("key", CATALOGUE)
def test_a_finding_shows_on_a_lateral_view_too(key):
    item = place(key, np.random.default_rng(2))
    pictures = [
        render(Picture("x.png", "lateral", "nih", (1, 1), (2, 1), places))[0] for places in ((), (item,))
    ]
    assert np.abs(pictures[1] - pictures[0]).max() > 0.05


def test_nih_boxes_lie_in_the_picture_around_the_finding(data):
    rows = list(csv.reader(io.StringIO((data / "nih/BBox_List_2017.csv").read_text())))[1:]
    entries = {
        row["Image Index"]: row["Finding Labels"] for row in table(data / "nih/Data_Entry_2017_v2020.csv")
    }
    tests = set((data / "nih/test_list.txt").read_text().split())
    drawn = {Path(p.path).name: p for p in make_plan("nih", 3, SCALE).pictures}
    assert rows
    for name, label, *numbers in rows:
        x, y, width, height = map(float, numbers)
        assert name in tests
        assert label.replace("Infiltrate", "Infiltration") in entries[name].split("|")
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert max(x + width, y + height) <= 1024
        _, boxes = render(drawn[name])
        corners = [(left * 1024, top * 1024) for sites in boxes for left, top, _, _ in sites]
        assert any(np.allclose((x, y), corner) for corner in corners)


def test_vinbigdata_has_three_readers_an_image_and_no_box_without_a_finding(data):
    readers: dict[str, set[str]] = {}
    for row in table(data / "vinbigdata/train.csv"):
        readers.setdefault(row["image_id"], set()).add(row["rad_id"])
        assert (row["class_id"] == "14") == (row["class_name"] == "No finding") == (row["x_min"] == "")
        if row["x_min"]:
            assert 0 <= float(row["x_min"]) < float(row["x_max"]) <= SIZE
            assert 0 <= float(row["y_min"]) < float(row["y_max"]) <= SIZE
    assert all(len(found) == 3 for found in readers.values())
    assert set(readers) == {path.stem for path in (data / "vinbigdata/train").glob("*.dicom")}


def test_dicom_photometric_variants_decode_to_the_same_picture(tmp_path):
    pixels, _ = render(Picture("x.dicom", "frontal", "vinbigdata", (1, 1), (2, 1)))
    stored = np.rint(pixels * 4095).astype(np.uint16)
    for inverted in (False, True):
        (tmp_path / f"{inverted}.dicom").write_bytes(dicom_bytes(stored, inverted, "x"))
    plain, inverted = (decode(tmp_path / f"{name}.dicom").astype(int) for name in (False, True))
    assert np.abs(plain - inverted).max() <= 1
    assert np.corrcoef(plain.ravel(), pixels.ravel())[0, 1] > 0.999


def test_some_reports_and_rows_give_the_funnels_something_to_count():
    plan = make_plan("mimic", 0, 0.2)
    texts = [text.decode() for name, text in plan.files([]).items() if name.endswith(".txt")]
    assert any("FINDINGS:" not in text and "IMPRESSION:" in text for text in texts)
    assert any(not labels for labels in plan.truth)
    assert any("CONCLUSION" in text.upper() for text in texts)
    rows = list(csv.DictReader(io.StringIO(make_plan("covid", 0).files([])["covid/metadata.csv"].decode())))
    assert any(row["filename"].endswith(".nii.gz") for row in rows)
    assert {"CT", "X-ray"} == {row["modality"] for row in rows}


def test_demo_json_states_seed_counts_and_hash(data):
    content = json.loads((data / "demo.json").read_text())
    assert content["seed"] == 3
    assert len(content["sha256"]) == 64
    for source in SOURCES:
        suffixes = (".png", ".jpg", ".jpeg", ".dicom")
        images = [path for path in (data / source).rglob("*") if path.suffix in suffixes]
        assert content["sources"][source]["images"] == len(images)
