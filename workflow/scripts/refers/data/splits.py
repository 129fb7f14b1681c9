"""Training, validation and test sets by patient, stratified by class, and nested label subsets (paper §4).

Every draw ranks names by their SHA-256 with a seed: it does not depend on a library's random generator, and a missing
image leaves the rank of every other one unchanged.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.config import Split
from refers.data.index import SIZES, are_sizes, are_texts
from refers.data.released_lists import LIST_NAMES, read_list, rows_of
from refers.errors import UserError
from refers.files import MAKERS, as_whole_numbers, check_column, read_frame, read_parquet

PARTS = ("train", "val", "test")
LABELS = {"positive": 1, "negative": 0}
UNKNOWN = "listed, not in the index"
REST = "the rest of the index"
# A released list contradicts the download where the labels of at least this many images, and of more than this share of the
# images that are positive in either, differ: its columns then mean something else. The share is below 0.1 for the real
# lists of NIH and C-T1.
CONTRADICTION = (10, 0.25)


def hash_order(names: Iterable[str], *key: object) -> np.ndarray:
    """Positions of `names` (N,) int64 in a random order that depends only on the names and on `key`."""
    start = hashlib.sha256("/".join(map(str, key)).encode() + b"/")
    digests = []
    for name in names:
        state = start.copy()
        state.update(name.encode())
        digests.append(state.digest())
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def make_split(
    index: pd.DataFrame, settings: Split, lists: Path | None = None, quarantined: Iterable[int] = ()
) -> tuple[pd.DataFrame, dict]:
    """Split the rows of an index into training, validation and test set: (split, report).

    split: row (int64, in the index and the store), image_id, patient_id, split, width and height as in the index, and the
    classes as "label:<Class>" float32.
    report: sizes, patients, positives and negatives of each set, and what was left out, by reason.

    Args:
        index: see `refers.data.index`.
        settings: kind of the split, its classes and views.
        lists: folder of the authors' lists, for kind `released`.
        quarantined: rows of the index whose image cannot be read; they are left out.

    Raises:
        UserError: an empty training, validation or test set, a binary training set with a single label, or unusable lists.
    """
    columns = [LABEL + name for name in settings.classes]
    if absent := [name for name in columns if name not in index.columns]:
        known = [name.removeprefix(LABEL) for name in index.columns if name.startswith(LABEL)]
        raise UserError(
            f"{settings.dataset}: no class {absent[0].removeprefix(LABEL)!r}; the index has {', '.join(known)}; use these names"
        )
    sizes = [name for name in ("width", "height") if name in index.columns]
    frame = index[["image_id", "patient_id", "view", "split", *sizes, *columns]].copy()
    frame.insert(0, "row", np.arange(len(frame), dtype=np.int64))
    left_out: dict[str, int] = {}
    notes: dict[str, Any] = {}

    def keep(wanted: pd.Series, reason: str) -> None:
        nonlocal frame
        if dropped := int((~wanted).sum()):
            left_out[reason] = left_out.get(reason, 0) + dropped
        frame = frame[wanted]

    if settings.kind == "released":
        frame["split"], notes = _released(frame, settings, columns, lists, left_out)
        keep(frame["split"] != "", "in no released list")
    keep(~frame["row"].isin(list(quarantined)), "unreadable image")
    for view in sorted(set(frame["view"]) - set(settings.views)):
        keep(frame["view"] != view, f"view {view}")
    keep(~(frame[columns] == -1).any(axis=1), "uncertain label")
    keep(frame[columns].notna().all(axis=1), "undefined label")
    if settings.kind == "official":
        frame["split"] = _official(frame, columns, settings)
        keep(frame["split"] != "", "in no official list")
    elif settings.kind == "random":
        frame["split"] = _by_patient(frame, columns, PARTS, settings.fractions, settings)

    frame = frame.drop(columns="view").reset_index(drop=True)
    left_out = {reason: count for reason, count in left_out.items() if count}
    report: dict[str, Any] = _report(frame, settings) | {"left_out": left_out, **notes}
    if notes.get("lists", {}).get("train") == REST:
        report["warnings"].append(
            f"{lists} has no {LIST_NAMES['train'][0]}: the {report['images']['train']:,} images of the index that the other"
            " lists do not name are the training set"
        )
    if empty := [part for part, count in report["images"].items() if not count]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "nothing"
        raise UserError(
            f"{settings.dataset}: the {settings.kind} split has no {' and no '.join(empty)} image (left out:"
            f" {reasons}); place more images, or use other fractions or another split"
        )
    if len(columns) == 1:
        found = report["labels"][settings.classes[0]]["train"]
        if only := next((kind for kind, count in found.items() if count == report["images"]["train"]), None):
            raise UserError(
                f"{settings.dataset}: every training image of the {settings.kind} split is {only} for"
                f" {settings.classes[0]}; place the other images too, or use another split"
            )
    return frame, report


def read_split(path: Path, images: int | None = None) -> pd.DataFrame:
    """Read and check a split that `make_split` made.

    Args:
        path: split.parquet.
        images: number of rows of its index and store, where known.

    Raises:
        UserError: the file is missing or not a split, a row has an invalid row number, name, set or label, or a set is
            empty.
    """
    frame = read_parquet(path, "split", ("row", "image_id", "patient_id", "split"), rest=True)
    remedy = f"delete it and rerun {MAKERS['split']}"

    def check(good: pd.Series, column: str, what: str) -> None:
        check_column(good, path, frame, column, what, remedy)

    place = frame["row"] if pd.api.types.is_integer_dtype(frame["row"]) else pd.Series(-1, frame.index)
    check((place >= 0) & (place < (np.inf if images is None else images)), "row", "is not a row of the index")
    check(~place.duplicated(), "row", "is duplicated")
    for name in ("image_id", "patient_id"):
        check(are_texts(frame[name]), name, "is not text")
        check(frame[name].ne(""), name, "is blank")
    check(~frame["image_id"].duplicated(), "image_id", "is duplicated")
    for name in SIZES:
        if name in frame:
            check(are_sizes(frame[name]), name, "is not a whole number of at least 0")
    check(frame["split"].isin(PARTS), "split", f"must be one of {', '.join(PARTS)}")
    labels = [name for name in frame.columns if name.startswith(LABEL)]
    if not labels:
        raise UserError(f"{path}: no column of labels ({LABEL}<class>); {remedy}")
    for name in labels:
        check(frame[name].isin([0, 1]) & (frame[name].dtype.kind in "fiub"), name, "is not a label of 0 or 1")
    for part in PARTS:
        if not (frame["split"] == part).any():
            raise UserError(f"{path}: no {part} image; {remedy}")
    return frame


def read_subset(path: Path, split: pd.DataFrame, origin: Path, seed: int | None = None) -> pd.DataFrame:
    """Rows of a split (read from `origin`) that a label subset names.

    Args:
        seed: fine-tuning seed, where the subset has a column of seeds; None takes the first one's.

    Raises:
        UserError: as `read_rows`; or the file names no image of this seed, one twice, or one that is not in the training set.
    """
    remedy = f"delete it and rerun {MAKERS['subset']}"
    subset = read_frame(path, "subset", ["image_id"], ["row", "seed"])
    as_whole_numbers(path, subset, [name for name in ("row", "seed") if name in subset], remedy)
    if "seed" in subset and len(subset):
        subset = subset[subset["seed"] == (subset["seed"].iloc[0] if seed is None else seed)]
    if subset.empty:
        of_seed = "" if seed is None else f" of seed {seed}"
        raise UserError(f"{path}: no images{of_seed}; {remedy}")
    if (twice := subset["image_id"].duplicated()).any():
        raise UserError(f"{path}: {subset['image_id'][twice].iloc[0]} is listed twice; {remedy}")
    if unknown := set(subset["image_id"]) - set(split.loc[split["split"] == "train", "image_id"]):
        raise UserError(
            f"{path}: {min(unknown, key=str)} is not a training image of {origin}; delete the subset and rerun"
        )
    chosen = split[split["image_id"].isin(subset["image_id"])]
    if "row" in subset:
        rows = subset.set_index("image_id")["row"].reindex(chosen["image_id"])
        if odd := next(
            (
                name
                for name, row in zip(rows.index, rows.to_numpy() == chosen["row"].to_numpy(), strict=True)
                if not row
            ),
            "",
        ):
            raise UserError(
                f"{path}: row {rows[odd]} is not that of {odd} in {origin}; delete the subset and rerun"
            )
    return chosen


def shuffle_labels(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """These rows with the labels of all classes together permuted over the images: a control that has nothing to learn."""
    columns = [name for name in rows.columns if name.startswith(LABEL)]
    order = hash_order(rows["image_id"], "labels", seed)
    return rows.assign(**{name: rows[name].to_numpy()[order] for name in columns})


def _by_patient(
    frame: pd.DataFrame, columns: list[str], parts: tuple, fractions: tuple, settings: Split
) -> np.ndarray:
    """Set of every row: whole patients, with each class's rarer label in every set in proportion.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, ECML PKDD 2011)
    over patients: the rarest label among the patients without a set is shared out first, then the rarest among those that
    remain, until no patient with a rarer label is left; the other patients fill the sets to their share of the images.
    The patients of a label are cut, in random order, into as many as each set lacks, where the publication places one
    after the other: a missing image then moves few of the others.
    """
    codes, patients = pd.factorize(frame["patient_id"], sort=True)
    order = hash_order(patients, settings.dataset, settings.seed)
    images, shares = np.bincount(codes), np.array(fractions) / sum(fractions)
    rarer = _rarer_labels(frame[columns].to_numpy(), codes)
    part, sets = np.full(len(patients), -1), len(parts)
    while (rarer & (part < 0)[:, None]).any():
        left = (rarer & (part < 0)[:, None]).sum(axis=0)
        members = rarer[:, np.where(left, left, len(patients) + 1).argmin()]
        placed = np.bincount(part[members & (part >= 0)], minlength=sets)
        lacking = shares * members.sum() - placed
        members = order[(members & (part < 0))[order]]
        part[members] = np.repeat(np.arange(sets), _apportion(lacking, len(members), placed == 0))
    rest = order[part[order] < 0]
    if len(rest):
        filled = np.bincount(part[part >= 0], images[part >= 0], sets)
        lacking = np.maximum(shares * images.sum() - filled, 0)
        cuts = lacking.cumsum()[:-1] / lacking.sum() * images[rest].sum()
        # A patient belongs to the set into which most of its images fall.
        middle = images[rest].cumsum() - images[rest] / 2
        part[rest] = np.searchsorted(cuts, middle, side="left")
    return np.array(parts, dtype=object)[part[codes]]


def _rarer_labels(labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Whether a patient has an image with the label of a class that fewer patients have, (patients, classes).

    labels: (images, classes) of 0 and 1; codes: (images,) number of each image's patient.
    """
    found = np.zeros((2, codes.max(initial=-1) + 1, labels.shape[1]), bool)
    for value in (0, 1):
        np.logical_or.at(found[value], codes, labels == value)
    negative, positive = found.sum(axis=1)
    return np.where(positive <= negative, found[1], found[0])


