"""Random data of a study's shapes, in the files and through the code of a real run: what a step costs needs no download.

Pixels, tokens and labels are noise. Every report is as long as reports may be, so that a step is the largest that can come.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from refers import config
from refers.columns import LABEL
from refers.config.study import Reports
from refers.data.mimic_studies import MimicStudies
from refers.data.store import open_store
from refers.methods import StudySettings, load_objective
from refers.methods.common.pretraining import Inputs, task_of
from refers.model.classifier import Classifier
from refers.model.encoders import build_encoder
from refers.planning.step_costs import LABELS, context_of
from refers.training.finetuning import LabelledImages, finetuning_task
from refers.training.task import Task

BATCHES = 2  # batches in an epoch
HELD_OUT = 2  # studies: the shuffled-reports control needs a second one


def views_of(settings: config.Pretrain) -> int:
    """Stored images that an item of a batch shows: the views of a study, else one."""
    _, kind = load_objective(settings.objective)
    checked = config.load(kind, settings.settings, f"{settings.objective}.settings")
    return checked.views if isinstance(checked, StudySettings) else 1


def pretraining(
    settings: config.Pretrain, text: Reports, bert: Path, stored: int, folder: Path, device: torch.device
) -> Task:
    """The task of a pre-training on random studies, whose files are written to `folder`.

    Args:
        text, bert: the study's `text` settings; a random BERT of these sizes is written to the folder `bert` if it is empty.
        stored: side of the stored images in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = context_of(bert, text, settings.words.count)
    items = BATCHES * settings.training.batch_size
    files = _write_studies(folder, items, views_of(settings), stored, context.vocabulary, text.max_length)
    words = (
        _write_words(folder / "words.csv", items, stored, settings.words) if settings.words.count else None
    )
    data = MimicStudies(*files, words=words, reports=settings.reports)
    index, store, tokens = files
    inputs = Inputs(index, store, store.with_suffix(".json"), tokens, bert, words, init=None)
    return task_of(settings, inputs, data, device)


def finetuning(
    model: config.Model,
    settings: config.Finetune,
    classes: list[str],
    stored: int,
    folder: Path,
    device: torch.device,
) -> Task:
    """The task of a fine-tune of an untrained encoder on random images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    count = BATCHES * settings.training.batch_size
    rng = np.random.default_rng(0)
    store = open_store(_write_images(folder / "labelled.npy", count, stored, rng))
    frame = pd.DataFrame({"row": np.arange(count)})
    for name in classes:
        frame[LABEL + name] = rng.integers(0, 2, count).astype(np.float32)
    images = LabelledImages(store, frame, classes)
    classifier = Classifier(build_encoder(model), len(classes), settings.dropout)
    return finetuning_task(classifier, images, images, settings, model.image_size, device)


def _write_images(path: Path, count: int, stored: int, rng: np.random.Generator) -> Path:
    np.save(path, rng.integers(0, 256, (count, stored, stored), dtype=np.uint8))
    return path


def _write_studies(
    folder: Path, items: int, views: int, stored: int, vocabulary: int, length: int
) -> tuple[Path, Path, Path]:
    """index.parquet, images.npy and tokens.npz of `items` studies to train on and a few held out, of `views` images each."""
    rng, studies = np.random.default_rng(0), items + HELD_OUT
    owner = np.repeat(np.arange(studies), views)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(len(owner))],
            "study_id": [f"s{study}" for study in owner],
            "view": "frontal",
            "split": np.where(owner < items, "train", "val"),
        }
    )
    for name in LABELS:
        frame[LABEL + name] = rng.choice(np.array([1, 0, -1, np.nan], np.float32), studies)[owner]
    index, tokens = folder / "index.parquet", folder / "tokens.npz"
    frame.to_parquet(index, index=False)
    words = rng.integers(1, vocabulary, (studies, length)).astype(np.uint16)
    np.savez(
        tokens,
        study_id=np.array([f"s{study}" for study in range(studies)]),
        tokens=words,
        swapped=words,
        lengths=np.full(studies, length),
        vocabulary=vocabulary,
    )
    return index, _write_images(folder / "images.npy", len(owner), stored, rng), tokens


def _write_words(path: Path, items: int, stored: int, words: config.Words) -> Path:
    """words.csv with an instance per image and all the words among them, and with one held-out instance of each word."""
    rng, side = np.random.default_rng(0), round(words.size * stored)
    count = max(items, words.count)
    shown = np.concatenate([np.arange(count) % items, items + np.arange(words.count) % HELD_OUT])
    corners = rng.integers(0, stored - side + 1, (2, len(shown)))
    pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in shown],
            "x": corners[0],
            "y": corners[1],
            "size": side,
            "label": [*(np.arange(count) % words.count), *range(words.count)],
            "split": ["train"] * count + ["val"] * words.count,
        }
    ).to_csv(path, index=False)
    return path
