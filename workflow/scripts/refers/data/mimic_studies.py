"""MIMIC-CXR-JPG as pre-training sees it: studies of several views, their report tokens and labels (paper §4)."""

from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.store import open_store, read_quarantine
from refers.errors import UserError
from refers.files import read_parquet


class MimicStudies:
    """Studies with at least one image and a kept report, split into `train` and `val` (official validate + test).

    Attributes:
        store: images (N, S, S) uint8, memory-mapped; label_names: columns of `labels`;
        first, count: for each study its rows in `rows`, which point into the store;
        tokens, swapped: (studies, T) report tokens and those with left and right swapped; lengths: longer of both.
        labels: (studies, C) float32 with 1, 0, -1 and NaN;
        image_ids, frontal: (N,) name and projection of every stored image;
        crops: by split the visual words' crops, where `words` was given; words: number of words;
        quarantined: rows of the store that take no part, for their image could not be read.

    Args:
        manifest: images.json of the store, which names these rows; None where every image was read.

    Raises:
        UserError: files that do not belong together, or a split without a study.
    """

    def __init__(
        self,
        index: Path,
        store: Path,
        tokens: Path,
        manifest: Path | None = None,
        words: Path | None = None,
    ) -> None:
        self.store = open_store(store)
        self.quarantined = read_quarantine(manifest) if manifest else []
        frame = read_parquet(index, "index", ("image_id", "study_id", "view", "split"), rest=True)
        if len(frame) != len(self.store):
            raise UserError(
                f"{store}: holds {len(self.store)} images, {index} lists {len(frame)}; remake the store"
            )
        saved = np.load(tokens)
        place = pd.Series(np.arange(len(saved["study_id"])), index=saved["study_id"])
        frame["row"] = np.arange(len(frame))
        self.image_ids = frame["image_id"].to_numpy()
        self.frontal = (frame["view"] == "frontal").to_numpy()
        frame["study"] = place.reindex(frame["study_id"]).to_numpy()
        frame = frame[frame["study"].notna() & ~frame["row"].isin(self.quarantined)].sort_values(
            ["study", "row"], kind="stable"
        )
        self.rows = frame["row"].to_numpy()
        study, self.first, owner, self.count = np.unique(
            frame["study"].to_numpy(np.int64), return_index=True, return_inverse=True, return_counts=True
        )
        self.tokens, self.swapped, self.lengths = (
            saved[name][study] for name in ("tokens", "swapped", "lengths")
        )
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
                    f"{index}: no {name} study has an image and a report; check the split file and the reports"
                )

        self.words, self.crops = self._read_words(words, owner) if words else (0, {})

    def _read_words(self, path: Path, owner: np.ndarray) -> tuple[int, dict[str, dict[str, np.ndarray]]]:
        table = pd.read_csv(path, dtype={"image_id": str})
        place = pd.Series(np.arange(len(self.rows)), index=self.image_ids[self.rows]).reindex(
            table["image_id"]
        )
        if place.isna().any():
            missing = table["image_id"][place.isna().to_numpy()].iloc[0]
            raise UserError(f"{path}: image {missing} has no study here; remake the words")
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
        """Store rows of all images of `studies`, and for each the study it belongs to."""
        counts = self.count[studies]
        owner = np.repeat(studies, counts)
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return self.rows[self.first[owner] + offsets], owner