def _apportion(lacking: np.ndarray, count: int, empty: np.ndarray) -> np.ndarray:
    """How many of `count` patients each set gets, (sets,) int: in proportion to what it lacks, largest remainders first.

    An `empty` set gets at least one as long as another can spare it, since without both labels it has no AUC.
    """
    quotas = np.maximum(lacking, 0) / np.maximum(lacking, 0).sum() * count
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    # of equal remainders that of the smaller set, on which one patient weighs more
    by_remainder = np.lexsort((quotas, -np.round(quotas - counts, 9)))
    counts[by_remainder[: count - counts.sum()]] += 1
    for place in np.flatnonzero(empty & (counts == 0) & (quotas > 0)):
        if counts.max() > 1:
            counts[counts.argmax()] -= 1
            counts[place] += 1
    return counts


def _official(frame: pd.DataFrame, columns: list[str], settings: Split) -> pd.Series:
    split = frame["split"].copy()
    both = split == "train_val"
    if not (split != "").any():
        raise UserError(
            f"{settings.dataset}: the download has no official split; use kind: random or released"
        )
    if both.any():
        split[both] = _by_patient(frame[both], columns, PARTS[:2], settings.fractions[:2], settings)
    return split


def _released(
    frame: pd.DataFrame, settings: Split, columns: list[str], folder: Path | None, left_out: dict[str, int]
) -> tuple[np.ndarray, dict]:
    """Set of every row by the authors' lists, and notes for the report; the labels of `frame` become those of the lists.

    Raises:
        UserError: a list is absent or lists an image twice, or the lists contradict the download's labels (CONTRADICTION).
    """
    if folder is None:
        raise UserError(f"{settings.dataset}: a released split needs the folder of the lists; give --lists")
    files = {
        part: next((folder / name for name in LIST_NAMES[part] if (folder / name).exists()), None)
        for part in PARTS
    }
    for part in ("val", "test"):
        if files[part] is None:
            raise UserError(f"{folder}: no {LIST_NAMES[part][0]}; place the lists there (docs/data.md)")

    place = {name: row for row, name in enumerate(frame["image_id"])}
    stems = {name.rsplit(".", 1)[0]: row for name, row in place.items()}
    split = np.full(len(frame), "", dtype=object)
    labels = frame[columns].to_numpy(np.float32)
    disagree, either = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    # Keyed by row where there is one: an image may be listed under two names.
    listed: dict[int | str, str] = {}
    for part, path in files.items():
        if path is None:
            continue
        names, table = read_list(path, len(columns))
        rows = rows_of(names, place, stems)
        for number, (name, row) in enumerate(zip(names, rows.tolist(), strict=True), 1):
            key = name if row < 0 else row
            if key in listed:
                raise UserError(
                    f"{path}: entry {number}: {name} is already in {listed[key]}; keep one of them"
                )
            listed[key] = path.name
        found = rows >= 0
        left_out[UNKNOWN] = left_out.get(UNKNOWN, 0) + int((~found).sum())
        rows, table = rows[found], table[found]
        split[rows] = part
        known = np.isfinite(labels[rows])
        disagree += ((labels[rows] != table) & known).sum(axis=0)
        either += (((labels[rows] == 1) | (table == 1)) & known).sum(axis=0)
        labels[rows] = table
    if files["train"] is None:
        split[split == ""] = "train"
    for name, count, total in zip(settings.classes, disagree, either, strict=True):
        if count >= CONTRADICTION[0] and count > CONTRADICTION[1] * total:
            raise UserError(
                f"{folder}: labels of {name} differ from the download's for {count} images, of {total} that are positive in"
                " either; use the lists of this dataset, with their columns in the order of `classes`"
            )
    frame[columns] = labels
    differing = {name: int(count) for name, count in zip(settings.classes, disagree, strict=True) if count}
    return split, {
        "lists": {part: path.name if path else REST for part, path in files.items()},
        "label_disagreements": differing,
    }


