"""List and read MIMIC-CXR's report files, files/pNN/pNNNNNNNN/sNNNNNNNN.txt, and the table of the cleaned ones."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refers.columns import NUMBER
from refers.errors import UserError
from refers.files import MAKERS, check_column, expect_regular, read_parquet
from refers.folders import UNFINISHED_DOWNLOAD, is_leftover, is_unfinished

FOLDER = "mimic-cxr-reports"  # beside the images
_GROUP_NAME = re.compile(r"p[0-9]{2}")
_REPORT_NAME = re.compile(rf"s{NUMBER}\.(?:txt|TXT)")
_PATIENT_NAME = re.compile(rf"p{NUMBER}")
# The mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MOVE = "move it out of the folder or unpack the zip again"


class ReportFile(NamedTuple):
    """A report file: study_id "s...", patient_id "p...", its text as written, and whether it is UTF-8."""

    study_id: str
    patient_id: str
    text: str
    is_utf8: bool


def list_patients(folder: Path) -> list[str]:
    """Patient folders below `folder`/files, as "pNN/pNNNNNNNN", sorted.

    Raises:
        UserError: there is no such folder, or a name in it or in a group is unexpected.
    """
    files = folder / "files"
    if not files.is_dir():
        raise UserError(f"{files}: no such folder; unpack mimic-cxr-reports.zip into {folder}")
    found = []
    for group in _entries(files):
        if not _GROUP_NAME.fullmatch(group):
            raise UserError(f"{files / group}: not a group of patients (expected pNN); {_MOVE}")
        for name in _entries(files / group):
            if not (name.startswith(group) and _PATIENT_NAME.fullmatch(name)):
                raise UserError(f"{files / group / name}: not a patient folder of {group}; {_MOVE}")
            found.append(f"{group}/{name}")
    return found


def list_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """("pNN/pNNNNNNNN", "sNNNNNNNN.txt") of every report below `folder`/files, in the order of their paths.

    patients: patient folders of `list_patients`; all of them by default.

    Raises:
        UserError: there is no such folder, or a file is not a report.
    """
    files = f"{folder}/files"
    for patient in list_patients(folder) if patients is None else patients:
        parent = f"{files}/{patient}"
        for name in _entries(parent):
            if not _REPORT_NAME.fullmatch(name):
                raise UserError(f"{parent}/{name}: not a report (expected sNNNNNNNN.txt); {_MOVE}")
            yield patient, name


def read_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[ReportFile]:
    """Read the reports of `list_reports`, one at a time.

    Raises:
        UserError: as for `list_reports`, or a report cannot be read.
    """
    files = f"{folder}/files"
    for patient, name in list_reports(folder, patients):
        path = f"{files}/{patient}/{name}"
        try:
            expect_regular(path)
            content = _content(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); download it again") from None
        yield ReportFile(name[:-4], patient.partition("/")[2], *_decode(content))


def expect_own_reports(
    folder: Path, reports: tuple[np.ndarray, np.ndarray], images: tuple[np.ndarray, np.ndarray]
) -> None:
    """Raise a UserError naming the first report that is filed under another patient than the images of its study.

    Args:
        folder: of the reports.
        reports: study and patient numbers of every report, (N,) int64 each.
        images: the same of every study with images, (M,) int64 each, sorted by study.
    """
    (studies, patients), (known, owners) = reports, images
    if not len(known):
        return
    place = np.minimum(np.searchsorted(known, studies), len(known) - 1)
    odd = (known[place] == studies) & (owners[place] != patients)
    if odd.any():
        study, patient = studies[odd][0], patients[odd][0]
        path = next(iter(folder.glob(f"files/p*/p{patient}/s{study}.txt")), folder)
        raise UserError(
            f"{path}: its images are those of patient p{owners[place][odd][0]} ({odd.sum()} such reports); move it"
            " to its patient's folder or unpack the zip again"
        )


def read_cleaned(path: Path) -> Any:
    """The cleaned reports of clean_reports.py as a pandas frame of study_id and text, a row per study.

    Raises:
        UserError: the file is missing or damaged, has no row, or a value is not text or a study is there twice.
    """
    frame = read_parquet(path, "reports", ["study_id", "text"])
    remedy = f"delete it and rerun {MAKERS['reports']}"
    for name in frame:
        # The message must not show the text of a report.
        if not (good := frame[name].map(type).eq(str)).all():
            row = int((~good).to_numpy().argmax())
            raise UserError(f"{path}: row {row}: {name} is not text; {remedy}")
    check_column(~frame["study_id"].duplicated(), path, frame, "study_id", "is duplicated", remedy)
    if frame.empty:
        raise UserError(f"{path}: no report; {remedy}")
    return frame


def _entries(folder: str | Path) -> list[str]:
    """Sorted names in a folder, without those that other programs leave behind.

    Raises:
        UserError: the folder cannot be read, or a name is that of an unfinished download.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not is_leftover(name))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); unpack the zip again") from None
    if unfinished := next(filter(is_unfinished, names), None):
        raise UserError(f"{folder}/{unfinished}: {UNFINISHED_DOWNLOAD}; finish it or unpack the zip again")
    return names


def _content(path: str) -> bytes:
    # A file object costs as much again as the reading.
    opened = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(opened, 1 << 14):
            parts.append(part)
    finally:
        os.close(opened)
    return b"".join(parts)


def _decode(content: bytes) -> tuple[str, bool]:
    """The text, and whether it is UTF-8. A byte order mark names UTF-16 and UTF-32; all else is Windows-1252."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding, errors="replace"), False
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode(), True
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), False
