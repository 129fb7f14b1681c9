"""The authors' released prediction files: their AUCs beside the printed ones, and how alike the files of a test set are.

Each file holds one class of one method, a line `label score` per test image. The measures of pairs know no method: a
file is a path, its lines' order is the order of the images.
"""

import io
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refers.errors import UserError
from refers.metrics import auc
from refers.similarity import compare_files
from refers.statistics import Bootstrap, interval

MEAN = "mean"
AUC_FIELDS = (
    "cell", "method", "class", "file", "status", "positives", "negatives", "distinct_scores", "auc", "low", "high",
    "printed", "minus_printed", "rounds_to_printed", "baseline", "minus_baseline", "minus_baseline_low", "minus_baseline_high",
)  # fmt: skip
HALVES = ("positives", "negatives")
SHARES = tuple(f"{measure}_{half}" for measure in ("identical", "expected", "correlation") for half in HALVES)
PAIR_FIELDS = (
    "dataset", "class", "first", "second", *HALVES,
    *SHARES, "monotone_positives", "monotone_negatives", "monotone", "relation",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A folder of released files that belongs to a column of the tables: a folder per method in it, a file per class."""

    folder: str
    dataset: str
    ratio: int
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dataset}/{self.ratio}"


@dataclass
class Scored:
    """Files of one method in one cell."""

    cell: Cell
    method: str
    folder: str  # below the folder of results, as released
    files: dict[str, str]  # path by class
    labels: np.ndarray  # (N, classes with a file), bool
    scores: np.ndarray

    @property
    def missing(self) -> list[str]:
        return [name for name in self.cell.classes if name not in self.files]


@dataclass
class Released:
    """What was found of what the config expects."""

    scored: list[Scored]
    missing: list[tuple[Cell, str, str]]  # cell, method, path that was not found
    unread: list[str]  # text files that no cell and method of the config accounts for


# ---- reading


def read(source: Path, cells: list[Cell], methods: dict[str, str]) -> Released:
    """Read the released files of `cells`.

    Args:
        source: the folder of results, or a tar archive that holds it.
        cells: what is expected.
        methods: method by its folder's name.

    Raises:
        UserError: the source cannot be read, nothing expected is in it, or a line is not `label score`.
    """
    folders = {f"{cell.folder}/{name}": (cell, name) for cell in cells for name in methods}
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = defaultdict(dict)
    released = Released([], [], [])
    for path, text in _texts(source):
        folder, _, name = path.rpartition("/")
        known = folder in folders and (
            len(folders[folder][0].classes) == 1 or PurePosixPath(name).stem in folders[folder][0].classes
        )
        if known:
            found[folder][path] = parse(text, path)
        else:
            released.unread.append(path)
    if not found:
        raise UserError(
            f"{source}: no file of {', '.join(folders)[:200]} ...; is it the authors' repository?"
        )
    for folder, (cell, name) in folders.items():
        method, files = methods[name], {}
        for path in sorted(found[folder]):
            # The file of a dataset of one class has the name of the task.
            label = cell.classes[0] if len(cell.classes) == 1 else PurePosixPath(path).stem
            if label in files:
                raise UserError(f"{path}: a second file of {label} beside {files[label]}; keep one")
            files[label] = path
        files = {label: files[label] for label in cell.classes if label in files}
        lost = [label for label in cell.classes if label not in files]
        released.missing += [(cell, method, f"{folder}/{label}.txt") for label in lost]
        if files:
            columns = [found[folder][path] for path in files.values()]
            first = next(iter(files.values()))
            for path, (labels, _) in zip(files.values(), columns, strict=True):
                if len(labels) != len(columns[0][0]):
                    raise UserError(
                        f"{path}: {len(labels)} rows, but {first} has {len(columns[0][0])}; is it complete?"
                    )
            labels, scores = (np.column_stack(parts) for parts in zip(*columns, strict=True))
            released.scored.append(Scored(cell, method, folder, files, labels, scores))
    released.unread.sort()
    return released


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
                f"{path}: row {row}: {line.strip()[:60]!r}, a label of 0 or 1 and a finite score are expected; fetch the file again"
            )
    raise UserError(f"{path}: no row; fetch the file again")


def _texts(source: Path) -> Iterator[tuple[str, bytes]]:
    """Path below the folder of results, and bytes, of every text file."""
    if source.is_dir():
        for path in sorted(source.rglob("*.txt")):
            yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    folder = source.name.partition(".tar")[0]
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    parts = PurePosixPath(member.name).parts
                    inside = parts[parts.index(folder) + 1 :] if folder in parts else parts
                    yield "/".join(inside), archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"{source}: cannot be read as a tar archive ({error}); fetch it again") from None


# ---- AUCs


def auc_rows(
    released: Released, printed: dict[tuple[str, str], str], reference: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of auc.csv, in percent: every class, then their mean, of every cell and method; `AUC_FIELDS`.

    Intervals are percentiles of a bootstrap over images (the files name no patient). The baseline of a cell is the
    complete method with the highest mean AUC that is not the reference; differences from it are paired.

    Args:
        released: what was read.
        printed: the paper's number by (method, cell).
        reference: the method that the paper compares with the others.
        resamples, seed: of the bootstrap.
    """
    rows, cells = [], defaultdict(list)
    for scored in released.scored:
        cells[scored.cell].append(scored)
    for cell, group in cells.items():
        values = [100 * auc(each.labels, each.scores) for each in group]
        samples = [
            100 * Bootstrap(np.arange(len(each.labels)), resamples, seed).auc(each.labels, each.scores)
            for each in group
        ]
        means = [
            np.nanmean(each) if not np.isnan(each).all() and not one.missing else np.nan
            for one, each in zip(group, values, strict=True)
        ]
        best = max(
            (
                place
                for place, each in enumerate(group)
                if each.method != reference and means[place] == means[place]
            ),
            key=lambda place: means[place],
            default=None,
        )
        for place, each in enumerate(group):
            about = {"cell": str(cell), "method": each.method}
            against, note = None, ""
            if best not in (None, place) and not each.missing:
                if np.array_equal(each.labels, group[best].labels):
                    about["baseline"], against = group[best].method, (values[best], samples[best])
                else:
                    note = f"; labels differ from those of {group[best].method}"
            rows += _class_rows(each, about, values[place], samples[place], against)
            row = _mean_row(each, about, values[place], samples[place], against, printed)
            rows.append(row | {"status": row["status"] + note})
    for cell, method, path in released.missing:
        about = {"cell": str(cell), "method": method, "file": path, "class": PurePosixPath(path).stem}
        rows.append(dict.fromkeys(AUC_FIELDS, "") | about | {"status": "missing"})
    return rows


def _class_rows(each: Scored, about: dict, values: np.ndarray, samples: np.ndarray, against) -> list[dict]:
    rows = []
    for place, (name, path) in enumerate(each.files.items()):
        one = slice(place, place + 1)
        row = dict.fromkeys(AUC_FIELDS, "") | about | {"class": name, "file": path}
        row["positives"] = int(each.labels[:, place].sum())
        row["negatives"] = len(each.labels) - row["positives"]
        row["distinct_scores"] = len(np.unique(each.scores[:, place]))
        row["status"] = "undefined: one label only" if np.isnan(values[place]) else "ok"
        rows.append(
            row | _measured(values[one], samples[:, one], against and [part[..., one] for part in against])
        )
    return rows


def _mean_row(
    each: Scored, about: dict, values: np.ndarray, samples: np.ndarray, against, printed: dict
) -> dict[str, Any]:
    row = dict.fromkeys(AUC_FIELDS, "") | about | {"class": MEAN, "file": each.folder}
    defined = ~np.isnan(values)
    undefined = [name for name, good in zip(each.files, defined, strict=True) if not good]
    if each.missing or not defined.any():
        what = "missing" if each.missing else "undefined"
        return row | {"status": f"{what}: {', '.join(each.missing or undefined)}"}
    row["status"] = f"undefined: {', '.join(undefined)}" if undefined else "ok"
    row |= _measured(
        values[defined], samples[:, defined], against and [part[..., defined] for part in against]
    )
    if text := printed.get((each.method, str(each.cell))):
        decimals = len(text.partition(".")[2])
        row |= {"printed": text, "minus_printed": row["auc"] - float(text)}
        row["rounds_to_printed"] = "yes" if f"{row['auc']:.{decimals}f}" == text else "no"
    return row


def _measured(values: np.ndarray, samples: np.ndarray, against) -> dict[str, Any]:
    """AUC, interval and difference from `against`, averaged over the given classes; blank where undefined."""
    found = {}
    mean, drawn = values.mean(), samples.mean(axis=1)
    if not np.isnan(mean):
        found["auc"] = float(mean)
        found["low"], found["high"] = interval(drawn) or ("", "")
        if against:
            found["minus_baseline"] = float(mean - against[0].mean())
            low, high = interval(drawn - against[1].mean(axis=1)) or ("", "")
            found["minus_baseline_low"], found["minus_baseline_high"] = low, high
    return found


# ---- pairs of files


def pair_rows(released: Released) -> list[dict[str, Any]]:
    """Rows of pairs.csv: every two files of one class that hold the same labels in the same order; `PAIR_FIELDS`."""
    groups: dict[tuple[str, str, bytes], list[tuple[str, np.ndarray, np.ndarray]]] = defaultdict(list)
    for each in released.scored:
        for place, (name, path) in enumerate(each.files.items()):
            labels = each.labels[:, place]
            key = each.cell.dataset, name, np.packbits(labels).tobytes() + len(labels).to_bytes(8, "big")
            groups[key].append((path, labels, each.scores[:, place]))
    rows = []
    for (dataset, name, _), files in groups.items():
        labels, scores = files[0][1], np.column_stack([scores for _, _, scores in files])
        for first, second, measured in compare_files(labels, scores):
            about = {"dataset": dataset, "class": name, "first": files[first][0], "second": files[second][0]}
            rows.append(about | measured)
    return rows