def _report(frame: pd.DataFrame, settings: Split) -> dict:
    found = describe(frame)
    warnings = [
        f"{name} has no positive image in train"
        for name, counts in found["labels"].items()
        if not counts["train"]["positive"]
    ]
    return {
        "dataset": settings.dataset,
        "kind": settings.kind,
        "seed": settings.seed,
        "classes": settings.classes,
        "views": settings.views,
        **found,
        "warnings": warnings,
    }


def describe(split: pd.DataFrame) -> dict[str, Any]:
    """Counts of a split: images and patients by set, patients in several sets, and by class and set the positive and
    negative images (`labels`) and the patients who have some (`label_patients`).
    """
    parts = {part: split[split["split"] == part] for part in PARTS}
    columns = [column for column in split.columns if column.startswith(LABEL)]

    def by_label(count: Callable[[pd.DataFrame], int]) -> dict[str, dict]:
        return {
            column.removeprefix(LABEL): {
                part: {kind: count(rows[rows[column] == value]) for kind, value in LABELS.items()}
                for part, rows in parts.items()
            }
            for column in columns
        }

    return {
        "images": {part: len(rows) for part, rows in parts.items()},
        "patients": {part: int(rows["patient_id"].nunique()) for part, rows in parts.items()},
        "patients_across_sets": int((split.groupby("patient_id")["split"].nunique() > 1).sum()),
        "labels": by_label(len),
        "label_patients": by_label(lambda rows: int(rows["patient_id"].nunique())),
    }


