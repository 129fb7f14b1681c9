"""Read the authors' released prediction files from a clone of their repository or an archive of it.

Each file belongs to one class of one method and has a line `label score` per test image, in the order of the released
test list. Archives are read in place: nothing is extracted, so that no name in them can reach another folder.
"""

import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from refers.data.released_lists import parse_list
from refers.errors import UserError


@dataclass(frozen=True)
class ResultFolder:
    """A released folder that belongs to a table column; it has one folder per method with one file per class."""

    folder: str
    dataset: str
    ratio: int
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dataset}/{self.ratio}"


@dataclass
class MethodScores:
    """Labels and scores of one method in one cell.

    folder: as released, relative to the folder of results; files: path by class; labels, scores: (N, classes with a file)
    bool and float64; patients: (N,) names, or None if they are not known.
    """

    cell: ResultFolder
    method: str
    folder: str
    files: dict[str, str]
    labels: np.ndarray
    scores: np.ndarray
    patients: np.ndarray | None

    @property
    def missing(self) -> list[str]:
        return [name for name in self.cell.classes if name not in self.files]


@dataclass(frozen=True)
class TestList:
    """The released list of a dataset's test images: labels (N, classes) bool and patients (N,) names."""

    labels: np.ndarray
    patients: np.ndarray


@dataclass
class ReleasedFiles:
    """Released files by method and cell, against what the config expects.

    missing: (cell, method, path) of each expected file that does not exist; unread: text files that do not belong to a
    cell and method of the config; renamed: path of each file that was found under another spelling than the config's, and
    the path that was expected.
    """

    methods: list[MethodScores]
    missing: list[tuple[ResultFolder, str, str]]
    unread: list[str]
    renamed: list[tuple[str, str]] = field(default_factory=list)


def alike(path: str) -> str:
    """A path without what spellings of a name differ in: the letters' case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", path).casefold()


def read(
    source: Path, top: str, cells: list[ResultFolder], methods: dict[str, str], lists: dict[str, TestList]
) -> ReleasedFiles:
    """Read the released files of `cells`. Folders and files are found whatever the spelling of their names, see `alike`.

    Args:
        source: the folder of results, or an archive that contains it.
        top: name of that folder in an archive.
        cells: the expected folders.
        methods: method by the name of its folder.
        lists: test list by dataset. Its patients are those of a method's files if both have the same labels row for row.

    Raises:
        UserError: the source cannot be read, contains no expected file, or a line is not `label score`.
    """
    folders = {f"{cell.folder}/{name}": (cell, name) for cell in cells for name in methods}
    spelt = {alike(folder): folder for folder in folders}
    found: dict[str, dict[str, tuple[str, np.ndarray, np.ndarray]]] = defaultdict(dict)
    released = ReleasedFiles([], [], [], [])
    for path, text in _texts(source, top):
        parent, _, name = path.rpartition("/")
        folder = spelt.get(alike(parent), "")
        label = _class_of(name, folders[folder][0].classes) if folder else None
        if label is None:
            released.unread.append(path)
            continue
        if label in found[folder]:
            raise UserError(f"{path}: a second file of {label}, besides {found[folder][label][0]}; keep one")
        found[folder][label] = (path, *parse(text, path))
        # The file of a dataset with one class is named after the task.
        expected = f"{folder}/{name if len(folders[folder][0].classes) == 1 else f'{label}.txt'}"
        released.renamed += [(path, expected)] if path != expected else []
    if not found:
        raise UserError(
            f"{source}: no file of {', '.join(folders)[:200]} ...; use a clone or an archive of the authors' repository"
        )
    for folder, (cell, name) in folders.items():
        method = methods[name]
        columns = {label: found[folder][label] for label in cell.classes if label in found[folder]}
        lost = [label for label in cell.classes if label not in columns]
        released.missing += [(cell, method, f"{folder}/{label}.txt") for label in lost]
        if columns:
            files = {label: path for label, (path, *_) in columns.items()}
            first, count = next((path, len(labels)) for path, labels, _ in columns.values())
            for path, labels, _ in columns.values():
                if len(labels) != count:
                    raise UserError(
                        f"{path}: {len(labels)} rows, but {first} has {count}; download both again"
                    )
            labels, scores = (np.column_stack([each[part] for each in columns.values()]) for part in (1, 2))
            places = [cell.classes.index(label) for label in files]
            patients = _patients(lists.get(cell.dataset), places, labels)
            released.methods.append(MethodScores(cell, method, folder, files, labels, scores, patients))
    released.unread.sort()
    released.renamed.sort()
    return released


def _class_of(name: str, classes: tuple[str, ...]) -> str | None:
    """The class that a file's name means, or None. The file of a dataset with one class may have any name."""
    if len(classes) == 1:
        return classes[0]
    stem = alike(PurePosixPath(name).stem)
    return next((label for label in classes if alike(label) == stem), None)


