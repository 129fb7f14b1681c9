"""What `snakemake gpu_check` found, as tables. No torch."""

from collections import Counter
from typing import Any

from refers.formatting import csv_text, gib, html_section, markdown_table, markdown_text

STEP, FINETUNING, RESUME, MEMORY, LOCK, PRODUCTS = (
    "pre-training step", "fine-tuning step", "resume", "out of memory", "GPU lock", "matrix products",
)  # fmt: skip
OK, FAILED, NO_GPU, NO_TIME, NO_APEX = "ok", "failed", "needs a GPU", "out of time", "not installed"
TIMED = (STEP, FINETUNING)
FIELDS = [
    "check", "method", "precision", "compile", "status", "batch", "steps", "seconds_per_step", "images_per_second",
    "flops_per_second", "share", "peak_bytes", "estimated_bytes", "waits", "distortion_share", "micro_batches",
    "loss_difference", "update_difference", "limit_bytes", "key",
]  # fmt: skip
STEP_HEADS = [
    "Step", "Precision", "Compiled", "Batch", "s per step", "Images/s", "Of the matrix rate", "Peak memory", "Estimate",
    "Waits per step", "Distortions", "Status",
]  # fmt: skip
CHECK_HEADS = ["Check", "Method", "Status", "Found"]
EXPLAINED = (
    "Steps of the trainer on random pixels and reports of full length. Of the matrix rate: FLOPs of the step over the rate of"
    " square matrix products in the same precision. Peak memory: that of torch's allocator, and the plan's estimate of it."
    " Waits: how often the host waits for the GPU in a step without logging. Distortions: their share of the step."
)


def failures(found: dict[str, Any]) -> list[str]:
    """Checks that failed, a line each."""
    return [_text(row) for row in found["rows"] if row["status"].startswith(FAILED)]


def _text(row: dict[str, Any]) -> str:
    about = [row["check"], row["method"], row["precision"], "compiled" if row["compile"] else ""]
    return f"{' '.join(filter(None, about))}: {row['status']}"


def to_csv(found: dict[str, Any]) -> str:
    """A row per check; fields that it has not stay empty."""
    return csv_text(FIELDS, [{name: row.get(name) for name in FIELDS} for row in found["rows"]])


def tables(found: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and rows of the timed steps, and of the other checks."""
    steps = [_step(row, found["kind"]) for row in found["rows"] if row["check"] in TIMED]
    checks = [
        [row["check"], row["method"], row["status"], _found(row)]
        for row in found["rows"]
        if row["check"] not in (*TIMED, PRODUCTS)
    ]
    return [("Training steps", STEP_HEADS, steps), ("What a run must survive", CHECK_HEADS, checks)]


def _step(row: dict[str, Any], kind: str) -> list[str]:
    timed, gpu = row["status"] == OK, "" if kind == "cuda" else NO_GPU

    def text(name: str, form: str) -> str:
        return "" if row.get(name) is None else format(row[name], form)

    peak, estimate = (gib((row.get(name) or 0) / 2**20) for name in ("peak_bytes", "estimated_bytes"))
    batch = text("batch", ",")
    if row.get("micro_batches", 1) > 1:
        batch += f" in {row['micro_batches']} micro-batches"
    return [
        f"{row['method']}, fine-tuning" if row["check"] == FINETUNING else row["method"],
        row["precision"],
        "yes" if row["compile"] else "",
        batch,
        text("seconds_per_step", ".3f"),
        text("images_per_second", ",.0f"),
        text("share", ".0%"),
        (peak or gpu) if timed else "",
        estimate,
        (text("waits", ".3g") or gpu) if timed else "",
        text("distortion_share", ".1%"),
        row["status"],
    ]


def _found(row: dict[str, Any]) -> str:
    """What a check found, in words."""
    if row["status"] != OK:
        return ""
    if row["check"] == RESUME:
        losses, updates = row["loss_difference"], row["update_difference"]
        if not losses and not updates:
            return f"all {row['steps']} losses and the weights are those of an unbroken run"
        differ = (
            f"losses differ by {losses:.1e} at most, the update of the weights by {updates:.1e} of itself"
        )
        return differ + (f"; unbroken runs by {row['spread']:.1e}" if "spread" in row else "")
    if row["check"] == MEMORY:
        limit = gib((row["limit_bytes"] or 0) / 2**20)
        why = f"more than the {limit} that were left to it" if limit else "refused by hand"
        return f"a batch, {why}, went on in {row['micro_batches']} micro-batches"
    return "kept another job out while it was held, and was free after its process had been killed"


def to_markdown(found: dict[str, Any]) -> str:
    """Both tables, with the device above and an explanation below them."""
    parts = [sentence(found)]
    for title, heads, rows in tables(found):
        parts += [
            f"## {title}",
            markdown_table(heads, [[markdown_text(cell) for cell in row] for row in rows]),
        ]
    return "\n\n".join([*parts, EXPLAINED]) + "\n"


def to_html(found: dict[str, Any]) -> str:
    """Both tables as the page shows them."""
    return html_section("gpu_check", "GPU check", f"{sentence(found)} {EXPLAINED}", tables(found))


def sentence(found: dict[str, Any]) -> str:
    """The device, its rates, and how the checks ended."""
    device = found.get("device", "the device is unknown, since its first check failed")
    parts = [device]
    if memory := found.get("memory_bytes"):
        parts.append(gib(memory / 2**20))
    if found.get("torch"):
        parts.append(f"torch {found['torch']}" + (f" for CUDA {found['cuda']}" if found["cuda"] else ""))
    parts += [
        f"{rate / 1e12:,.3g} TFLOP/s of matrix products in {name}"
        for name, rate in found.get("rates", {}).items()
    ]
    counts = Counter(FAILED if row["status"].startswith(FAILED) else row["status"] for row in found["rows"])
    ends = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{', '.join(parts)}. {len(found['rows'])} checks in {found['seconds']:.0f} s: {ends}."