def minority_warnings(counts: dict[str, Any], least: int, dataset: str) -> list[str]:
    """A line for each class and set with fewer than `least` patients of one label: an AUC on so few is mostly chance.

    counts: see `describe`.
    """
    return [
        f"{dataset}: {part} has {found[kind]} patients ({counts['labels'][name][part][kind]} images) {kind} for {name},"
        f" fewer than {least} (study.minority_patients)"
        for name, parts in counts["label_patients"].items()
        for part, found in parts.items()
        for kind in LABELS
        if found[kind] < least
    ]


def positives(rows: pd.DataFrame) -> dict[str, int]:
    """Positive images of each class."""
    labels = (name for name in rows.columns if name.startswith(LABEL))
    return {name.removeprefix(LABEL): int((rows[name] == 1).sum()) for name in labels}


def draw_subset(
    split: pd.DataFrame, ratio: float, seed: int, training_seed: int | None = None
) -> pd.DataFrame:
    """Training rows of a label ratio in percent: columns row and image_id, sorted by row.

    Every `training_seed` has a draw of its own; None is the one that training seeds share.

    One random order of the training images serves every ratio, so that 1 % is a subset of 10 %. The first positive of each
    class (rarest class first; of a binary set, also the first negative) is moved to the front and always taken: no class
    of the training set is left without a positive.

    Raises:
        UserError: the ratio is outside (0, 100], or there is no training image.
    """
    if not 0 < ratio <= 100:
        raise UserError(f"ratio {ratio} is not a percentage; choose one above 0 and up to 100")
    train = split[split["split"] == "train"]
    if train.empty:
        raise UserError("the split has no training image; delete it and rerun split_dataset.py")
    key = (seed,) if training_seed is None else (seed, training_seed)
    train = train.iloc[hash_order(train["image_id"], "subset", *key)]
    columns = [name for name in train.columns if name.startswith(LABEL)]
    wanted = train[columns].to_numpy() == 1
    if len(columns) == 1:
        wanted = np.hstack([wanted, ~wanted])
    first: list[int] = []
    for column in sorted(range(wanted.shape[1]), key=lambda column: wanted[:, column].sum()):
        if wanted[:, column].any() and not wanted[first, column].any():
            first.append(int(wanted[:, column].argmax()))
    count = max(len(first), int(len(train) * ratio / 100 + 0.5))
    rest = np.setdiff1d(np.arange(len(train)), first)
    chosen = np.concatenate([np.array(first, np.int64), rest])[:count]
    return train.iloc[chosen].sort_values("row")[["row", "image_id"]]
