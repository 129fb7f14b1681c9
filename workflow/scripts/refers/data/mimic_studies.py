"""What pre-training learns from: studies of MIMIC-CXR-JPG with report tokens and labels (paper §4), or a pool of other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from refers.array_files import read_npz
from refers.columns import LABEL
from refers.data.index import aspects, read_index
from refers.data.leakage import picture_digests
from refers.data.splits import hash_order
from refers.data.store import expect_rows, open_store, read_quarantine
from refers.errors import UserError
from refers.files import MAKERS, as_whole_numbers, check_column, file_digest, read_frame

SHUFFLE = 0  # seed of the draw of other studies' reports
# Of a pool: views that are radiographs, and the share of patients that validates where no validation set of the study does.
RADIOGRAPHS, HELD_OUT = ("frontal", "lateral"), 0.05
# Columns of an index that tell the sources of a pool apart.
IN_POOL = {"image_id", "patient_id", "study_id", "path"}
TOKENS = ("study_id", "tokens", "swapped", "lengths", "vocabulary")
WORDS_REMEDY = f"delete it and rerun {MAKERS['visual words']}"


class MimicStudies:
    """Studies with at least one image and a kept report, split into `train` and `val` (official validate + test).

    Of a pool there are no reports: every study with an image counts, and its one token is padding.

    Attributes:
        store: images (N, S, S) uint8, memory-mapped.
        rows: rows of the store, grouped by study; study i has rows[first[i] : first[i] + count[i]].
        first, count: (studies,) int64.
        tokens, swapped: (studies, T) report tokens, as written and with left and right exchanged.
        lengths: (studies,) number of tokens, the longer of the two.
        vocabulary, max_length: size of the tokenizer's vocabulary, and T.
        aspects: (N,) float32, width over height of every picture in the store; None where the index does not say.
        labels: (studies, C) float32 of 1, 0, -1 and NaN.
        label_names: names of the C classes.
        splits: indices of the studies by split.
        image_ids, frontal: (N,) name of every stored image, and whether it is a frontal view.
        crops: crops of the visual words by split, if `words` was given.
        words: number of visual words.
        quarantined: rows of the store that are not used because their image could not be read.

    Args:
        index, store, tokens: index.parquet, images.npy and tokens.npz of MIMIC-CXR; of a pool, tokens is None.
        manifest: images.json of the store, which lists the quarantined rows; None if every image was read.
        words: words.csv of discover_words.py.
        reports: `shuffled` gives every study the report of another one of its split; images and labels stay.

    Raises:
        UserError: the files do not belong together, a split has no study, or has no second one to take a report from.
    """

    def __init__(
        self,
        index: Path,
        store: Path,
        tokens: Path | None,
        manifest: Path | None = None,
        words: Path | None = None,
        reports: str = "own",
    ) -> None:
        frame = read_index(index, ("image_id", "study_id", "view", "split"))
        digest = file_digest(index)
        self.store = open_store(store, digest)
        self.quarantined = read_quarantine(manifest, digest) if manifest else []
        expect_rows(store, self.store, index, len(frame))
        saved = _read_tokens(tokens) if tokens else _no_tokens(frame["study_id"])
        place = pd.Series(np.arange(len(saved["study_id"])), index=saved["study_id"])
        frame["row"] = np.arange(len(frame))
        self.image_ids, self.aspects = frame["image_id"].to_numpy(), aspects(frame)
        self.frontal = (frame["view"] == "frontal").to_numpy()
        frame["study"] = place.reindex(frame["study_id"]).to_numpy()
        frame = frame[frame["study"].notna() & ~frame["row"].isin(self.quarantined)].sort_values(
            ["study", "row"], kind="stable"
        )
        self.rows = frame["row"].to_numpy()
        study, self.first, owner, self.count = np.unique(
            frame["study"].to_numpy(np.int64), return_index=True, return_inverse=True, return_counts=True
        )
        self.tokens, self.swapped = saved["tokens"][study], saved["swapped"][study]
        self.lengths = saved["lengths"][study]
        self.vocabulary, self.max_length = int(saved["vocabulary"]), self.tokens.shape[1]
        names = [column for column in frame.columns if column.startswith(LABEL)]
        heads = frame.iloc[self.first]
        self.label_names = tuple(name.removeprefix(LABEL) for name in names)
        self.labels = heads[names].to_numpy(np.float32)
        held_out = heads["split"].isin(["val", "test"]).to_numpy()
        self.splits = {"train": np.flatnonzero(~held_out), "val": np.flatnonzero(held_out)}
        for name, members in self.splits.items():
            if not len(members):
                raise UserError(
                    f"{index}: no {name} study has an image and a report; check the official split table and the reports"
                )
        if reports == "shuffled":
            donor = self._donors(index, heads["study_id"].to_numpy(str))
            self.tokens, self.swapped = self.tokens[donor], self.swapped[donor]
            self.lengths = self.lengths[donor]

        self.words, self.crops = self._read_words(words, owner) if words else (0, {})

    def _donors(self, index: Path, names: np.ndarray) -> np.ndarray:
        """For each study (by its name) another one of its split, every study once: each passes its report to the next of
        a random order of the split, and the last to the first."""
        donor = np.empty(len(names), np.int64)
        for split, members in self.splits.items():
            if len(members) < 2:
                raise UserError(
                    f"{index}: reports: shuffled needs two {split} studies at least, found one; use own"
                )
            order = members[hash_order(names[members], "reports", SHUFFLE)]
            donor[order] = np.roll(order, 1)
        return donor

    def _read_words(self, path: Path, owner: np.ndarray) -> tuple[int, dict[str, dict[str, np.ndarray]]]:
        table = read_frame(path, "visual words", ["image_id", "x", "y", "size", "label", "split"], ["rank"])
        if table.empty:
            raise UserError(f"{path}: no visual words; {WORDS_REMEDY}")
        as_whole_numbers(path, table, ("x", "y", "size", "label"), WORDS_REMEDY)
        good = table["split"].isin(["train", "val"])
        check_column(good, path, table, "split", "is neither train nor val", WORDS_REMEDY)
        known = pd.Series(np.arange(len(self.rows)), index=self.image_ids[self.rows])
        place = known.reindex(table["image_id"])
        if place.isna().any():
            missing = table["image_id"][place.isna().to_numpy()].iloc[0]
            raise UserError(f"{path}: image {missing} is in no study of the index; {WORDS_REMEDY}")
        place, half = place.to_numpy(np.int64), self.store.shape[1] / 2
        middle = table[["x", "y"]].to_numpy() + table[["size"]].to_numpy() / 2
        place_in_image = np.column_stack([middle / half - 1, table["size"] / (2 * half)]).astype(np.float32)
        everything = {
            "row": self.rows[place],
            "study": owner[place],
            "place": place_in_image,
            "word": table["label"].to_numpy(),
        }
        split = table["split"].to_numpy()
        return int(table["label"].max()) + 1, {
            name: {key: values[split == name] for key, values in everything.items()}
            for name in ("train", "val")
        }

    def images_of(self, studies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store rows of all images of `studies` (indices), and the study that each belongs to."""
        counts = self.count[studies]
        owner = np.repeat(studies, counts)
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return self.rows[self.first[owner] + offsets], owner


