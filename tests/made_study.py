"""A small finished study of made-up files: one cell, with its records, and MIMIC-CXR files that must not be published."""

import json
import sys
from pathlib import Path

from refers.config import merge, to_dict
from refers.config.read import read_files
from refers.files import file_digest
from refers.provenance import run_record
from refers.study.check import check

ROOT = Path(__file__).parents[1]
SECRET = "bibasilar opacities, likely atelectasis"
OUTCOME = {"threads": 1, "best_step": 2, "best_score": 0.5, "resumed_at": 0, "micro_batches": 1}


def make_study(tmp_path, monkeypatch):
    """Config and files of the cell refers/shenzhen/100, two splits of two seeds, as its jobs would leave them.

    Returns the config's values and the folder, which becomes the working folder. Files of MIMIC-CXR hold SECRET.
    """
    paths = {name: str(tmp_path / name) for name in ("results", "store", "interim")}
    published = read_files([ROOT / "config/config.yaml"])
    cells = [columns | {"splits": 2} for columns in published["study"]["cells"]]
    cells[0]["splits"] = 1  # of nih, whose lists are released
    study = {"seeds": [0, 1], "cells": cells}
    values = merge(
        published,
        {"pathvars": paths, "study": study, "text": {"encoder": str(tmp_path / "bert")}},
    )
    monkeypatch.chdir(tmp_path)

    def put(path, content):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def record(folder, script, settings, inputs, outputs, **facts):
        monkeypatch.setattr(sys, "argv", [f"workflow/scripts/{script}", "--out", str(folder)])
        digests = {name: file_digest(path) for name, path in inputs.items()}
        seed = settings["training"]["seed"]
        return put(
            folder / "run.json",
            run_record.run_record(settings, seed, digests, outputs, "cpu", **OUTCOME, **facts),
        )

    for source in ("mimic", "shenzhen"):
        index, store = (
            put(f"store/{source}/index.parquet", source),
            put(f"store/{source}/images.npy", "pixels"),
        )
        digests = {"sha256": file_digest(store), "index_sha256": file_digest(index)}
        put(f"store/{source}/images.json", {"count": 1, "size": 256, **digests})
    put("store/mimic/reports.parquet", SECRET)
    read = {
        "index": tmp_path / "store/mimic/index.parquet",
        "manifest": tmp_path / "store/mimic/images.json",
        "tokens": put("interim/mimic/tokens.npz", SECRET),
        "text_encoder": put("bert/model.safetensors", "weights"),
    }
    planned = check(values)
    encoder = put("results/encoders/refers/encoder.safetensors", "an encoder")
    counts = {"parameters": 9, "encoder_parameters": 5, "studies": {"train": 3, "val": 1}, "method": "refers"}
    record(
        encoder.parent,
        "pretrain.py",
        to_dict(planned.pretrain_settings("refers")),
        read,
        {"encoder": encoder},
        **counts,
    )
    predictions = []
    for split, seed in planned.runs("shenzhen"):
        interim = f"interim/shenzhen/split{split}"
        put(f"{interim}/check.json", {})
        tuned = {
            "encoder": encoder,
            "split": put(f"{interim}/split.parquet", f"split {split}"),
            "subset": put(f"{interim}/subset_100pct.csv", f"subset {split}"),
            "manifest": tmp_path / "store/shenzhen/images.json",
        }
        settings = to_dict(planned.finetune_settings("refers", "shenzhen", 100))
        settings = merge(settings, {"training": {"seed": seed}})
        run = Path(f"results/runs/refers/shenzhen/100pct/split{split}/seed{seed}")
        predictions.append(put(run / "predictions.parquet", f"predictions {split} {seed}"))
        about = {"images": {"train": 5, "val": 1, "test": 2}, "encoder": {"method": "refers"}}
        record(
            tmp_path / run,
            "finetune.py",
            settings,
            tuned,
            {"predictions": predictions[-1]},
            **about,
        )
    splits, seeds = zip(*planned.runs("shenzhen"), strict=True)
    cell = {"method": "refers", "dataset": "shenzhen", "ratio": 100, "splits": splits, "seeds": seeds}
    cell["predictions_sha256"] = [file_digest(path) for path in predictions]
    put("results/cells/refers/shenzhen/100pct/auc.json", cell)
    return values, tmp_path
