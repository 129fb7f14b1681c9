"""Malformed downloads, indexes and images: each stops its script with one line that names file, row and remedy."""

import gzip
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import DOWNLOADS, bomb, write_dicom, write_image
from PIL import Image
from refers.data.adapters import adapter
from refers.errors import run
from refers.files import file_digest

SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"
TABLES = {  # of each layout: the main table, a column and a value that the adapter reads
    "nih": ("Data_Entry_2017_v2020.csv", "Finding Labels", "Pleural_Thickening"),
    "vinbigdata": ("train.csv", "class_name", "ILD"),
    "shenzhen": ("shenzhen_metadata.csv", "study_id", "CHNCXR_0662_1.png"),
    "covid": ("metadata.csv", "finding", "SARS"),
    "mimic": ("mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "ViewPosition", "LATERAL"),
}
# How the last clause of a message begins: with what to do.
REMEDY = re.compile(
    r"(download|correct|replace|place|complete|create|delete|index|keep|save|rename|use|choose|free|docs/data\.md)\b"
)
STARTED = {
    "quarantine.csv",
    "images.npy.part",
    "images.npy.part.jsonl",
}  # what a stopped pack leaves on purpose


def cli(monkeypatch, capsys, script: str, *arguments) -> tuple[int, str, str]:
    """Run a script's `main` as the command line does: exit code, stdout, stderr."""
    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    capsys.readouterr()
    code = 0
    try:
        run(module.main)
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def refused(
    outcome: tuple[int, str, str], file: str, row: int | None, says: str, out: Path, left=frozenset()
) -> None:
    """Exit code 1; one line with file, row, reason and remedy; nothing half-written."""
    code, _, error = outcome
    assert code == 1, outcome
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    place = re.escape(file) + (rf".*\brow {row}\b" if row is not None else "")
    assert re.search(rf"{place}.*{says}", error), error
    assert REMEDY.match(error.rpartition("; ")[2]), error
    assert {path.name for path in out.rglob("*")} <= left


# ---- ways to spoil a file


def read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def edit(file: str, old: str, new: str | bytes):
    """Replace the first `old` of a file."""

    def spoil(folder: Path) -> None:
        content, replacement = read(folder / file), new if isinstance(new, bytes) else new.encode()
        assert old.encode() in content
        write(folder / file, content.replace(old.encode(), replacement, 1))

    return spoil


def change(function):
    """Rewrite a whole file: function(content) -> content."""
    return lambda file: lambda folder: write(folder / file, function(read(folder / file)))


def put(file: str, content: str | bytes):
    def spoil(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write(folder / file, content if isinstance(content, bytes) else content.encode())

    return spoil


def absent(file: str):
    return lambda folder: (folder / file).unlink()


def directory(file: str):
    def spoil(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).mkdir(parents=True)

    return spoil


def loop(file: str):
    def spoil(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to((folder / file).name)

    return spoil


def locked(file: str):
    def spoil(folder: Path) -> None:
        (folder / file).chmod(0)
        if os.access(folder / file, os.R_OK):
            pytest.skip("this user reads every file")

    return spoil


def cut(file: str):
    def spoil(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) * 2 // 3])

    return spoil


# ---- downloads


def of_every_table(name: str, says: str, spoil, row: int | None = None) -> list:
    """The same mishap to the main table of every layout; `spoil` takes its file, column and value."""
    return [
        pytest.param(layout, spoil(*table), Path(table[0]).name, row, says, id=f"{layout}-{name}")
        for layout, table in TABLES.items()
    ]


def whole(function):
    return lambda file, column, value: function(file)


def each(layout: str, file: str, *cases: tuple) -> list:
    """Mishaps of one file of a layout: (name, row, reason, spoil)."""
    return [
        pytest.param(layout, spoil, Path(file).name, row, says, id=f"{layout}-{name}")
        for name, row, says, spoil in cases
    ]


NIH, VBD, SZ, COVID, MIMIC = (table[0] for table in TABLES.values())
BOXES = "BBox_List_2017.csv"
SPLIT, CHEXPERT = (f"mimic-cxr-jpg/mimic-cxr-2.0.0-{name}.csv.gz" for name in ("split", "chexpert"))


def box(row: str):
    return put(BOXES, "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,1,2,3,4,,,\n" + row)


MALFORMED = [
    *of_every_table("missing column", "no column", lambda file, column, value: edit(file, column, "x"), 1),
    *of_every_table("semicolons", "not separated by commas", whole(change(lambda x: x.replace(b",", b";"))), 1),
    *of_every_table("tabs", "not separated by commas", whole(change(lambda x: x.replace(b",", b"\t"))), 1),
    *of_every_table("absent table", "no such file", whole(absent)),
    *of_every_table("empty table", "cannot be read as CSV", whole(change(lambda x: b""))),
    *of_every_table("header only", "no data below the header", whole(change(lambda x: x.splitlines()[0])), 2),
    *of_every_table("directory for a table", "Is a directory", whole(directory)),
    *of_every_table("symlink loop", "symbolic links|no such file", whole(loop)),
    *of_every_table("no permission", "Permission denied", whole(locked)),
    *of_every_table("utf-16", "the file is not UTF-8 text", whole(change(lambda x: x.decode().encode("utf-16")))),
    *of_every_table("latin-1 value", "not UTF-8", lambda file, column, value: edit(file, value, b"caf\xe9")),
    *of_every_table("open quote", "cannot be read as CSV|has no filename", lambda file, column, value: edit(file, value, '"' + value)),
    *of_every_table("too many values", "cannot be read as CSV", lambda file, column, value: edit(file, value, value + ",,,,,,,,,,,,1")),
    *of_every_table("binary", "the file is not UTF-8 text", whole(change(lambda x: b"\x89PNG\r\n\x1a\n\x00\x00"))),
    *each("mimic", MIMIC, ("cut gzip", None, "cannot be read as CSV", cut(MIMIC)), ("another table, unpacked", 1, "no column 'subject_id'", lambda folder: (folder / MIMIC).write_text("dicom_id\n"))),
    *each(
        "nih", NIH,
        ("duplicate id", 3, "is listed twice", edit(NIH, "00000001_001.png", "00000001_000.png")),
        ("blank id", 3, "not a plain file name", edit(NIH, "00000001_001.png", "")),
        ("traversal", 3, "not a plain file name", edit(NIH, "00000001_001.png", "../00000001_001.png")),
        ("absolute path", 3, "not a plain file name", edit(NIH, "00000001_001.png", "/etc/passwd")),
        ("windows path", 3, "not a plain file name", edit(NIH, "00000001_001.png", "..\\a.png")),
        ("NaN label", 3, "'nan' is not a finding", edit(NIH, "No Finding", "nan")),
        ("blank label", 3, "'' is not a finding", edit(NIH, "No Finding", "")),
        ("unknown finding", 2, "is not a finding", edit(NIH, "Cardiomegaly", "Cold")),
        ("no patient", 2, "no Patient ID", edit(NIH, ",0,1,58", ",0, ,58")),
        ("patient as a float", 3, r"'1\.0' is not a valid Patient ID", edit(NIH, ",1,1,58", ",1,1.0,58")),
        ("negative width", 2, "not a valid width", edit(NIH, "2682", "-2682")),
        ("height zero", 2, "not a valid height", edit(NIH, "2749", "0")),
        ("width with a fraction", 2, "not a valid width", edit(NIH, "2682", "2682.5")),
        ("width beyond int32", 2, "not a valid width", edit(NIH, "2682", "9" * 12)),
        ("cut in the last row", 4, r"cannot be read as CSV \(7 values for 11 columns", change(lambda x: x[:-24])(NIH)),
    ),
    *each(
        "nih", "test_list.txt",
        ("absent list", None, "cannot be read", absent("test_list.txt")),
        ("overlapping lists", None, "is also in train_val_list.txt", put("test_list.txt", "00000001_000.png\n")),
        ("latin-1 list", None, "cannot be read", put("test_list.txt", b"caf\xe9\n")),
        ("list directory", None, "cannot be read", directory("test_list.txt")),
        ("empty list", None, "lists no image", put("test_list.txt", "\n")),
    ),
    *each(
        "nih", "train_val_list.txt",
        ("list cut between lines", None, r"1 images of Data_Entry_2017_v2020\.csv .*test_list\.txt, first 00000001_001", put("train_val_list.txt", "00000001_000.png\n")),
        ("cut list", 2, "'0000000' is not an image of Data_Entry", put("train_val_list.txt", "00000001_000.png\n0000000")),
    ),
    *each(
        "nih", BOXES,
        ("negative box", 3, "negative corner or side", box("00000001_000.png,Mass,-1,2,3,4,,,\n")),
        ("box outside", 3, "extends beyond its image", box("00000001_000.png,Mass,1000,2,30,4,,,\n")),
        ("box without number", 3, "not a box of four numbers", box("00000001_000.png,Mass,1,2,wide,4,,,\n")),
        ("box of an unknown class", 3, "is not a class", box("00000001_000.png,Cold,1,2,3,4,,,\n")),
        ("boxes without column", 1, "no column", put(BOXES, "Image Index,Finding Label,x,y,w,h\n")),
    ),
    *each(
        "vinbigdata", VBD,
        ("unknown finding", 3, "is not a class", edit(VBD, "Nodule/Mass", "Cold")),
        ("blank finding", 3, "'' is not a class", edit(VBD, "Nodule/Mass", "")),
        ("blank id", 3, "not a plain file name", edit(VBD, "b,Nodule", ",Nodule")),
        ("traversal", 3, "not a plain file name", edit(VBD, "b,Nodule", "../b,Nodule")),
        ("absolute path", 3, "not a plain file name", edit(VBD, "b,Nodule", "/b,Nodule")),
        ("negative box", 3, "negative corner or side", edit(VBD, "R2,1,2,3,4", "R2,-1,2,3,4")),
        ("box inside out", 3, "negative corner or side", edit(VBD, "R2,1,2,3,4", "R2,3,2,1,4")),
        ("finding without box", 3, "not a box of four numbers", edit(VBD, "R2,1,2,3,4", "R2,,,,")),
    ),
    *each(
        "shenzhen", SZ,
        ("name of another kind", 3, "is not CHNCXR", edit(SZ, "CHNCXR_0662_1", "CHNCXR_0662_2")),
        ("traversal", 3, "is not CHNCXR", edit(SZ, "CHNCXR_0662_1", "../CHNCXR_0662_1")),
        ("duplicate id", 4, "is listed twice", edit(SZ, "CHNCXR_0002_0", "CHNCXR_0001_0")),
        ("NaN label", 3, "has no findings", edit(SZ, "PTB", "")),
        ("contradiction", 3, "contradicts the image's name", edit(SZ, "PTB", "normal")),
    ),
    *each(
        "covid", COVID,
        ("unknown finding", 18, "is not a known finding", edit(COVID, "SARS", "COVD-19")),
        ("traversal", 2, "not a plain file name", edit(COVID, "a.jpg", "../a.jpg")),
        ("absolute path", 2, "not a plain file name", edit(COVID, "a.jpg", "/a.jpg")),
        ("no file name", 2, "has no filename", edit(COVID, "a.jpg", "")),
        ("no patient", 2, "has no patientid", edit(COVID, "2,0,M", ",0,M")),
        ("duplicate id", 4, "listed twice with different findings", edit(COVID, "b.png", "a.jpg")),
    ),
    *each(
        "mimic", MIMIC,
        ("duplicate id", 3, "is listed twice", edit(MIMIC, "d1,", "d3,")),
        ("bad subject", 2, "not a valid subject_id", edit(MIMIC, "10000032", "x")),
        ("traversal in an id", 2, "not a valid study_id", edit(MIMIC, "50000001", "../x")),
        ("traversal in a name", 3, "not a plain file name", edit(MIMIC, "d1,", "../d1,")),
        ("blank name", 3, "not a plain file name", edit(MIMIC, "d1,", " ,")),
    ),
    *each(
        "mimic", SPLIT,
        ("unknown split", 2, "must be one of train, validate, test", edit(SPLIT, "train", "holdout")),
        ("duplicate in the split", 3, "is listed twice", edit(SPLIT, "d2,", "d1,")),
        ("split without an image", None, "have no row", edit(SPLIT, "d1,", "d9,")),
        ("subject in two sets", 4, "'d3' .*another set", edit(SPLIT, "d3,50000001,10000032,train", "d3,50000001,10000032,validate")),
    ),
    *each(
        "mimic", CHEXPERT,
        ("label of another kind", 2, "is not a label of Atelectasis", edit(CHEXPERT, "1.0", "7")),
        ("NaN label", 2, "is not a label of Atelectasis", edit(CHEXPERT, "1.0", "nan")),
        ("study as a float", 2, r"'50000001\.0' is not a valid study_id", edit(CHEXPERT, "50000001", "50000001.0")),
        ("labels of other studies", None, "no row for any study with images", change(lambda x: x.replace(b",5000000", b",6000000"))(CHEXPERT)),
        ("cut labels", None, "cannot be read as CSV", cut(CHEXPERT)),
    ),
]  # fmt: skip


def index(monkeypatch, capsys, layout: str, folder: Path, out: Path):
    arguments = ["--layout", layout, "--folder", folder, "--source", layout]
    arguments += ["--out", out / "index.parquet", "--report", out / "index.json"]
    return cli(monkeypatch, capsys, "index_source", *arguments)


@pytest.mark.parametrize(("layout", "spoil", "file", "row", "says"), MALFORMED)
def test_a_malformed_download_is_refused(tmp_path, monkeypatch, capsys, layout, spoil, file, row, says):
    folder, out = tmp_path / "download", tmp_path / "out"
    DOWNLOADS[layout](folder)
    spoil(folder)
    refused(index(monkeypatch, capsys, layout, folder, out), file, row, says, out)


@pytest.mark.parametrize("layout", TABLES)
def test_a_table_without_its_images_is_refused(tmp_path, monkeypatch, capsys, layout):
    folder, out = tmp_path / "download", tmp_path / "out"
    DOWNLOADS[layout](folder)
    for path in [path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]:
        path.unlink()
    says = f"none of its \\d+ images is in {folder}"
    refused(index(monkeypatch, capsys, layout, folder, out), Path(TABLES[layout][0]).name, None, says, out)


def test_a_misnamed_reading_of_the_nlm_is_refused(tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "in/CXR_png/CHNCXR_0001_0.png")
    put("ClinicalReadings/CHNCXR_0001.txt", "normal")(tmp_path / "in")
    outcome = index(monkeypatch, capsys, "shenzhen", tmp_path / "in", tmp_path / "out")
    refused(outcome, "CHNCXR_0001.txt", None, "is not CHNCXR_NNNN_0.txt", tmp_path / "out")


@pytest.mark.parametrize("layout", TABLES)
@pytest.mark.parametrize(
    "harmless",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.rstrip(b"\n") + b"\n\n",
    ],
    ids=["bom", "crlf", "blank line at the end"],
)
def test_what_is_harmless_is_read_as_if_it_were_not_there(tmp_path, layout, harmless):
    folder = DOWNLOADS[layout](tmp_path)
    plain, counts = adapter(layout)(folder)
    for path in [*folder.rglob("*.csv"), *folder.rglob("*.csv.gz"), *folder.glob("*_list.txt")]:
        write(path, harmless(read(path)))
    again, same = adapter(layout)(folder)
    pd.testing.assert_frame_equal(plain, again)
    assert same == counts


# ---- the store


def make_images(folder: Path) -> None:
    """Three images of a store that is not there yet."""
    for row, suffix in enumerate((".png", ".jpg", ".png")):
        pixels = np.random.default_rng(row).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}{suffix}")
    names(["0.png", "1.jpg", "2.png"])(folder)


def names(paths: list, column: str = "path"):
    return lambda folder: pd.DataFrame({column: paths}).to_parquet(folder / "index.parquet")


def dicom(**tags):
    def spoil(folder: Path) -> None:
        write_dicom(folder / "bad.dcm", np.zeros((2, 8, 8) if "frames" in tags else (8, 8), np.uint16))
        if "cut" in tags:
            content = (folder / "bad.dcm").read_bytes()
            (folder / "bad.dcm").write_bytes(content[: -100 if tags["cut"] else 40])
        names(["0.png", "1.jpg", "bad.dcm"])(folder)

    return spoil


STORES = [
    ("no index", "index.parquet", None, "unreadable index file", absent("index.parquet")),
    ("index that is no parquet", "index.parquet", None, "unreadable index file", put("index.parquet", "path\n0.png\n")),
    ("cut index", "index.parquet", None, "unreadable index file", cut("index.parquet")),
    ("index directory", "index.parquet", None, "unreadable index file", directory("index.parquet")),
    ("index without paths", "index.parquet", None, "no column 'path'", names(["0.png"], "file")),
    ("empty index", "index.parquet", None, "without rows", names([])),
    ("traversal", "index.parquet", 1, "not a path below", names(["0.png", "a/../../b.png"])),
    ("absolute path", "index.parquet", 1, "not a path below", names(["0.png", "/etc/passwd"])),
    ("blank path", "index.parquet", 1, "not a path below", names(["0.png", ""])),
    ("windows path", "index.parquet", 1, "not a path below", names(["0.png", "..\\b.png"])),
    ("path with a null byte", "index.parquet", 1, "not a path below", names(["0.png", "a\0.png"])),
    ("missing path", "index.parquet", 1, "not text", names(["0.png", None])),
    ("path that is a number", "index.parquet", 0, "not text", names([1, 2])),
    ("zero bytes", "", 2, r"2\.png: .*empty file", put("2.png", "")),
    ("text", "", 2, r"2\.png: .*unknown image format", put("2.png", "hello")),
    ("cut png", "", 2, r"2\.png: .*truncated|2\.png: .*broken", cut("2.png")),
    ("cut jpeg", "", 1, r"1\.jpg: .*truncated", cut("1.jpg")),
    ("html error page", "", 1, r"1\.jpg: .*unknown image format", put("1.jpg", "<html>404</html>")),
    ("gzip", "", 2, r"2\.png: .*unknown image format", put("2.png", gzip.compress(b"hello"))),
    ("decompression bomb", "", 2, r"2\.png: .*60000 x 60000 pixels", lambda folder: bomb(folder / "2.png")),
    ("absent image", "", 2, r"2\.png: .*No such file", absent("2.png")),
    ("directory for an image", "", 2, r"2\.png: .*directory", directory("2.png")),
    ("symlink loop", "", 2, r"2\.png: .*symbolic links", loop("2.png")),
    ("no permission", "", 2, r"2\.png: .*Permission denied", locked("2.png")),
    ("several frames", "", 2, r"bad\.dcm: .*2 frames", dicom(frames=True)),
    ("cut dicom", "", 2, r"bad\.dcm: cannot be decoded", dicom(cut=True)),
    ("dicom without header", "", 2, r"bad\.dcm: cannot be decoded", dicom(cut=False)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "row", "says", "spoil"), [case[1:] for case in STORES], ids=[case[0] for case in STORES]
)
def test_malformed_images_are_refused(tmp_path, monkeypatch, capsys, file, row, says, spoil):
    make_images(tmp_path)
    spoil(tmp_path)
    out = tmp_path / "out"
    arguments = ["--index", tmp_path / "index.parquet", "--folder", tmp_path, "--size", 16]
    arguments += ["--out", out / "images.npy", "--manifest", out / "images.json"]
    outcome = cli(monkeypatch, capsys, "pack_images", *arguments)
    refused(outcome, file, row, says, out, STARTED if not file else frozenset())
    if not file:
        listed = pd.read_csv(out / "quarantine.csv")
        assert listed["row"].tolist() == [row]
        assert re.search(says, f"{listed['path'][0]}: {listed['reason'][0]}")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--size", 0, r"--size: must be from 8 to 2048, found 0"),
        ("--tolerance", 2, r"--tolerance: must be from 0 to 1, found 2"),
        ("--tolerance", "nan", r"--tolerance: must be from 0 to 1, found nan"),
        ("--folder", "nowhere", "nowhere: no such folder; place"),
        ("--out", "0.png/images.npy", "0.png.*free space or choose a writable folder"),
    ],
)
def test_a_store_asked_for_wrongly_is_one_line(tmp_path, monkeypatch, capsys, option, value, says):
    make_images(tmp_path)
    before = sorted(tmp_path.iterdir())
    options = {
        "--index": "index.parquet",
        "--folder": ".",
        "--out": "images.npy",
        "--manifest": "images.json",
    }
    options |= {option: value}
    monkeypatch.chdir(tmp_path)
    arguments = [text for pair in options.items() for text in pair]
    code, _, error = cli(monkeypatch, capsys, "pack_images", *arguments)
    assert code == 1
    assert error.count("\n") == 1
    assert re.search(says, error)
    assert sorted(tmp_path.iterdir()) == before