def read_lists(
    source: Path, top: str, wanted: dict[str, tuple[str, str, int]]
) -> tuple[dict[str, TestList], list[tuple[str, str]]]:
    """Test lists by dataset, for the datasets whose list exists; found whatever the spelling of their names, see `alike`.

    Args:
        source: the folder of lists, or an archive that contains it.
        top: name of that folder in an archive.
        wanted: by dataset, the path of its list in the folder, a regular expression that finds the patient in an image's
            name, and the number of classes.

    Returns:
        the lists, and for each that was found under another spelling its path and the expected one.

    Raises:
        UserError: the source cannot be read, a list is there in two spellings or has a wrong row, or a name in it does not
            match the expression.
    """
    spellings = {alike(path) for path, *_ in wanted.values()}
    texts: dict[str, tuple[str, bytes]] = {}
    for path, text in _texts(source, top):
        if (spelling := alike(path)) in spellings:
            if spelling in texts:
                raise UserError(f"{path}: a second list besides {texts[spelling][0]}; keep one")
            texts[spelling] = path, text
    found, renamed = {}, []
    for dataset, (expected, pattern, classes) in wanted.items():
        if alike(expected) in texts:
            path, text = texts[alike(expected)]
            renamed += [(path, expected)] if path != expected else []
            images, labels = parse_list(text, path, classes)
            patients = []
            for row, image in enumerate(images, 1):
                if not (match := re.search(pattern, image)):
                    raise UserError(
                        f"{path}: entry {row}: no patient found in the name {image!r}; correct audit.patients.{dataset}"
                    )
                patients.append(match[0])
            found[dataset] = TestList(labels == 1, np.array(patients))
    return found, renamed


def _patients(listed: TestList | None, columns: list[int], labels: np.ndarray) -> np.ndarray | None:
    same = listed is not None and np.array_equal(listed.labels[:, columns], labels)
    return listed.patients if same else None


def parse(text: bytes, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) as bool and scores (N,) of a released file.

    Raises:
        UserError: the file is empty, or a row is not a label of 0 or 1 and a finite score.
    """
    try:
        table = np.loadtxt(io.BytesIO(text), comments=None, ndmin=2) if text.strip() else np.empty((0, 2))
    except ValueError:
        table = None
    if table is not None and table.shape[1] == 2 and len(table):
        labels, scores = table.T
        if np.isin(labels, (0, 1)).all() and np.isfinite(scores).all():
            return labels == 1, scores
    for row, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        try:
            label, score = map(float, line.split())
            good = label in (0, 1) and np.isfinite(score)
        except ValueError:
            good = not line.strip()
        if not good:
            raise UserError(
                f"{path}: row {row}: {line.strip()[:60]!r}, expected a label of 0 or 1 and a finite score; download the file again"
            )
    raise UserError(f"{path}: no rows; download the file again")


def _texts(source: Path, top: str) -> Iterator[tuple[str, bytes]]:
    """Relative path and content of every text file in a folder, or in the folder `top` of an archive.

    Raises:
        UserError: it cannot be read, or an archive contains a path twice.
    """
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if _is_text(path.name) and path.is_file()):
            try:
                yield path.relative_to(source).as_posix(), path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); download it again") from None
        return
    seen = set()
    try:
        for name, text in (_zipped if source.suffix == ".zip" else _tarred)(source):
            parts = PurePosixPath(name).parts
            if top in parts and _is_text(parts[-1]):
                path = "/".join(parts[parts.index(top) + 1 :])
                if path in seen:
                    raise UserError(f"{source}: contains {top}/{path} twice; download it again")
                seen.add(path)
                yield path, text()
    # RuntimeError: a zip file with a password, or a compression that Python does not support.
    except (
        OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError
    ) as error:  # fmt: skip
        raise UserError(f"{source}: cannot be read as an archive ({error}); download it again") from None


def _is_text(name: str) -> bool:
    """Whether a file is a text, and not what a file manager wrote beside one (._name)."""
    return name.lower().endswith(".txt") and not name.startswith(".")


def _tarred(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile() and (opened := archive.extractfile(member)):
                yield member.name, opened.read


def _zipped(source: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            yield member.filename, lambda member=member: archive.read(member)
