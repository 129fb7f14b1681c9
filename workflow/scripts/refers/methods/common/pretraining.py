"""What a pre-training is built from: for the run itself, and for the short runs of its pilot."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import torch

from refers import config
from refers.data.mimic_studies import MimicStudies
from refers.methods import Context, build_objective
from refers.model.encoder_file import load_start
from refers.model.encoders import build_encoder
from refers.model.text_encoder import weights_file
from refers.provenance import run_record
from refers.provenance.ties import digest_of
from refers.training.pretraining import pretraining_task
from refers.training.runtime import seed_torch
from refers.training.task import Task

HASHED = ("index", "manifest", "tokens", "words")


@dataclass(frozen=True)
class Inputs:
    """Files that pre-training reads, under the names of a script's options."""

    index: Path
    store: Path
    manifest: Path
    tokens: Path | None
    text_encoder: Path | None
    words: Path | None
    init: Path | None

    @staticmethod
    def add_options(parser: ArgumentParser) -> None:
        """Add an option for each of the files."""
        parser.add_argument("--index", type=Path, required=True)
        parser.add_argument("--store", type=Path, required=True)
        named = "images.json, which names unreadable images"
        parser.add_argument("--manifest", type=Path, required=True, help=named)
        parser.add_argument("--tokens", type=Path, help="tokens.npz, of images that have reports")
        parser.add_argument("--text-encoder", type=Path, help="folder of a BERT, where there are reports")
        parser.add_argument("--words", type=Path, help="words.csv, for objectives that learn from crops")
        parser.add_argument("--init", type=Path, help="encoder to start from")

    @classmethod
    def of(cls, args: Namespace) -> Self:
        """The files that a script's options name."""
        return cls(**{each.name: getattr(args, each.name) for each in fields(cls)})

    def studies(self, reports: str) -> MimicStudies:
        """The studies of MIMIC-CXR or of a pool; unreadable images are left out, and a line says how many.

        Args:
            reports: `own`, or `shuffled` for the control that gives every study the report of another.
        """
        data = MimicStudies(self.index, self.store, self.tokens, self.manifest, self.words, reports)
        if data.quarantined:
            print(f"{len(data.quarantined)} unreadable images left out; {self.manifest} names their rows")
        return data

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files by name; the store is known by its manifest.

        Raises:
            UserError: the encoder to start from is not that of its record.
        """
        found = {name: run_record.file_digest(path) for name in HASHED if (path := getattr(self, name))}
        if self.init:
            found["init"] = digest_of(self.init, "encoder")
        text = self.text_encoder and weights_file(self.text_encoder)
        return found | ({"text_encoder": run_record.file_digest(text)} if text and text.exists() else {})


def task_of(settings: config.Pretrain, inputs: Inputs, data: MimicStudies, device: torch.device) -> Task:
    """The task of a pre-training, its encoder at the start; equal seeds give equal starts.

    `keep` is the encoder, `module` the objective around it.
    """
    seed_torch(settings.training.seed)
    encoder = build_encoder(settings.model)
    if inputs.init:
        load_start(encoder, inputs.init)
    context = Context(
        text_encoder=inputs.text_encoder,
        vocabulary=data.vocabulary,
        max_length=data.max_length,
        label_names=data.label_names,
        words=data.words,
    )
    objective = build_objective(settings.objective, encoder, settings.settings, context)
    return pretraining_task(data, objective, settings.training, settings.model.image_size, device)
