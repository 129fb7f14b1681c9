"""The learning-rate pilots of a study as a table: what was tried, what it led to, what was chosen. No torch."""

from typing import Any

from refers.formatting import csv_text, html_table, markdown_table, markdown_text

FIELDS = [
    "method",
    "optimiser",
    "lr",
    "configured",
    "chosen",
    "loss",
    "trivial",
    "diverged",
    "steps",
    "batch_size",
    "note",
]
HEADS = [
    "Method",
    "Configured",
    "Held-out loss",
    "Chosen",
    "Held-out loss",
    "Trivial predictor",
    "Steps each",
    "Note",
]
EXPLAINED = (
    "Held-out loss of pre-training after a short run of each candidate, from the same start and over the same batches; no test"
    " data take part. Trivial predictor: the loss of the best guess that ignores its input (a constant grey image, base"
    " rates, log of the batch)."
)


def named(candidate: dict[str, Any]) -> str:
    """A candidate in words: `SGD 0.003`."""
    return f"{'SGD' if candidate['name'] == 'sgd' else 'Adam'} {candidate['lr']:g}"


def notes(pilot: dict[str, Any]) -> list[str]:
    """What a reader of a choice must know: divergence, ties, the edge of the grid, a loss not below the trivial one."""
    tried, chosen = pilot["candidates"], _of(pilot, pilot["chosen"])
    found = [
        f"{named(each)} diverged at step {each['diverged']}" for each in tried if each["diverged"] is not None
    ]
    if pilot["ties"]:
        found.append(f"tied with {', '.join(map(named, pilot['ties']))}")
    if pilot["edge"]:
        found.append("at the edge of the grid")
    if pilot["trivial"] is not None and chosen["loss"] >= pilot["trivial"]:
        found.append("not below the trivial predictor")
    return found


def _of(pilot: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """The entry of a choice among the candidates."""
    return next(
        each for each in pilot["candidates"] if (each["name"], each["lr"]) == (choice["name"], choice["lr"])
    )


def to_csv(pilots: list[dict[str, Any]]) -> str:
    """One row per candidate; the notes are in the row of the chosen one."""
    rows = []
    for pilot in pilots:
        chosen = _of(pilot, pilot["chosen"])
        for place, each in enumerate(pilot["candidates"]):
            rows.append(
                {
                    "method": pilot["method"],
                    "optimiser": each["name"],
                    "lr": each["lr"],
                    "configured": int(place == 0),
                    "chosen": int(each is chosen),
                    "trivial": pilot["trivial"],
                    **{key: each[key] for key in ("loss", "diverged")},
                    **{key: pilot[key] for key in ("steps", "batch_size")},
                    "note": "; ".join(notes(pilot)) if each is chosen else "",
                }
            )
    return csv_text(FIELDS, rows)


def table(spec: dict[str, Any], pilots: list[dict[str, Any]]) -> list[list[str]]:
    """Rows under HEADS: one per method, those that cannot run with the reason."""
    rows = []
    for pilot in pilots:
        configured, chosen = pilot["candidates"][0], _of(pilot, pilot["chosen"])
        pairs = [(named(each), _number(each["loss"])) for each in (configured, chosen)]
        about = [_number(pilot["trivial"]), f"{pilot['steps']:,}", "; ".join(notes(pilot))]
        rows.append([spec["titles"][pilot["method"]], *pairs[0], *pairs[1], *about])
    absent = [[spec["titles"][method], *[""] * 6, reason] for method, reason in spec["status"].items()]
    return rows + absent


def _number(loss: float | None) -> str:
    return "undefined" if loss is None else f"{loss:.4f}"


def to_markdown(spec: dict[str, Any], pilots: list[dict[str, Any]]) -> str:
    """The table with what it shows below it.

    Args:
        spec: `titles` by method, `status` of the methods whose pilots cannot run, `note` of the study.
        pilots: contents of the files of pilot.py.
    """
    rows = [[markdown_text(cell) for cell in row] for row in table(spec, pilots)]
    if not rows:
        return "No method of this study takes its learning rate from a pilot.\n"
    parts = ["# Learning-rate pilots", markdown_table(HEADS, rows), EXPLAINED, markdown_text(spec["note"])]
    return "\n\n".join(filter(None, parts)) + "\n"


def to_html(spec: dict[str, Any], pilots: list[dict[str, Any]]) -> str:
    """The table as the page shows it."""
    return html_table(f"Learning-rate pilots. {EXPLAINED}", HEADS, table(spec, pilots))
