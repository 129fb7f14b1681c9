"""MIMIC-CXR's report files: files/pNN/pNNNNNNNN/sNNNNNNNN.txt, listed and read."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from refers.columns import NUMBER
from refers.errors import UserError

FOLDER = "mimic-cxr-reports"  # beside the images
_REPORT_NAME = re.compile(rf"s{NUMBER}\.txt")
_PATIENT_NAME = re.compile(rf"p{NUMBER}")


class ReportFile(NamedTuple):
    """A report file: study_id "s...", patient_id "p...", its text as written, and whether it is UTF-8."""

    study_id: str
    patient_id: str
    text: str
    is_utf8: bool


def list_patients(folder: Path) -> list[str]:
    """Patient folders below `folder`/files, as "pNN/pNNNNNNNN", sorted.

    Raises:
        UserError: no such folder, or a patient in the wrong one.
    """
    files = folder / "files"
    if not files.is_dir():
        raise UserError(f"{files}: no such folder; unpack mimic-cxr-reports.zip into {folder}")
    found = []
    for group in sorted(files.glob("p*")):
        for name in sorted(_entries(group)) if group.is_dir() else ():
            if name.startswith("p") and not (name.startswith(group.name) and _PATIENT_NAME.fullmatch(name)):
                raise UserError(f"{group / name}: no patient folder of {group.name}; unpack the zip again")
            if name.startswith("p"):
                found.append(f"{group.name}/{name}")
    return found


def list_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """("pNN/pNNNNNNNN", "sNNNNNNNN.txt") of every report below `folder`/files, in the order of their paths.

    patients: those of `list_patients` to look at; all of them by default.

    Raises:
        UserError: no such folder, or a file that is no report; the message names it.
    """
    files = f"{folder}/files"
    for patient in list_patients(folder) if patients is None else patients:
        parent = f"{files}/{patient}"
        for name in sorted(_entries(parent)):
            if name.startswith(".") or name == "index.html":  # file managers and wget leave these
                continue
            if not _REPORT_NAME.fullmatch(name):
                raise UserError(
                    f"{parent}/{name}: no report (expected sNNNNNNNN.txt); move it out of the folder"
                )
            yield patient, name


def read_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[ReportFile]:
    """Reports of `list_reports`, one at a time.

    Raises:
        UserError: as `list_reports`, or a report cannot be read.
    """
    files = f"{folder}/files"
    for patient, name in list_reports(folder, patients):
        path = f"{files}/{patient}/{name}"
        try:
            with open(path, "rb", buffering=0) as opened:
                content = opened.read()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); download it again") from None
        yield ReportFile(name[:-4], patient.partition("/")[2], *_decode(content))


def _entries(folder: str | Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); unpack the zip again") from None


def _decode(content: bytes) -> tuple[str, bool]:
    try:
        return content.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), False
