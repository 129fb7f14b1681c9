"""The model card of an encoder: what it was trained on and how, the terms of the data, its input, and how to load it."""

from pathlib import Path
from typing import Any

from refers.formatting import input_text, markdown_table, markdown_text

LOAD = """from refers.model.encoders import load_encoder
encoder, about = load_encoder({path!r})"""
TERMS = "The weights were made from these data: whether they may be passed on is for the owners' terms and agreements to say."


def model_card(facts: dict[str, Any], record: dict[str, Any], settings: dict[str, Any], loading: str) -> str:
    """Markdown of a model card.

    Args:
        facts: `method`, `title`, `note` of the study, `checkpoint` where it was imported, and `sources`, each with `name`,
            `origin`, `access` and `credit`, where it was pre-trained.
        record: run.json beside the encoder.
        settings: of the encoder's architecture.
        loading: Markdown that says how to load it.
    """
    parts = [
        f"# {markdown_text(facts['title'])}",
        f"Image encoder `{facts['method']}` for chest radiographs.",
    ]
    parts += [f"**{markdown_text(facts['note'])}**"] if facts["note"] else []
    parts += _imported(facts, record) if facts["checkpoint"] else _pretrained(facts, record)
    size = settings["image_size"]
    given = f"Grey images (B, 1, {size}, {size}) of mean 0.5 and deviation 0.5: `(grey - 0.5) / 0.5` with grey in [0, 1]."
    parts += ["## Input and architecture", given]
    if "input" in record:
        parts += [f"Input of the original weights: {markdown_text(input_text(record['input']))}."]
    shape = {name: value for name, value in settings.items() if value is not None and name != "input"}
    parts += [_table(shape)]
    made = {"library": record["library_sha256"], "commit": record["commit"], "device": record["device"]}
    made |= {f"version of {name}": value for name, value in record["versions"].items()}
    parts += ["## Made by", _table(made | {"finished": record["finished"]}), "## How to load it", loading]
    return "\n\n".join(parts) + "\n"


def load_text(encoder: Path) -> str:
    """How an encoder of this pipeline is loaded, without Snakemake."""
    code = LOAD.format(path=str(encoder))
    where = "With `PYTHONPATH=workflow/scripts`, from the project's folder and in its environment:"
    return f"{where}\n\n```python\n{code}\n```\n\n`encoder(images)` gives `tokens`, `pooled` (the feature) and `aggregation`."


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
    return markdown_table(["", ""], [[name, str(value)] for name, value in rows.items()])
