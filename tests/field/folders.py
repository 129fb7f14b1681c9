"""Downloaded folders as other systems and programs leave them: the same index, and a line for what is not whole."""

import gzip
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml
from helpers import COVID_ROWS, DOWNLOADS, make_covid, make_pneumonia, write_image, write_text
from refers import config
from refers.config.study import StudyConfig
from refers.data.adapters import adapter
from refers.data.source_check import Download, check_source
from refers.folders import UNFINISHED_DOWNLOAD
from refers.study.availability import Availability
from refers.study.study import Study
from refers.text.report_files import list_reports

from field import Case, refused

ROOT = Path(__file__).parents[2]
IMAGES = (".png", ".jpg", ".jpeg")
LEFTOVERS = ("._a", ".DS_Store", "Thumbs.db", "desktop.ini", "robots.txt", "index.html", "index.html?C=N;O=D")
ACCENTED = "Pleuritis-Bérard.png"


def images_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file()]


def in_capitals(folder: Path) -> None:
    for path in images_of(folder):
        path.rename(path.with_suffix(path.suffix.upper()))


def with_leftovers(folder: Path) -> None:
    """Leftovers beside every image and report, those of a Mac with the image's own name."""
    for path in [*images_of(folder), *folder.rglob("ClinicalReadings/*.txt")]:
        for name in (*LEFTOVERS, f"._{path.name}"):
            (path.parent / name).write_bytes(b"\0\5\x16\7")
        (path.parent / "__MACOSX").mkdir(exist_ok=True)


def with_pipes(folder: Path) -> None:
    """Pipes and folders in the place of images that no table lists."""
    for parent in {path.parent for path in images_of(folder)}:
        os.mkfifo(parent / f"zz{images_of(parent)[0].suffix}")
        (parent / "zzz.png").mkdir()


