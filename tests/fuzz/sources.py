"""Readers of what is downloaded: tables of every adapter, released lists, reports, images."""

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from helpers import DOWNLOADS, NIH_ROWS, VBD, recode, write_dicom, write_text
from PIL import Image
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from refers import config
from refers.data.adapters import adapter, read_boxes
from refers.data.images import decode, image_size
from refers.data.splits import make_split
from refers.text.cleaning import clean_report
from refers.text.report_files import read_reports

from fuzz import Reader, Told
from fuzz.damage import BYTES, LINES, TABLE, WHOLE

JPG = "mimic-cxr-jpg/mimic-cxr-2.0.0-"
BOXES = "BBox_List_2017.csv"
# One place of a plain text is another one.
CHARACTERS = ("letter", "number", "sign", "flip", "byte", "head", "insert", "remove")
PIXELS = ("flip", "byte", "head", "zeros", "insert", "remove", "repeat")


def _nih(folder: Path) -> Path:
    DOWNLOADS["nih"](folder)
    row = f"{NIH_ROWS[2][0]},Mass,0,0,512,512\n"
    write_text(folder / BOXES, "Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + row)
    return folder


def _vinbigdata(folder: Path) -> Path:
    """Every image is read by three radiologists."""
    DOWNLOADS["vinbigdata"](folder)
    rows = [
        "a,No finding,14,R1,,,,",
        "a,No finding,14,R2,,,,",
        "a,ILD,5,R3,1,2,3,4",
        "b,Nodule/Mass,8,R1,1,2,3,4",
    ]
    rows += ["b,No finding,14,R2,,,,", "b,Cardiomegaly,3,R4,2,2,8,9", "c,ILD,5,R3,1,2,3,4"]
    write_text(folder / "train.csv", VBD + "\n".join(rows))
    return folder


MAKERS = DOWNLOADS | {"nih": _nih, "vinbigdata": _vinbigdata}


def _download(layout: str, file: str) -> Callable[[Path], Path]:
    return lambda folder: MAKERS[layout](folder) / file


def _index(layout: str, depth: int) -> Callable[[Path], Told]:
    def read(file: Path) -> Told:
        folder = file.parents[depth]
        index, counts = adapter(layout)(folder)
        # Boxes have no order.
        boxes = read_boxes(layout, folder, index) if layout in ("nih", "vinbigdata") else pd.DataFrame()
        boxes = boxes.sort_values(list(boxes), ignore_index=True) if len(boxes) else boxes
        return Told((index, boxes), counts)

    return read


def _table(layout: str, file: str, damages: dict, values: tuple, **more: Any) -> Reader:
    read = _index(layout, file.count("/"))
    name = Path(file).name.removeprefix("mimic-cxr-2.0.0-")
    return Reader(f"{layout}: {name}", _download(layout, file), read, BYTES | WHOLE | damages, values, **more)


# gzip has a checksum: only what was changed before it was packed passes.
PACKED = ("letter", "number", "sign", "columns")
TABLES = (
    _table("nih", "Data_Entry_2017_v2020.csv", TABLE, CHARACTERS),
    _table("nih", "train_val_list.txt", LINES, ()),
    _table("nih", BOXES, TABLE, (*CHARACTERS, "columns")),
    _table("vinbigdata", "train.csv", TABLE, (*CHARACTERS, "columns")),
    _table("shenzhen", "shenzhen_metadata.csv", TABLE, ()),
    _table("covid", "metadata.csv", TABLE, (*CHARACTERS, "columns")),
    _table("mimic", f"{JPG}metadata.csv.gz", TABLE, PACKED),
    _table("mimic", f"{JPG}split.csv.gz", TABLE, PACKED),
    _table("mimic", f"{JPG}chexpert.csv.gz", TABLE, PACKED),
)


CLASSES = ["A", "B", "C"]


def _released(folder: Path) -> Path:
    for start, name in enumerate(("train", "val", "test")):
        rows = range(5 * start, 5 * start + 5)
        write_text(folder / f"{name}.txt", "".join(f"images/a{row}.png {row % 2} 0 1\n" for row in rows))
    return folder / "test.txt"


def _split(file: Path) -> Told:
    names = [f"a{row}.png" for row in range(15)]
    index = pd.DataFrame({"image_id": names, "patient_id": names, "view": "frontal", "split": ""})
    index = index.assign(**{f"label:{name}": np.nan for name in CLASSES})
    settings = {"dataset": "toy", "kind": "released", "classes": CLASSES, "views": ["frontal"]}
    return Told(*make_split(index, config.load(config.Split, settings), file.parent))


# The report of a split counts the images of every list, and those that no list or no index has.
LISTS = (Reader("a list of the authors", _released, _split, BYTES | WHOLE | LINES, CHARACTERS),)


# ---- reports

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old man with cough.

 FINDINGS:

 The lungs are clear. There is no left pleural effusion or pneumothorax.
 Heart size is normal (1.5 cm).

 IMPRESSION:

 1. No acute process.
 2. Healed fracture of the right clavicle.
"""


def _report(folder: Path) -> Path:
    for name in ("p10000032/s50000001.txt", "p10000033/s50000002.txt"):
        write_text(folder / "files/p10" / name, REPORT)
    return folder / "files/p10/p10000032/s50000001.txt"


def _cleaned(file: Path) -> Told:
    rows, told = [], Counter()
    for report in read_reports(file.parents[3]):
        cleaned = clean_report(report.text)
        rows.append((report.study_id, report.patient_id, cleaned.text, cleaned.dropped))
        told.update([*cleaned.rules, cleaned.dropped, f"UTF-8: {report.is_utf8}"])
    return Told(rows, sorted(told.items()))


# A text has no form: what is left of it is a text.
REPORTS = (
    Reader(
        "a report", _report, _cleaned, BYTES | WHOLE | LINES,
        contents=(*CHARACTERS, "cut", "repeat", "line less", "line twice", "lines mixed", "lines cut"),
    ),
)  # fmt: skip


# ---- images

GREY = np.add.outer(np.arange(24) * 5, np.arange(32) * 4).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16
COLOURS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)


def _picture(values: np.ndarray, name: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.fromarray(values).save(folder / name, **options)
        return folder / name

    return make


def _dicom(**tags: Any) -> Callable[[Path], Path]:
    values = {"WindowCenter": "2000", "WindowWidth": "3000", "RescaleSlope": "1", "RescaleIntercept": "0"}
    return lambda folder: write_dicom(folder / "a.dicom", DEEP, **values, **tags)


def _encoded(syntax: str, form: str) -> Callable[[Path], Path]:
    """A DICOM of 8 bits whose pixels are a JPEG or JPEG 2000 stream, or deflated."""

    def make(folder: Path) -> Path:
        path = write_dicom(folder / "a.dicom", GREY, 8)
        data = dcmread(path)
        if form:
            opened = io.BytesIO()
            Image.fromarray(GREY).save(opened, form, **({"no_jp2": True} if form == "JPEG2000" else {}))
            data.PixelData = encapsulate([opened.getvalue()])
            data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        data.save_as(path, enforce_file_format=True)
        return path

    return make


def _recoded(syntax: str) -> Callable[[Path], Path]:
    return lambda folder: recode(write_dicom(folder / "a.dicom", DEEP), syntax)


def _extended(folder: Path) -> Path:
    """pydicom's example: nothing installed here writes a JPEG of 12 bits."""
    return Path(shutil.copy(str(get_testdata_file("JPGExtended.dcm")), folder / "a.dicom"))


def _rle(folder: Path) -> Path:
    path = write_dicom(folder / "a.dicom", DEEP)
    data = dcmread(path)
    data.compress(uid.RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


def _decoded(file: Path) -> Told:
    remarks: Counter[str] = Counter()
    return Told((decode(file, remarks=remarks), image_size(file)), remarks)


IMAGES = tuple(
    Reader(
        f"image: {name}",
        make,
        _decoded,
        BYTES | WHOLE,
        # a DICOM states the length of its pixels beside its sides; the other formats guard neither
        values=PIXELS if name.startswith("DICOM") else (),
        contents=() if name.startswith(("DICOM", "PNG")) else PIXELS,
    )
    for name, make in {
        "PNG of 8 bits": _picture(GREY, "a.png"),
        "PNG of 16 bits": _picture(DEEP, "a.png"),
        "PNG of colours": _picture(COLOURS, "a.png"),
        "JPEG": _picture(GREY, "a.jpg"),
        "TIFF": _picture(DEEP, "a.tif"),
        "TIFF, compressed": _picture(GREY, "a.tif", compression="tiff_lzw"),
        "BMP": _picture(GREY, "a.bmp"),
        "GIF": _picture(GREY, "a.gif"),
        "WebP": _picture(COLOURS, "a.webp"),
        "DICOM": _dicom(),
        "DICOM, RLE": _rle,
        "DICOM, deflated": _encoded("DeflatedExplicitVRLittleEndian", ""),
        "DICOM, JPEG": _encoded("JPEGBaseline8Bit", "JPEG"),
        "DICOM, JPEG 2000": _encoded("JPEG2000Lossless", "JPEG2000"),
        "DICOM, JPEG of 12 bits": _extended,
        "DICOM, JPEG lossless": _recoded("JPEGLosslessProcess14_1"),
        "DICOM, JPEG-LS": _recoded("JPEGLSLossless"),
    }.items()
)

READERS = (*TABLES, *LISTS, *REPORTS, *IMAGES)
