"""Golden losses: five steps of every objective give the losses on file, so that no refactoring changes a method unnoticed.

A change that is meant renews them: `pytest tests/test_golden.py --renew`, and its commit says why.
"""

import json
from pathlib import Path

import pytest
import torch
from refers import config
from refers.methods import build_objective
from refers.model.encoders import build_encoder
from refers.training import trainer
from refers.training.pretraining import pretraining_task
from test_objectives import OBJECTIVES

pytestmark = pytest.mark.usefixtures("one_thread")
GOLDEN = Path(__file__).with_name("golden") / "losses.json"
TRAINING = config.Training(
    steps=5,
    warmup_steps=1,
    batch_size=4,
    precision="fp32",
    log_every=1,
    validate_every=5,
    # At 0.02 a weight's sixth digit moves C2L's last losses by 4e-5, more than the tolerance, and processors round differently.
    optimiser=config.Optimiser(lr=0.005, text_lr=0.005, decoder_lr=0.005, clip_norm=5.0),
)


def losses_of(name, small_model, context, studies, folder):
    """Training losses of steps 1 to 5, then the validation loss."""
    torch.manual_seed(0)
    objective, settings = OBJECTIVES[name]
    module = build_objective(objective, build_encoder(small_model), settings, context)
    task = pretraining_task(studies, module, TRAINING, 32, torch.device("cpu"))
    trainer.fit(task, TRAINING, torch.device("cpu"), folder, "golden")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [record["train"]["loss"] for record in records if "train" in record]
    return [*trained, records[-1]["validation"]["loss"]]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_those_on_file(name, small_model, context, studies, tmp_path, request):
    found = losses_of(name, small_model, context, studies, tmp_path)
    golden = json.loads(GOLDEN.read_text())
    if request.config.getoption("--renew"):
        golden[name] = [float(f"{loss:.6g}") for loss in found]
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    assert found == pytest.approx(golden[name], rel=1e-5), name
    assert len(set(found)) == 6