@dataclass(frozen=True)
class PoolSource:
    """A download to pool: its name, index and image store, rows that cannot be read, and its splits in the study."""

    name: str
    index: pd.DataFrame
    store: np.ndarray
    quarantined: Sequence[int]
    splits: Sequence[pd.DataFrame]


def pool(sources: Sequence[PoolSource]) -> tuple[pd.DataFrame, list[np.ndarray], dict[str, dict[str, int]]]:
    """Images of several downloads to pre-train on: (index, rows of each store in the order of the index, counts by source).

    Names, patients, studies and paths get the source in front; a label that a source does not have is NaN. Left out are unreadable
    images, CT slices and unknown views, and what would let a test set of the study into pre-training: its images, further
    images of its patients, the download's own test images, and pictures that are identical to a test image. Validation
    images of the study, and further images of their patients, are `val`, as is a twentieth of the patients of a download
    that has no split in the study; all others are `train`.

    Raises:
        UserError: nothing of a source is left to train on.
    """
    frames, rows, counts = [], [], {}
    for source in sources:
        part, reasons = _part_of(source)
        left_out = {reason: int((reasons == reason).sum()) for reason in sorted({*reasons} - {""})}
        kept = reasons == ""
        if not (part[kept] == "train").any():
            raise UserError(
                f"pretrain.sources: no image of {source.name} is left to train on (left out: {left_out}); name another source"
            )
        frame = source.index[kept].assign(split=part[kept])
        for name in IN_POOL & {*frame.columns}:
            frame[name] = f"{source.name}/" + frame[name]
        frames.append(frame)
        rows.append(np.flatnonzero(kept))
        sizes = {name: int((part[kept] == name).sum()) for name in ("train", "val")}
        counts[source.name] = sizes | {"left_out": left_out}
    return pd.concat(frames, ignore_index=True), rows, counts