# ---- the split


def make_index(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    name = [f"{row:02d}" for row in range(40)]
    frame = pd.DataFrame({"image_id": name, "patient_id": name, "view": "frontal", "split": "train"})
    frame.assign(**{"label:A": np.float32([0, 1] * 20)}).to_parquet(folder / "index.parquet")
    (folder / "images.json").write_text('{"quarantined": []}')


def tie(folder: Path) -> None:
    """Make the manifest, where it is one, that of the index and the store."""
    path = folder / "images.json"
    if not path.exists() or not path.read_text().startswith('{"'):
        return
    content = json.loads(path.read_text())
    for key, name in (("index_sha256", "index.parquet"), ("sha256", "images.npy")):
        if (folder / name).exists():
            content[key] = file_digest(folder / name)
    path.write_text(json.dumps(content))


def column(name: str, value):
    return lambda folder: (
        pd.read_parquet(folder / "index.parquet").assign(**{name: value}).to_parquet(folder / "index.parquet")
    )


def released(content: str | None):
    def spoil(folder: Path) -> None:
        if content is not None:
            put("val.txt", "00 1 0\n")(folder)
            put("test.txt", content)(folder)

    return spoil


SPLITS = [
    ("no index", {}, "index.parquet", None, "unreadable index file", absent("index.parquet")),
    ("cut index", {}, "index.parquet", None, "unreadable index file", cut("index.parquet")),
    ("index without a column", {}, "index.parquet", None, "no column 'image_id'", names(["0.png"])),
    ("unknown class", {"classes": ["B"]}, "toy", None, "no class 'B'", lambda folder: None),
    ("empty test set", {"kind": "official"}, "toy", None, "no test image", lambda folder: None),
    ("no official split", {"kind": "official"}, "toy", None, "no official split", column("split", "")),
    ("one-class label", {}, "toy", None, "every training image .*negative for A", column("label:A", np.float32(0))),
    ("every label positive", {}, "toy", None, "is positive for A", column("label:A", np.float32(1))),
    ("every label blank", {}, "toy", None, "40 undefined label", column("label:A", np.float32(np.nan))),
    ("class twice", {"classes": ["A", "A"]}, "split", None, "A is listed twice", lambda folder: None),
    ("view twice", {"views": ["ct", "ct"]}, "split", None, "ct is listed twice", lambda folder: None),
    ("no share for validation", {"fractions": [0.8, 0, 0.2]}, "toy", None, "the random split has no val image", lambda folder: None),
    ("four images", {}, "toy", None, "the random split has no val image", put("images.json", json.dumps({"quarantined": [*range(4, 40)]}))),
    ("no such view", {"views": ["lateral"]}, "toy", None, "40 view frontal", lambda folder: None),
    ("one patient", {}, "toy", None, "no val and no test image", column("patient_id", "p")),
    ("all in quarantine", {}, "toy", None, "40 unreadable image", put("images.json", json.dumps({"quarantined": [*range(40)]}))),
    ("absent manifest", {}, "images.json", None, "cannot be read as JSON", absent("images.json")),
    ("manifest that is no JSON", {}, "images.json", None, "cannot be read as JSON", put("images.json", "{")),
    ("manifest of another kind", {}, "images.json", None, "not a manifest", put("images.json", "[]")),
    ("absent lists", {"kind": "released"}, "", None, "no val.txt", released(None)),
    ("list row too short", {"kind": "released"}, "test.txt", 1, "expected an image and two", released("01 1\n")),
    ("list label of another kind", {"kind": "released"}, "test.txt", 2, "expected an image and two", released("01 1 0\n02 nan 1\n")),
    ("image in two lists", {"kind": "released"}, "test.txt", None, "00 is already in val.txt", released("00 1 0\n")),
    ("image in two lists under two names", {"kind": "released"}, "test.txt", None, "00.png is already in val.txt", released("00.png 1 0\n")),
    ("list with its columns swapped", {"kind": "released"}, "", None, "labels of A differ .* for 39 images", released("".join(f"{row:02d} {row % 2} {1 - row % 2}\n" for row in range(1, 40)))),
    ("empty released list", {"kind": "released"}, "toy", None, "no test image", released("\n")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "file", "row", "says", "spoil"),
    [case[1:] for case in SPLITS],
    ids=[case[0] for case in SPLITS],
)
def test_a_malformed_index_or_list_gives_no_split(
    tmp_path, monkeypatch, capsys, settings, file, row, says, spoil
):
    make_index(tmp_path)
    spoil(tmp_path)
    tie(tmp_path)
    out = tmp_path / "out"
    config = {"dataset": "toy", "kind": "random", "classes": ["A"], "views": ["frontal"]} | settings
    arguments = ["--index", tmp_path / "index.parquet", "--config", json.dumps(config), "--lists", tmp_path]
    arguments += ["--manifest", tmp_path / "images.json"]
    arguments += ["--out", out / "split.parquet", "--report", out / "split.json"]
    refused(cli(monkeypatch, capsys, "split_dataset", *arguments), file, row, says, out)


def make_split(folder: Path) -> None:
    """A split of forty images, with the index and store that it is of."""
    make_index(folder)
    sets = ["train", "val", "test", "train"] * 10
    frame = pd.read_parquet(folder / "index.parquet").assign(row=np.arange(40), split=sets)
    frame.drop(columns="view").to_parquet(folder / "split.parquet")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))


