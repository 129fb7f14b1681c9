"""What to do about a download that is absent or incomplete: what to place where, and files that are misplaced or still packed."""

import re
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from refers.config.study import Source
from refers.folders import UNFINISHED_DOWNLOAD, is_download, is_leftover, is_unfinished, matching

# Misplaced files are searched for this deep below a source's folder, and in at most this many folders.
DEPTH, FOLDERS = 4, 1000
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def how_to_get(entry: Source, folder: Path, absent: list[str]) -> str:
    """What to place where and its origin, with a hint where it is found in the wrong folder or in an archive.

    Args:
        entry: the source's entry in the config.
        folder: its folder.
        absent: patterns of the entry that match nothing.
    """
    names = [in_words(entry, pattern) for pattern in absent]
    text = f"place {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} below {folder}"
    if entry.origin:
        text += f"; get it from {entry.origin}"
        text += f" ({entry.access})" if entry.access else ""
    for pattern in absent:
        if found := misplaced(entry, folder, pattern):
            source, target = found
            return f"{text}; {source} is misplaced: move the contents of {source.parent} to {target}"
    text += unfinished(folder)
    return text + next(filter(None, (packed(entry, folder, pattern) for pattern in absent)), "")


def unfinished(folder: Path) -> str:
    """Unfinished downloads at or below a folder, as a further clause; "" where there is none."""
    found = [
        path
        for place in _folders(folder)
        if place.is_dir()
        for path in place.iterdir()
        if is_unfinished(path.name)
    ]
    more = (
        f" and {len(found) - 1} more are unfinished downloads"
        if len(found) > 1
        else f" is an {UNFINISHED_DOWNLOAD}"
    )
    return f"; {min(found)}{more}: finish or repeat it" if found else ""


def in_words(entry: Source, pattern: str) -> str:
    """A pattern of a source as folders and files; without its stars a folder's name is one that the pattern matches."""
    parts = pattern.split("|")
    what = {entry.images: "the images", entry.reports: "the reports"}.get(pattern)
    if what:
        return f"{what} in {' or '.join(dict.fromkeys(f'{_parent(part)}/' for part in parts))}"
    return " or ".join(f"{_parent(part)}/" if "/*" in part else part.replace("*", "") for part in parts)


def _parent(pattern: str) -> str:
    return pattern.rpartition("/")[0].replace("*", "")


def misplaced(entry: Source, folder: Path, pattern: str) -> tuple[Path, Path] | None:
    """A file that a pattern means but that is elsewhere below the folder, as archives and wget leave it; and its place.

    Tables are recognised by their name, images and reports by as much of their path as exists.
    """
    known = [part for other in (*entry.files, entry.images, entry.reports) for part in other.split("|")]
    is_table = pattern in entry.files
    for place in _folders(folder):
        for part in pattern.split("|"):
            pieces = part.split("/")
            for start in range(len(pieces) - 1 if is_table else 0, len(pieces)):
                tail = "/".join(pieces[start:])
                # A star alone matches anything.
                if not re.search(r"\w", tail):
                    continue
                found = next(matching(place, tail), None)
                if found is None or any(_is_like(found.relative_to(folder), other) for other in known):
                    continue
                if is_table or _holds_text(found) == (pattern == entry.reports):
                    return found, folder / _parent(part)
    return None


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and those below it, breadth first, DEPTH deep and FOLDERS of them at most."""
    waiting, left = deque([(folder, 0)]), FOLDERS
    while waiting and left:
        place, depth = waiting.popleft()
        left -= 1
        yield place
        if depth < DEPTH:
            try:
                waiting += [
                    (path, depth + 1)
                    for path in sorted(place.iterdir())
                    if path.is_dir() and not is_leftover(path.name)
                ]
            except OSError:
                continue  # absent, or not readable for this user


def _is_like(path: Path, pattern: str) -> bool:
    pieces = pattern.split("/")
    return len(path.parts) == len(pieces) and all(map(fnmatch, path.parts, pieces))


def _holds_text(path: Path) -> bool:
    """Whether the first file at or below a path is a text, as reports are."""
    try:
        while path.is_dir() and (inner := next(path.iterdir(), None)):
            path = inner
    except OSError:
        return False
    return path.suffix == ".txt"


def packed(entry: Source, folder: Path, pattern: str) -> str:
    """Advice to unpack the archives of images or reports in the folder, as a further clause; "" where there is none.

    Reports come in an archive that is named like their folder, and images in any other.
    """
    if pattern not in (entry.images, entry.reports) or not folder.is_dir():
        return ""
    top = entry.reports.partition("/")[0]
    found = sorted(
        path.name for path in folder.iterdir() if path.name.endswith(ARCHIVES) and is_download(path.name)
    )
    found = [name for name in found if bool(top and name.startswith(top)) == (pattern == entry.reports)]
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    into = f" into {folder / top}" if pattern == entry.reports else ""
    return f"; unpack {found[0]}{more} in {folder}{into}, if not done yet"
