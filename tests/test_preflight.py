"""Preflight: none, some or all of the data, wrong totals, unreadable images, and what it says to do."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import expect_golden, make_mimic, make_nih, write_dicom, write_text
from PIL import Image
from refers import config
from refers.config.study import StudyConfig
from refers.data.adapters import adapter
from refers.data.images import WINDOW_IGNORED
from refers.data.leakage import near_copies, thumbnail
from refers.data.source_check import decode_all, report_line
from refers.data.splits import make_split
from refers.study import preflight
from refers.study.study import Study

ROOT = Path(__file__).parents[1]


def merged(*values):
    """A study of which some entries may be left out, so that its references are not checked."""
    return Study(config.load(StudyConfig, config.merge(*values)))


def study_of(folder, expected=None, **changes):
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    source = values["sources"]["shenzhen"] | {"expected": expected}
    values["sources"] = {"shenzhen": source}
    values["study"] |= {"methods": ["imagenet"], "cells": [{"dataset": "shenzhen", "ratios": [10, 100]}]}
    return merged(values, {"data_root": str(folder)}, changes)


@pytest.fixture
def shenzhen(tmp_path):
    """Five readable images of the Kaggle layout, two of them with tuberculosis; the table lists one more."""
    folder = tmp_path / "shenzhen/images"
    folder.mkdir(parents=True)
    lines = ["study_id,sex,age,findings"]
    for number in range(1, 7):
        positive = number > 3
        name = f"CHNCXR_{number:04d}_{int(positive)}.png"
        lines.append(f"{name},Male,40,{'PTB' if positive else 'normal'}")
        if number < 6:
            grey = np.random.default_rng(number).integers(0, 255, (20, 24), dtype=np.uint8)
            Image.fromarray(grey).save(folder / name)
    (tmp_path / "shenzhen/shenzhen_metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def look(folder, full=False, **options):
    """The report and its first line, which is the source's."""
    steps = []
    found = preflight.report(study_of(folder, **options), full, 1, steps.append)
    assert len(steps) == 1
    assert "shenzhen" in steps[0]
    return found, found["lines"][0]


def test_nothing_here_says_where_to_get_it(tmp_path):
    _, line = look(tmp_path, expected={"images": 662})
    assert (line["state"], line["expected"], line["found"]) == ("absent", 662, 0)
    files = "shenzhen_metadata.csv or ClinicalReadings/"
    images = "images/ or images/images/ or CXR_png/"
    origin = r"https://www.kaggle.com/raddar/tuberculosis-chest-xrays-shenzhen \(4 GB; a Kaggle account\)"
    assert re.fullmatch(f"place {files} .* {images} below {tmp_path}/shenzhen; .* {origin}", line["next"])


def test_a_download_one_folder_too_deep_is_found(shenzhen):
    deep = shenzhen / "shenzhen/tuberculosis-chest-xrays-shenzhen/download"
    deep.mkdir(parents=True)
    (shenzhen / "shenzhen/shenzhen_metadata.csv").rename(deep / "shenzhen_metadata.csv")
    _, line = look(shenzhen)
    assert line["state"] == "absent"
    assert line["next"].startswith("place shenzhen_metadata.csv or ClinicalReadings/ below")
    assert f"{deep} to {shenzhen}/shenzhen" in line["next"]


def test_a_part_is_counted_and_the_rest_named(shenzhen):
    _, line = look(shenzhen, expected={"images": 6, "patients": 6, "labels": {"Tuberculosis": 3}})
    assert (line["state"], line["found"], line["labels"]) == ("partial", 5, {"Tuberculosis": (2, 3)})
    assert f"{shenzhen}/shenzhen" in line["next"]
    (remark,) = line["remarks"]  # a part is not held against the published totals
    assert remark.startswith("1 images of the official table")