def short_store(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((39, 8, 8), np.uint8))


def value(name: str, row: int, content):
    """Another value in the split."""

    def spoil(folder: Path) -> None:
        frame = pd.read_parquet(folder / "split.parquet").astype({name: object})
        frame.loc[row, name] = content
        frame[name] = frame[name].infer_objects()
        frame.to_parquet(folder / "split.parquet")

    return spoil


SPLIT_ROWS = [
    ("row beyond the index", 1, "row 40 is not a row of the index", value("row", 1, 40)),
    ("negative row", 1, "row -1 is not a row of the index", value("row", 1, -1)),
    ("row with a fraction", 0, "is not a row of the index", value("row", 1, 0.5)),
    ("row twice", 1, "row 0 is duplicated", value("row", 1, 0)),
    ("missing image", 2, "image_id None is not text", value("image_id", 2, None)),
    ("missing patient", 2, "patient_id None is not text", value("patient_id", 2, None)),
    ("unknown set", 3, "split 'foo' must be one of train, val, test", value("split", 3, "foo")),
    ("missing label", 4, "label:A nan is not a label", value("label:A", 4, np.nan)),
]  # fmt: skip


def no_validation(folder: Path) -> None:
    frame = pd.read_parquet(folder / "split.parquet").replace({"split": {"val": "test"}})
    frame.to_parquet(folder / "split.parquet")