def unpacked(folder: Path) -> None:
    """Tables that a browser unpacked under their packed name."""
    for path in folder.rglob("*.csv.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))


def packed(folder: Path) -> None:
    """Tables that are packed still but lost the suffix that says so."""
    for path in folder.rglob("*.csv.gz"):
        path.rename(path.with_suffix(""))


def unfinished(folder: Path) -> None:
    """Every first image of a folder is not downloaded whole."""
    path = min(images_of(folder))
    path.rename(path.with_name(f"{path.name}_.gstmp"))


def changed(layout: str, change: Callable[[Path], None]) -> Callable[[Path], tuple]:
    """Index and counts of a plain download, and the folder of the same one after a change."""

    def make(folder: Path) -> tuple[str, pd.DataFrame, dict, Path]:
        plain = DOWNLOADS[layout](folder / "plain")
        index, counts = adapter(layout)(plain)
        other = DOWNLOADS[layout](folder / "changed")
        change(other)
        return layout, index, counts, other

    return make


def indexed(given: tuple) -> tuple:
    layout, index, counts, folder = given
    return index, counts, *adapter(layout)(folder), folder


def is_the_same(found: tuple) -> None:
    index, counts, other, other_counts, folder = found
    pd.testing.assert_frame_equal(index.drop(columns="path"), other.drop(columns="path"))
    assert counts == other_counts
    assert all((folder / path).is_file() for path in other["path"])


def is_one_short(found: tuple) -> None:
    index, counts, other, other_counts, _ = found
    assert other_counts["skipped"].pop(UNFINISHED_DOWNLOAD) == 1
    before = len(index) + sum(counts["skipped"].values())
    assert len(other) + sum(other_counts["skipped"].values()) == before - 1


def of_pneumonia(*names: str) -> Callable[[Path], tuple[str, Path]]:
    """Two pictures of the children's set, and these files beside them."""

    def make(folder: Path) -> tuple[str, Path]:
        make_pneumonia(folder, "train/PNEUMONIA/person9_virus_5.jpeg", "test/NORMAL/IM-0001-0001.jpeg")
        for name in names:
            write_text(folder / "chest_xray/train" / name, "x")
        return "pneumonia", folder

    return make


def skips(**counts: int) -> Callable[[tuple[pd.DataFrame, dict]], None]:
    def expect(found: tuple[pd.DataFrame, dict]) -> None:
        assert len(found[0]) == 2
        assert sorted(found[1]["skipped"].values()) == sorted(counts.values())
        assert found[1]["skipped"].get(UNFINISHED_DOWNLOAD, 0) == counts.get("unfinished", 0)

    return expect


def decomposed(folder: Path) -> tuple[str, Path]:
    """A COVID image whose name a Mac decomposed, while the table has it composed."""
    rows = [f"2,,M,65,COVID-19,PA,X-ray,,{unicodedata.normalize('NFC', ACCENTED)},,"]
    head = "patientid,offset,sex,age,finding,view,modality,date,filename,clinical_notes,\n"
    write_text(folder / "metadata.csv", head + "\n".join(rows))
    write_image(folder / "images" / unicodedata.normalize("NFD", ACCENTED))
    return "covid", folder


def is_found(found: tuple[pd.DataFrame, dict]) -> None:
    assert found[0]["image_id"].tolist() == [unicodedata.normalize("NFC", ACCENTED)]
    assert found[1]["missing_images"] == 0


def two_cases(folder: Path) -> tuple[str, Path]:
    """Two images of the table whose names differ in the suffix's case, and both files."""
    make_covid(folder, "\n99,,M,65,COVID-19,PA,X-ray,,a.JPG,,")
    write_image(folder / "images/a.png", 99, 9)
    (folder / "images/a.png").rename(folder / "images/a.JPG")
    return "covid", folder


def keeps_both(found: tuple[pd.DataFrame, dict]) -> None:
    paths = found[0].set_index("image_id")["path"]
    assert (paths["a.jpg"], paths["a.JPG"]) == ("images/a.jpg", "images/a.JPG")
    assert len(found[0]) == len(COVID_ROWS) + 1


def reports(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in ("s50000001.txt", *names):
            write_text(folder / "files/p10/p10000032" / name, "FINDINGS: none")
        return folder

    return make


def study_of(source: str, folder: Path) -> Study:
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    values["sources"] = {source: values["sources"][source]}
    return Study(config.load(StudyConfig, config.merge(values, {"data_root": str(folder)})))


def only(*names: str) -> Callable[[Path], Path]:
    """A folder of Shenzhen with a table and nothing but these in its folder of images."""

    def make(folder: Path) -> Path:
        write_text(folder / "shenzhen/shenzhen_metadata.csv", "study_id,sex,age,findings\n")
        for name in names:
            write_text(folder / "shenzhen/images" / name, "x")
        return folder

    return make


def checked(folder: Path) -> dict:
    study = study_of("shenzhen", folder)
    missing, entry = Availability(study).missing("shenzhen"), study.source("shenzhen")
    source = Download("shenzhen", entry, study.folder("shenzhen"), missing, [])
    return check_source(8, 0, 0, False, 1, source)[0]


def is_absent_for(*words: str) -> Callable[[dict], None]:
    def check(line: dict) -> None:
        assert line["state"] == "absent"
        assert not [word for word in words if word not in line["next"]], line["next"]

    return check


CHANGES = {
    "capital suffixes": (in_capitals, is_the_same),
    "leftovers of other programs": (with_leftovers, is_the_same),
    "pipes and folders among images": (with_pipes, is_the_same),
    "an unfinished download": (unfinished, is_one_short),
}

CASES = [
    *(
        Case(f"{layout}: {name}", changed(layout, change), indexed, expect)
        for layout in DOWNLOADS
        for name, (change, expect) in CHANGES.items()
    ),
    Case("mimic: tables that a browser unpacked", changed("mimic", unpacked), indexed, is_the_same),
    Case("mimic: packed tables without the suffix", changed("mimic", packed), indexed, is_the_same),
    Case(
        "pneumonia: unfinished downloads",
        of_pneumonia("PNEUMONIA/person9_virus_6.jpeg.part", "NORMAL/IM-0002-0001.jpeg_.gstmp"),
        lambda given: adapter(given[0])(given[1]),
        skips(unfinished=2),
    ),
    Case(
        "pneumonia: pictures with another ending",
        of_pneumonia("PNEUMONIA/person9_virus_6.jpg", "NORMAL/IM-9-1.png"),
        lambda given: adapter(given[0])(given[1]),
        skips(others=2),
    ),
    Case("decomposed accents", decomposed, lambda given: adapter(given[0])(given[1]), is_found),
    Case("names that differ in case only", two_cases, lambda given: adapter(given[0])(given[1]), keeps_both),
    Case(
        "leftovers among reports",
        reports(*LEFTOVERS),
        lambda folder: list(list_reports(folder)),
        [("p10/p10000032", "s50000001.txt")],
    ),
    Case("a report in capitals", reports("s50000002.TXT"), lambda folder: len(list(list_reports(folder))), 2),
    Case(
        "an unfinished report",
        reports("s50000002.txt_.gstmp"),
        lambda folder: list(list_reports(folder)),
        refused("s50000002.txt_.gstmp", UNFINISHED_DOWNLOAD),
    ),
    Case(
        "images in capitals alone",
        only("a.PNG"),
        lambda folder: Availability(study_of("shenzhen", folder)).missing("shenzhen"),
        [],
    ),
    Case("leftovers alone", only("._a.png"), checked, is_absent_for("the images")),
    Case(
        "unfinished images alone",
        only("a.png.part"),
        checked,
        is_absent_for("a.png.part", UNFINISHED_DOWNLOAD),
    ),
]