def complete(folder):
    table = folder / "shenzhen/shenzhen_metadata.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("expected", "remarks"),
    [
        ({"images": 5, "patients": 5, "labels": {"Tuberculosis": 2}}, []),
        ({"images": 5, "patients": 4}, ["5 patients, 4 published"]),
        ({"images": 5, "labels": {"Tuberculosis": 3}}, ["Tuberculosis: 2 positive, 3 published"]),
        ({"images": 5, "splits": {"test": 3}}, ["official test: 0 images, 3 published"]),
        ({"images": 5, "labels": {"Goitre": 1}}, ["Goitre: 0 positive, 1 published"]),
        (None, []),
    ],
)
def test_totals_are_held_against_the_published_ones(shenzhen, expected, remarks):
    complete(shenzhen)
    _, line = look(shenzhen, expected=expected)
    assert (line["state"], line["remarks"]) == ("complete", remarks)
    assert ("docs/data.md" in line["next"]) == bool(remarks)
    assert line["labels"]["Tuberculosis"] == (2, (expected or {}).get("labels", {}).get("Tuberculosis"))


def test_only_a_full_look_finds_what_cannot_be_decoded(shenzhen):
    complete(shenzhen)
    path = shenzhen / "shenzhen/images/CHNCXR_0002_0.png"
    path.write_bytes(path.read_bytes()[:-60])
    _, line = look(shenzhen)
    assert (line["state"], line["unreadable"], line["bad"]) == ("complete", None, [])
    _, line = look(shenzhen, full=True)
    assert (line["state"], line["unreadable"]) == ("broken", 1)
    ((name, reason),) = line["bad"]
    assert name == "images/CHNCXR_0002_0.png"
    assert reason.startswith("cannot be decoded (")
    assert f"download 1 unreadable images below {shenzhen}/shenzhen again: {name}: {reason}" == line["next"]
    _, line = look(shenzhen, full=True, images={"tolerance": 0.5})
    assert (line["state"], line["unreadable"]) == ("complete", 1)
    assert "images.tolerance" in line["remarks"][0]


def test_of_many_unreadable_images_the_text_names_a_few_and_a_list_all(shenzhen, snakemake):
    complete(shenzhen)
    for path in (shenzhen / "shenzhen/images").iterdir():
        path.write_bytes(b"")
    _, line = look(shenzhen)
    assert (line["state"], line["unreadable"], line["next"].count(".png: ")) == ("broken", 5, 3)
    assert re.search(r"2 more, .*unreadable\.csv", line["next"])
    place = f"pathvars={{results: {shenzhen}/out, logs: {shenzhen}/logs, benchmarks: {shenzhen}/logs}}"
    done = snakemake("preflight", "--cores", 1, "--config", f"data_root={shenzhen}", place)
    assert done.code == 1
    assert "shenzhen: found but broken" in done.output
    listed = pd.read_csv(shenzhen / "logs/unreadable.csv")
    assert listed["source"].tolist() == ["shenzhen"] * 5
    assert listed["path"].tolist() == [f"images/CHNCXR_{n:04d}_{int(n > 3)}.png" for n in range(1, 6)]


def test_sets_with_few_patients_of_a_label_are_a_warning_before_any_work(shenzhen):
    _, line = look(shenzhen)
    assert line["splits"] == [
        "shenzhen: the random split has no val image (left out: nothing); place more images, or use other fractions"
        " or another split"
    ]
    table = shenzhen / "shenzhen/shenzhen_metadata.csv"
    lines = [
        f"CHNCXR_{n:04d}_{int(n > 90)}.png,Male,40,{'PTB' if n > 90 else 'normal'}" for n in range(1, 121)
    ]
    table.write_text("study_id,sex,age,findings\n" + "\n".join(lines))
    for path in (shenzhen / "shenzhen/images").glob("*.png"):
        path.unlink()
    for name in lines:
        Image.new("L", (4, 4)).save(shenzhen / "shenzhen/images" / name.split(",")[0])
    found, line = look(shenzhen)
    assert line["splits"] == [
        f"shenzhen: {part} has {count} patients ({count} images) {kind} for Tuberculosis, fewer than 10"
        " (study.minority_patients)"
        for part, count, kind in (("val", 3, "positive"), ("val", 9, "negative"), ("test", 6, "positive"))
    ]
    assert "warning: shenzhen: val has 3 patients" in preflight.to_text(found)
    assert look(shenzhen, study={"minority_patients": 3})[1]["splits"] == []