def _part_of(source: PoolSource) -> tuple[np.ndarray, np.ndarray]:
    """For each image of a source, `train` or `val`, and why it is left out, empty for those that are not; (N,) each."""
    index, used = source.index, pd.concat([pd.DataFrame({"row": [], "split": []}), *source.splits])
    patients = index["patient_id"]
    rows = {
        part: used.loc[used["split"] == part, "row"].unique().astype(np.int64) for part in ("val", "test")
    }
    tested = np.zeros(len(index), bool)
    tested[rows["test"]] = True
    if len(used):
        tested |= (index["split"] == "test").to_numpy()
    unreadable = index.index.isin(list(source.quarantined))
    digests = picture_digests(source.store, np.arange(len(index)))
    twins = np.isin(digests, digests[tested & ~unreadable])
    reasons = np.select(
        [
            unreadable,
            ~index["view"].isin(RADIOGRAPHS).to_numpy(),
            tested,
            patients.isin(set(patients[tested])).to_numpy(),
            twins,
        ],
        ["unreadable", "no radiograph", "test image", "patient of a test image", "identical to a test image"],
        "",
    )
    held_out = set(patients.iloc[rows["val"]])
    if not len(used):
        everyone = np.array(sorted(set(patients[reasons == ""])), object)
        order = hash_order(everyone, "pool", source.name)
        held_out = {*everyone[order[: max(1, round(HELD_OUT * len(everyone)))]]}
    return np.where(patients.isin(held_out), "val", "train"), reasons


def _no_tokens(studies: pd.Series) -> dict[str, np.ndarray]:
    """What `_read_tokens` returns, for studies without reports."""
    names = np.unique(studies.to_numpy(str))
    padding = np.zeros((len(names), 1), np.uint16)
    lengths = np.ones(len(names), np.int16)
    return dict(zip(TOKENS, (names, padding, padding, lengths, np.array(1)), strict=True))


def _read_tokens(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a tokens.npz.

    Raises:
        UserError: the file is missing or truncated, or an array is absent or does not fit the others.
    """
    remedy = "delete it and rerun tokenize_reports.py"
    found = read_npz(path, "not tokens", remedy, TOKENS)
    if fault := _fault_of_tokens(found):
        raise UserError(f"{path}: {fault}; {remedy}")
    return found


def _fault_of_tokens(found: dict[str, np.ndarray]) -> str:
    """What is wrong with the arrays of a tokens.npz, in one line; empty where nothing is."""
    names, tokens, swapped, lengths, vocabulary = (found[name] for name in TOKENS)
    if vocabulary.shape or vocabulary.dtype.kind not in "iu" or vocabulary < 1:
        return "vocabulary is not a positive whole number"
    if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
        return "study_id is not a list of names"
    for name in ("tokens", "swapped", "lengths"):
        if found[name].dtype.kind not in "iu":
            return f"{name} are of type {found[name].dtype}, not whole numbers"
    if tokens.ndim != 2 or tokens.shape[0] != len(names) or not tokens.shape[1]:
        return f"tokens have the shape {tokens.shape}, but there are {len(names)} studies"
    if swapped.shape != tokens.shape or lengths.shape != (len(names),):
        return f"swapped {swapped.shape} and lengths {lengths.shape} do not fit tokens {tokens.shape}"
    if (twice := len(names) - len(np.unique(names))) > 0:
        return f"{twice} studies are there twice"
    for name, ids in (("tokens", tokens), ("swapped", swapped)):
        if ids.min() < 0 or ids.max() >= vocabulary:
            return f"{name} have ids from {ids.min()} to {ids.max()}, outside the vocabulary of {vocabulary}"
    if lengths.min() < 0 or lengths.max() > tokens.shape[1]:
        return f"lengths are from {lengths.min()} to {lengths.max()}, but there are {tokens.shape[1]} tokens"
    # The longest row that a batch may be cut to must hold every token.
    padding = np.arange(tokens.shape[1]) >= lengths[:, None]
    if (odd := ((tokens != 0) | (swapped != 0)) & padding).any():
        return f"study {names[odd.any(1)][0]} has tokens behind its length"
    return ""
