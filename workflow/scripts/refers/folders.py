"""Names in downloaded folders: what other programs leave there, what is not downloaded whole, which names mean one file."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

# In lower case: leftovers of file managers, of archives made on a Mac, and of wget.
LEFTOVERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "robots.txt", "$recycle.bin"}
# Suffixes, in lower case, of files that gsutil, browsers and download managers have not finished.
UNFINISHED = (
    *("_.gstmp", ".gstmp", ".part", ".partial", ".crdownload", ".download", ".opdownload", ".aria2"),
    *(".filepart", ".tmp", ".!ut", ".!qb"),
)
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "dcm", "dicom")
UNFINISHED_DOWNLOAD = "unfinished download"


def is_leftover(name: str) -> bool:
    """Whether a name in a folder is no part of any download: hidden, or of a file manager or wget."""
    lower = name.lower()
    return lower in LEFTOVERS or lower.startswith((".", "index.html"))


def is_unfinished(name: str) -> bool:
    """Whether a name is that of a download which was interrupted or still runs."""
    return name.lower().endswith(UNFINISHED)


def is_download(name: str) -> bool:
    """Whether a name may be a part of a download."""
    return not is_leftover(name) and not is_unfinished(name)


def name_key(name: str) -> str:
    """What equal names share: composed characters (NFC; a Mac decomposes them), and the suffix in lower case."""
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    return f"{stem}{dot}{suffix.lower()}" if dot else suffix


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Paths below `folder` that match one of the alternatives of "this|or that", the suffix of an image in either case."""
    for part in pattern.split("|"):
        head, dot, suffix = part.rpartition(".")
        if suffix in IMAGE_SUFFIXES:
            part = head + dot + re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", suffix)
        yield from (path for path in folder.glob(part) if is_download(path.name))