SHARED_FILES = [
    ("absent split", "split.parquet", "unreadable split file", absent("split.parquet")),
    ("cut split", "split.parquet", "unreadable split file", cut("split.parquet")),
    ("split without patients", "split.parquet", "no column 'patient_id'", lambda folder: pd.DataFrame({"row": [0], "image_id": ["a"], "split": ["train"]}).to_parquet(folder / "split.parquet")),
    ("split without validation", "split.parquet", "no val image", no_validation),
    *((name, "split.parquet", rf"row {row}: .*{says}", spoil) for name, row, says, spoil in SPLIT_ROWS),
    ("absent index", "index.parquet", "unreadable index file", absent("index.parquet")),
    ("index without views", "index.parquet", "no column 'view'", names(["0.png"])),
    ("store that is none", "images.npy", "not an image store", put("images.npy", "hello")),
    ("store of other images", "images.npy", "holds 39 images", short_store),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "says", "spoil"), [case[1:] for case in SHARED_FILES], ids=[case[0] for case in SHARED_FILES]
)
def test_a_split_is_not_checked_against_files_that_do_not_fit(
    tmp_path, monkeypatch, capsys, file, says, spoil
):
    make_split(tmp_path)
    spoil(tmp_path)
    tie(tmp_path)
    out = tmp_path / "out"
    arguments = ["--split", tmp_path / "split.parquet", "--index", tmp_path / "index.parquet"]
    arguments += ["--store", tmp_path / "images.npy", "--dataset", "toy", "--out", out / "check.json"]
    refused(cli(monkeypatch, capsys, "check_split", *arguments), file, None, says, out)


@pytest.mark.parametrize(
    ("spoil", "ratio", "says"),
    [
        (absent("split.parquet"), 1, "unreadable split file"),
        (cut("split.parquet"), 1, "unreadable split file"),
        (value("image_id", 2, None), 1, r"row 2: image_id None is not text"),
        (names(["0.png"]), 0, "--ratio: must be above 0"),
        (names(["0.png"]), 101, "--ratio: must be from 0 to 100, found 101"),
    ],
    ids=["absent split", "cut split", "missing image", "ratio zero", "ratio above 100"],
)
def test_no_label_subset_of_a_malformed_split_or_ratio(tmp_path, monkeypatch, capsys, spoil, ratio, says):
    make_split(tmp_path)
    spoil(tmp_path)
    out = tmp_path / "out"
    arguments = ["--split", tmp_path / "split.parquet", "--ratio", ratio]
    arguments += ["--out", out / "subset.csv", "--report", out / "subset.json"]
    refused(cli(monkeypatch, capsys, "label_subset", *arguments), "", None, says, out)