def blotches(seed, side=160):
    """A picture with structure of every scale, as (side, side) uint8."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.uniform(0, 255, (n, n)).astype(np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        for n in (4, 9, 20)
    ]
    return np.clip(sum(np.asarray(layer) for layer in layers) / 3, 0, 255).astype(np.uint8)


def shrunk_and_encoded_anew(grey):
    with io.BytesIO() as opened:
        Image.fromarray(grey).resize((60, 70)).save(opened, "JPEG", quality=30)
        return np.asarray(Image.open(opened))


def test_only_a_full_look_warns_of_copies_in_two_sets(shenzhen):
    folder = shenzhen / "shenzhen"
    names = [f"CHNCXR_{n:04d}_{n % 2}.png" for n in range(1, 81)]
    lines = [f"{name},Male,40,{'PTB' if name.endswith('1.png') else 'normal'}" for name in names]
    (folder / "shenzhen_metadata.csv").write_text("study_id,sex,age,findings\n" + "\n".join(lines))
    for number, name in enumerate(names):
        # The second half are copies of the first; a later patient's split is drawn without regard to that.
        grey = blotches(number % 40)
        Image.fromarray(grey if number < 40 else shrunk_and_encoded_anew(grey)).save(folder / "images" / name)
    study = study_of(shenzhen)
    frame = make_split(adapter("shenzhen")(folder)[0], study.split_settings("shenzhen", 0), None)[0]
    sets = frame.set_index("image_id")["split"]
    pairs = {
        frozenset(pair) for pair in zip(names[:40], names[40:], strict=True) if sets[pair[0]] != sets[pair[1]]
    }
    assert len(pairs) > 9
    few = {"minority_patients": 0}
    _, line = look(shenzhen, study=few)
    assert (line["splits"], line["copies"]) == ([], [])
    found, line = look(shenzhen, full=True, study=few)
    assert {frozenset(copy["images"]) for copy in line["copies"]} == pairs
    assert all([sets[image] for image in copy["images"]] == copy["sets"] for copy in line["copies"])
    (warning,) = line["splits"]
    assert all(name in warning for name in line["copies"][0]["images"])
    assert f"warning: shenzhen: {len(pairs)} pictures" in preflight.to_text(found)
    assert line["state"] == "complete"


def test_a_negative_is_a_copy_and_flat_pictures_are_none(shenzhen):
    grey = [
        blotches(0),
        255 - blotches(0),
        np.zeros((9, 9), np.uint8),
        np.full((9, 9), 7, np.uint8),
        blotches(1),
    ]
    rows = [(0, "a", "train"), (1, "b", "test"), (2, "c", "train"), (3, "d", "val"), (4, "e", "val")]
    split = pd.DataFrame(rows, columns=["row", "image_id", "split"])
    ((one, a, other, b, alike),) = near_copies(split, np.array([thumbnail(picture) for picture in grey]))
    assert {(one, a), (other, b)} == {("a", "train"), ("b", "test")}
    assert alike > 0.99


def test_all_images_are_decoded_and_the_remarks_on_them_counted(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        write_dicom(tmp_path / name, np.eye(9, dtype=np.uint16), WindowCenter=1, WindowWidth=0)
    (tmp_path / "c.dcm").write_text("not an image")
    bad, thumbnails, remarks = decode_all(tmp_path, ["a.dcm", "b.dcm", "c.dcm"], 1)
    assert [path for path, _ in bad] == ["c.dcm"]
    assert [picture.any() for picture in thumbnails] == [True, True, False]
    assert remarks == {WINDOW_IGNORED: 2}


def test_a_wrong_table_is_broken_and_says_its_row(shenzhen):
    table = shenzhen / "shenzhen/shenzhen_metadata.csv"
    table.write_text(table.read_text().replace("PTB", "normal"))
    _, line = look(shenzhen)
    assert line["state"] == "broken"
    assert "shenzhen_metadata.csv: row 5: " in line["next"]


def test_checkpoints_and_lists_are_lines_too(shenzhen, tmp_path):
    (tmp_path / "vit.npz").touch()
    changes = {
        "methods": {"imagenet": {"checkpoint": str(tmp_path / "vit.npz")}},
        "text": {"encoder": str(tmp_path / "bert")},
        "datasets": {"shenzhen": {"split": {"kind": "released"}}},
    }
    found, _ = look(shenzhen, **changes)
    states = {line["name"]: line["state"] for line in found["lines"][1:]}
    assert found["study"] == {"cells": 0, "of": 2, "methods": [], "datasets": []}
    some = look(shenzhen, methods=changes["methods"])[0]["study"]
    assert some == {"cells": 2, "of": 2, "methods": ["imagenet"], "datasets": ["shenzhen"]}
    assert states == {
        "text encoder": "absent",
        "weights of imagenet": "available",
        "released lists of shenzhen": "absent",
    }
    advice = {line["name"]: line["next"] for line in found["lines"]}["text encoder"]
    assert "docs/data.md" in advice
    places = {**changes, "origins": {str(tmp_path / "bert"): "https://example.org/bert"}}
    lines = {line["name"]: line["next"] for line in look(shenzhen, **places)[0]["lines"]}
    assert "get it from https://example.org/bert" in lines["text encoder"]
    assert "get it from https://github.com/funnyzhou/REFERS" in lines["released lists of shenzhen"]
    assert advice.startswith(
        f"place config.json and model.safetensors or pytorch_model.bin and vocab.txt or tokenizer.json in {tmp_path}/bert"
    )
    (tmp_path / "bert").mkdir()
    for name in ("config.json", "vocab.txt"):
        (tmp_path / "bert" / name).touch()
    line = next(line for line in look(shenzhen, **changes)[0]["lines"] if line["name"] == "text encoder")
    assert line["next"].startswith("place model.safetensors or pytorch_model.bin in")


def line_of_reports(folder, reports):
    make_mimic(folder / "mimic")
    (folder / "mimic/mimic-cxr-jpg/files/p10/p10000033/s50000003/x.jpg").unlink()
    return mimic_lines(folder, reports)["mimic reports"]


def mimic_lines(folder, reports, full=False):
    """Lines by name, with these reports beside the images."""
    for name in reports:
        write_text(folder / f"mimic/mimic-cxr-reports/files/p10/{name}.txt", "FINDINGS: a b c")
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    values["sources"]["mimic"] |= {"expected": {"images": 3, "reports": 2}}
    study = merged(values, {"data_root": str(folder)})
    lines = preflight.report(study, full, progress=lambda _: None)["lines"]
    return {line["name"]: line for line in lines}


def test_a_report_of_another_patient_than_its_images_is_found_by_the_full_check(tmp_path):
    make_mimic(tmp_path / "mimic")
    reports = ["p10000033/s50000001", "p10000033/s50000002", "p10000033/s50000003"]
    assert mimic_lines(tmp_path, reports)["mimic reports"]["state"] == "complete"
    line = mimic_lines(tmp_path, reports, full=True)["mimic reports"]
    assert line["state"] == "broken"
    assert "p10000033/s50000001.txt" in line["next"]
    assert "p10000032" in line["next"]


@pytest.mark.parametrize(
    ("reports", "state", "says"),
    [
        ([], "absent", "place the reports in mimic-cxr-reports/files/ below"),
        (["p10000032/s50000001", "p10000033/s50000002"], "complete", ""),
        (
            ["p10000032/s50000001", "p10000033/s50000009"],
            "partial",
            "1 studies without a report; unpack mimic-cxr-reports.zip",
        ),
        (
            ["p10000032/s50000001"],
            "partial",
            "1 studies without a report; unpack mimic-cxr-reports.zip",
        ),
        (["p10000032/notes"], "broken", "notes.txt: not a report"),
    ],
)
def test_reports_are_counted_and_held_against_the_studies_with_images(tmp_path, reports, state, says):
    line = line_of_reports(tmp_path, reports)
    assert line["state"] == state
    assert says in line["next"]
    assert line["found"] == (0 if state in ("absent", "broken") else len(reports))
    assert line["remarks"] == (["1 of 2 studies with images have no report"] if state == "partial" else [])


def test_reports_that_belong_to_images_not_here_are_asked_for_without_a_word_of_studies(tmp_path):
    make_mimic(tmp_path / "mimic")
    for path in tmp_path.glob("mimic/mimic-cxr-jpg/files/p10/p10000033/*/*.jpg"):
        path.unlink()
    line = mimic_lines(tmp_path, ["p10000032/s50000001"])["mimic reports"]
    assert (line["state"], line["remarks"]) == ("partial", [])
    assert line["next"].startswith("unpack mimic-cxr-reports.zip into")


def test_reports_one_folder_too_high_or_still_packed_are_found(tmp_path):
    make_mimic(tmp_path / "mimic")
    (tmp_path / "mimic/mimic-cxr-reports.zip").touch()
    lines = mimic_lines(tmp_path, [])
    advice = f"unpack mimic-cxr-reports.zip in {tmp_path}/mimic into {tmp_path}/mimic/mimic-cxr-reports"
    assert advice in lines["mimic reports"]["next"]
    assert "unpack" not in lines["mimic"]["next"]
    write_text(tmp_path / "mimic/files/p10/p10000032/s50000001.txt", "FINDINGS: a b c")
    says = mimic_lines(tmp_path, [])["mimic reports"]["next"]
    assert f"the contents of {tmp_path}/mimic/files to {tmp_path}/mimic/mimic-cxr-reports/files" in says


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("images/download/images", "the contents of {made} to {shenzhen}/images"),
        ("png", "the contents of {made} to {shenzhen}/images"),
        ("", "the contents of {shenzhen} to {shenzhen}/images"),
    ],
)
def test_misplaced_images_are_found(shenzhen, made, says):
    folder = shenzhen / "shenzhen"
    (folder / made).mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("images/*.png")):
        path.rename(folder / made / path.name)
    _, line = look(shenzhen)
    assert line["state"] == "absent"
    assert line["next"].endswith(says.format(made=folder / made, shenzhen=folder))


def test_archives_that_wait_to_be_unpacked_are_named(shenzhen):
    folder = shenzhen / "shenzhen"
    for name in ("b.zip", "a.tar.gz"):
        (folder / name).touch()
    advice = f"unpack a.tar.gz and 1 more in {folder}"
    assert advice in look(shenzhen)[1]["next"], "a part is there"
    for path in folder.glob("images/*.png"):
        path.unlink()
    assert advice in look(shenzhen)[1]["next"]


def test_an_image_without_a_byte_is_found_where_the_table_has_the_sizes(tmp_path):
    make_nih(tmp_path / "nih")
    broken = tmp_path / "nih/images_002/images/00000001_001.png"
    broken.write_bytes(b"")
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    lines = preflight.report(merged(values, {"data_root": str(tmp_path)}), progress=lambda _: None)["lines"]
    line = next(line for line in lines if line["name"] == "nih")
    assert (line["state"], line["unreadable"]) == ("broken", 1)
    assert line["bad"] == [("images_002/images/00000001_001.png", "empty file")]


@pytest.mark.parametrize(
    ("images", "expected", "remark"),
    [
        (6, 6, "the table is that of release July"),
        (7, None, "no published totals for a table of 6 images; known releases: July: 7 images"),
    ],
)
def test_a_download_that_grew_is_held_against_its_own_release(shenzhen, images, expected, remark):
    release = {"images": images, "labels": {"Tuberculosis": 3}}
    _, line = look(shenzhen, expected={"releases": {"July": release}})
    assert line["expected"] == expected
    assert remark in line["remarks"]
    assert line["labels"] == {"Tuberculosis": (2, 3 if expected else None)}


def test_several_workers_say_what_one_says(shenzhen):
    study = merged(yaml.safe_load((ROOT / "config/config.yaml").read_text()), {"data_root": str(shenzhen)})
    alone, together = (preflight.report(study, workers=count, progress=lambda _: None) for count in (1, 2))
    assert alone["lines"] == together["lines"]
    assert [line["state"] for line in alone["lines"] if line["name"] == "shenzhen"] == ["partial"]


@pytest.mark.parametrize(
    ("free", "packed", "enough"),
    [(10**12, 0, True), (100, 0, False), (100, 65536, True), (72089, 0, False), (72090, 0, True)],
)
def test_the_stores_need_their_space_and_a_tenth_more(free, packed, enough):
    line = report_line("x", Path("x"), state="complete", found=1, unreadable=0, store=65536)
    found = {"full": True, "lines": [line], "store_bytes": 65536, "packed_bytes": packed, "free_bytes": free}
    found["study"] = {"cells": 0, "of": 1, "methods": [], "datasets": []}
    assert preflight.to_text(found).splitlines()[-1].startswith("disk: ")
    assert ("NOT ENOUGH" in preflight.to_text(found)) == (not enough)


def test_the_text_of_a_report(request):
    """Lines of every state; the only test of the wording as a whole."""
    lines = [
        report_line("mimic", Path("data/mimic"), expected=377110, store=24714280960, next="place the images in files/ below data/mimic"),
        report_line("mimic reports", Path("data/mimic/reports"), expected=227835, next="unpack the zip"),
        report_line(
            "nih", Path("data/nih"), state="partial", expected=112120, found=1055, store=69140480,
            labels={"Mass": (58, 5782), "Hernia": (24, 227), "Goitre": (0, None)},
            remarks=["111,065 images of the official table not found"], next="get them from https://example.org/nih",
        ),
        report_line(
            "vinbigdata", Path("data/vinbigdata"), state="broken", expected=15000, found=15000, unreadable=2, store=983040000,
            labels={"ILD": (386, 386)}, next="download 2 unreadable images again",
        ),
        report_line("covid", Path("data/covid"), state="complete", found=445, unreadable=0, store=29163520, labels={"Viral": (272, None)}),
        report_line("weights of imagenet", Path("models"), state="available", found=None),
    ]  # fmt: skip
    found = {"full": False, "lines": lines, "free_bytes": 63_300_000_000}
    found |= {"store_bytes": 25_795_624_960, "packed_bytes": 69_140_480}
    found["study"] = {"cells": 30, "of": 135, "methods": ["imagenet", "refers"], "datasets": ["covid_t1"]}
    expect_golden(request, "preflight.txt", preflight.to_text(found) + "\n")


def test_the_target_works_without_any_data(snakemake, tmp_path):
    paths = (
        f"pathvars={{results: {tmp_path}/results, logs: {tmp_path}/logs, benchmarks: {tmp_path}/benchmarks}}"
    )
    for _ in range(2):  # it looks again every time
        done = snakemake("preflight", "--cores", 1, "--config", f"data_root={tmp_path}/nothing", paths)
        assert done.code == 0, done.output
        assert done.output.count("absent") >= 5
    found = json.loads((tmp_path / "results/preflight.json").read_text())
    assert {line["name"] for line in found["lines"]} >= {"mimic", "nih", "vinbigdata", "shenzhen", "covid"}
