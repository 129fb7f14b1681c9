"""Every objective learns: on generated data, with the optimiser family of the published study, it beats its trivial predictor."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_studies
from refers import config
from refers.config.read import read_files
from refers.data.mimic_studies import MimicStudies
from refers.data.visual_words import discover
from refers.methods import Context, build_objective
from refers.model.encoders import build_encoder
from refers.study.check import check
from refers.training import trainer
from refers.training.pretraining import pretraining_task

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
PUBLISHED = check(read_files([ROOT / "config/config.yaml"]))
CPU = torch.device("cpu")
WORDS = config.Words(count=3, instances=40, held_out=12, features=8, size=0.5)
LABELS = ("Atelectasis", "Edema", "No Finding")
STUDIES, HELD_OUT, SIDE = 160, 48, 36
MODEL = {
    "image_size": 32,
    "patch_size": 8,
    "width": 48,
    "depth": 2,
    "heads": 4,
    "mlp_width": 96,
    "dropout": 0.0,
}
SMALL = {
    "refers": {
        "decoder": {"width": 32, "depth": 1, "heads": 2, "mlp_width": 64, "dropout": 0.0},
        "fusion_hidden": 32,
    },
    "lsp": {},
    "model_genesis": {"windows": 20, "decoder_width": 32},
    "context_restoration": {"decoder_width": 32},
    "transvw": {"hidden": 32, "decoder_width": 32},
    "c2l": {"width": 32, "queue": 256, "momentum": 0.9},
}
# By method: peak rate for this model within its optimiser family, steps, and the largest share of the trivial loss that passes.
RECIPES = {
    "refers": (0.1, 80, 0.8),
    "refers_plain_vit": (0.1, 80, 0.8),
    "refers_no_fusion": (0.1, 80, 0.8),
    "refers_no_contrast": (0.1, 60, 0.8),
    "refers_no_generation": (0.1, 80, 0.9),
    "model_genesis": (1.0, 100, 0.75),
    "c2l": (0.03, 100, 0.9),
    "context_restoration": (1.0, 100, 0.75),
    "transvw": (1e-3, 80, 0.75),
    "lsp_transformer": (0.1, 100, 0.75),
    "lsp_resnet18": (1e-3, 12, 0.75),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What objectives are told; the random BERT tells reports apart, as a trained one does."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 12, "initializer_range": 0.4}
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    return Context(text_encoder=folder, vocabulary=50, max_length=12, label_names=LABELS, words=WORDS.count)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Radiographs with a bright disc where their study's labels and report say that it is; each has a texture of its own."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    counts = [1 + study % 2 for study in range(STUDIES)]
    kinds, greys = rng.integers(0, 3, STUDIES), rng.integers(0, 8, STUDIES)
    y, x = np.mgrid[:SIDE, :SIDE]
    lungs = ((y - 18) / 14) ** 2 + ((abs(x - 17.5) - 9) / 6) ** 2 < 1
    images = []
    for study, count in enumerate(counts):
        place = [(9, 18), (26, 10), (26, 26)][kinds[study]]
        brightness = 120 + 10 * greys[study]
        for _ in range(count):
            turn = rng.uniform(-0.6, 0.6, 2)
            waves = rng.uniform(10, 25) * np.cos(turn[0] * x + turn[1] * y + rng.uniform(0, 6))
            disc = 80.0 * ((y - place[0]) ** 2 + (x - place[1]) ** 2 < rng.uniform(20, 45))
            images.append(np.clip(brightness - 90.0 * lungs + waves + disc, 0, 255).astype(np.uint8))
    labels = {name: np.where(kinds == place, 1.0, 0.0) for place, name in enumerate(LABELS)}
    tokens = np.zeros((STUDIES, 12), int)
    tokens[:, 0], tokens[:, 9] = 2, 3
    tokens[:, 1:5], tokens[:, 5:9] = 10 + kinds[:, None], 20 + greys[:, None]
    split = ["val" if study < HELD_OUT else "train" for study in range(STUDIES)]
    files = write_studies(folder, counts, split, np.stack(images), tokens, labels)
    discover(MimicStudies(*files), WORDS).to_csv(folder / "words.csv", index=False)
    return MimicStudies(*files, words=folder / "words.csv")


@pytest.mark.parametrize("method", RECIPES)
def test_an_objective_beats_its_trivial_predictor(method, world, told, tmp_path):
    published, (lr, steps, share) = PUBLISHED.pretrain_settings(method), RECIPES[method]
    optimiser = published.training.optimiser
    augment = {"rotation": 0.0, "brightness": 0.1, "contrast": 0.1, "flip": 0.0}
    training = config.Training(
        steps=steps,
        warmup_steps=steps // 10,
        batch_size=16,
        precision="fp32",
        validate_every=steps,
        optimiser=optimiser.at(optimiser.name, lr),
        augment=config.Augment(**augment),
    )
    torch.manual_seed(0)
    model = config.ResNet(architecture="resnet18", image_size=32)
    if published.model.architecture == "transformer":
        model = config.Transformer(
            **MODEL, **published.model.model_dump(include={"aggregation", "classifier"})
        )
    settings = SMALL[published.objective] | published.settings
    objective = build_objective(published.objective, build_encoder(model), settings, told)
    trainer.fit(pretraining_task(world, objective, training, 32, CPU), training, CPU, tmp_path, "x")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    start, end = (line["validation"] for line in lines if "validation" in line)
    assert start["trivial"] == end["trivial"]
    assert end["loss"] < share * end["trivial"]
    assert end["loss"] < 0.9 * start["loss"], "a random encoder may know something; training adds to it"
