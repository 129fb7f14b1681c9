"""The model card of an encoder: what it was trained on and how, the terms of the data, its input, and how to load it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from refers.formatting import input_text, markdown_table, markdown_text

LOAD = """from refers.model.encoders import load_encoder
encoder, about = load_encoder({path!r})"""
TERMS = "The weights were made from these data: whether they may be passed on is for the owners' terms and agreements to say."


class Loading(NamedTuple):
    """Markdown: what images the network takes, and how it is loaded."""

    images: str
    code: str


def model_card(
    facts: dict[str, Any], record: dict[str, Any], settings: dict[str, Any], loading: Loading
) -> str:
    """Markdown of a model card.

    Args:
        facts: `method`, `title`, `note` of the study, `checkpoint` where it was imported, and `sources`, each with `name`,
            `origin`, `access` and `credit`, where it was pre-trained.
        record: run.json beside the encoder.
        settings: of the encoder's architecture.
        loading: of this file.
    """
    parts = [
        f"# {markdown_text(facts['title'])}",
        f"Image encoder `{facts['method']}` for chest radiographs.",
    ]
    parts += [f"**{markdown_text(facts['note'])}**"] if facts["note"] else []
    parts += _imported(facts, record) if facts["checkpoint"] else _pretrained(facts, record)
    parts += ["## Input and architecture", loading.images]
    if "input" in record:
        parts += [f"Input of the original weights: {markdown_text(input_text(record['input']))}."]
    shape = {name: value for name, value in settings.items() if value is not None and name != "input"}
    parts += [_table(shape)]
    made = {"library": record["library_sha256"], "commit": record["commit"], "device": record["device"]}
    made |= {f"version of {name}": value for name, value in record["versions"].items()}
    parts += [
        "## Made by",
        _table(made | {"finished": record["finished"]}),
        "## How to load it",
        loading.code,
    ]
    return "\n\n".join(parts) + "\n"


def of_encoder(encoder: Path, size: int) -> Loading:
    """How an encoder of this pipeline is loaded, without Snakemake, for images of `size` pixels."""
    images = f"Grey images (B, 1, {size}, {size}), `(grey - 0.5) / 0.5` with grey in [0, 1]."
    where = "With `PYTHONPATH=workflow/scripts`, from the project's folder and in its environment:"
    gives = "`encoder(images)` gives `tokens`, `pooled` (the feature) and `aggregation`."
    return Loading(images, f"{where}\n\n```python\n{LOAD.format(path=shown(encoder))}\n```\n\n{gives}")


def of_export(code: str) -> Loading:
    """How a network that was exported for timm is loaded, by this Python."""
    images = "As `config.json` says (`timm.data.resolve_model_data_config(model)`); grey images are repeated where there are three channels."
    return Loading(images, f"With timm, wherever this folder is:\n\n```python\n{code}\n```")


def shown(path: Path) -> str:
    """A path that may be published: a folder of this machine is not."""
    return path.name if path.is_absolute() else str(path)


def _imported(facts: dict[str, Any], record: dict[str, Any]) -> list[str]:
    if facts["checkpoint"] == "random":
        return ["## Training", "None: the weights are as initialised, and have learnt nothing."]
    keys = record["keys"]
    rows = {"checkpoint": facts["checkpoint"], "SHA-256": record["inputs"]["checkpoint"]}
    rows |= {"tensors loaded": keys["loaded"], "tensors left out": len(keys["left_out"])}
    terms = "Those of the checkpoint's owner, which this study does not know."
    return ["## Training", "Imported, not trained here.", _table(rows), "## Terms", terms]


def _pretrained(facts: dict[str, Any], record: dict[str, Any]) -> list[str]:
    settings, training = record["settings"], record["settings"]["training"]
    rows = {"objective": settings["objective"], "start": settings["init"]}
    rows |= {name: training[name] for name in ("steps", "batch_size", "precision", "seed")}
    rows |= {
        f"optimiser: {name}": value for name, value in training["optimiser"].items() if value is not None
    }
    rows |= {f"{name} studies": count for name, count in record.get("studies", {}).items()}
    rows |= {"step of the weights": record["best_step"]} if "best_step" in record else {}
    digests = {name: f"`{digest}`" for name, digest in record["inputs"].items()}
    terms = [
        f"- **{markdown_text(source['name'])}**: "
        + "; ".join(markdown_text(source[key]) for key in ("access", "origin", "credit") if source[key])
        for source in facts["sources"]
    ]
    parts = ["## Training", _table(rows), "Digests (SHA-256) of what was read:", _table(digests)]
    return [*parts, "## Terms", "\n".join(terms), TERMS]


def _table(rows: dict[str, Any]) -> str:
    return markdown_table(["", ""], [[name, _word(value)] for name, value in rows.items()])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
