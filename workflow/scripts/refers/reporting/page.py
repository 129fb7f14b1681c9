"""The static page of a study in one file: tables, figures, claims, runs, and the provenance of every number.

Images are inside, so that it can be mailed; it needs no server and no network.
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from refers.evaluation.statistics import LEVEL
from refers.evaluation.verdict import CONSISTENT, DIFFERENT, TOO_NOISY
from refers.formatting import gib, input_text, scrolling, span
from refers.reporting.table import TESTS

ASSETS = Path(__file__).parents[3] / "report"
VERDICTS = {
    **{"holds": "holds", "does not hold": "fails"},
    **{"within noise": "open", "cannot be judged": "open"},
}


JUDGED = (CONSISTENT, DIFFERENT, TOO_NOISY)
RUN_HEADS = (
    "Method",
    "Dataset",
    "Labels",
    "Split",
    "Seed",
    "Job",
    "Time",
    "Memory",
    "Device",
    "Steps",
    "Resumed at",
)


class Picture(NamedTuple):
    """A figure: its caption, the content of its PNG, and its PDF's path beside the page."""

    caption: str
    content: bytes
    pdf: str


# Keys of a run record that the page shows.
FACTS = ("seed", "settings_sha256", "library_sha256", "commit", "device", "wall_seconds", "versions")


def facts_of_runs(records: Iterable[dict]) -> dict[str, str]:
    """Facts of the run.json files behind one cell; where they differ, every value is named."""
    records = list(records)
    # records of earlier versions describe a single process
    processes = [part for record in records for part in record.get("history", [record])]

    def every(key: str) -> str:
        return ", ".join(dict.fromkeys(str(part[key]) for part in processes))

    seconds = [record["wall_seconds"] for record in records]
    encoders = [record.get("encoder", {}) for record in records]
    inputs = dict.fromkeys(input_text(encoder["input"]) for encoder in encoders if "input" in encoder)
    threads = dict.fromkeys(str(record["threads"]) for record in records if "threads" in record)
    return {
        # once each: the runs of another split have the same seeds and settings
        "seeds": ", ".join(dict.fromkeys(str(record["seed"]) for record in records)),
        "configuration": ", ".join(dict.fromkeys(record["settings_sha256"][:12] for record in records)),
        "library": ", ".join(dict.fromkeys(part["library_sha256"][:12] for part in processes)),
        "commit": every("commit"),
        "device": every("device"),
        **({"threads": ", ".join(threads)} if threads else {}),
        **({"input of the encoder": "; ".join(inputs)} if inputs else {}),
        "time": f"{fmean(seconds):.1f} s per seed",
        "torch": ", ".join(dict.fromkeys(record["versions"].get("torch", "?") for record in records)),
        **({"run in": f"{len(processes)} processes"} if len(processes) > len(records) else {}),
    }


def summary_of(numbers: Iterable[dict[str, str]], records: list[dict], claims: list[dict]) -> dict[str, str]:
    """What the page's head says: cells with a number, verdicts and claims by kind, and how the runs were made.

    Args:
        numbers: rows of the tables' csv.
        records: run.json of every training job.
        claims: lines of claims.csv.
    """
    numbers = [row for row in numbers if row["row"] not in TESTS and row["method"] and not row["class"]]
    made = {row["target"] for row in numbers if row["mean"] and row["target"].endswith("/auc.json")}
    judged = {(row["row"], row["column"]): row["verdict"] for row in numbers}
    verdicts = Counter(verdict for verdict in judged.values() if verdict in JUDGED)
    found = {"cells": f"{len(made)} with an AUC"}
    absent = {(row["row"], row["column"]): row["status"] for row in numbers if not row["mean"]}
    if absent:
        reasons = Counter(absent.values()).most_common(4)
        found["without a number"] = "; ".join(f"{count}: {text}" for text, count in reasons)
    if verdicts:
        counts = (f"{verdicts[kind]} {kind}" for kind in JUDGED)
        found["numbers beside the paper's"] = ", ".join(counts)
    if claims:
        kinds = Counter(claim["ours"] for claim in claims)
        found["claims on our numbers"] = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    if records:
        seconds = sum(record["wall_seconds"] for record in records)
        days = sorted(record["finished"][:10] for record in records if record.get("finished"))
        devices = dict.fromkeys(record["device"] for record in records)
        commits = dict.fromkeys((record["commit"] or "unknown")[:10] for record in records)
        found["training jobs"] = f"{len(records)}, {span(seconds / 3600)} in all, on {', '.join(devices)}"
        if days:
            found["finished"] = " to ".join(dict.fromkeys((days[0], days[-1])))
        found["commit"] = ", ".join(commits)
    return found


def run_row(wildcards: Mapping[str, Any], record: dict) -> list[tuple[float | None, str]]:
    """A line of the table of training jobs: (number to sort by, text) under RUN_HEADS."""
    memory, resumed = record.get("peak_memory_mib"), record.get("resumed_at")
    steps = record.get("settings", {}).get("training", {}).get("steps")
    method, dataset = (wildcards.get(name, "") for name in ("method", "dataset"))
    return [
        (None, method),
        (None, dataset),
        _number(wildcards.get("ratio"), "{} %"),
        _number(wildcards.get("split")),
        (None, str(record["seed"])),
        (None, str(record.get("script", "")).removesuffix(".py")),
        (record["wall_seconds"], span(record["wall_seconds"] / 3600)),
        (memory, gib(memory)),
        (None, str(record["device"])),
        _number(steps),
        _number(resumed or None, "step {}"),
    ]


def _number(value: Any, form: str = "{}") -> tuple[float | None, str]:
    """A number to sort by, and its text; nothing where it is unknown."""
    return (None, "") if value is None else (float(value), form.format(value))


def render(
    title: str,
    note: str,
    tables: list[str],
    figures: list[Picture],
    claims: list[dict[str, str]],
    cells: dict[str, dict[str, str]],
    tests: dict[str, list[str]],
    command: str,
    plan: str = "",
    gpu_check: str = "",
    credits: Iterable[str] = (),
    summary: Mapping[str, str] | None = None,
    runs: Iterable[list[tuple[float | None, str]]] = (),
    latex: Mapping[str, str] | None = None,
) -> str:
    """The page.

    Args:
        title, note: head of the page; the note describes a study that is not the published one.
        tables: HTML figures as `refers.reporting.table_formats.to_html` writes them.
        figures: what the page shows.
        claims: lines of claims.csv.
        cells: facts by target.
        tests: targets of the two cells that a t-test compares, by its target.
        command: how to make a target again; TARGET stands for its path.
        credits: citation and licence of the images, one line each.
        plan, gpu_check: the sections that `to_html` of `refers.planning.plan` and of `gpu_report` write, or nothing.
        summary: what the head says, as `summary_of` finds it.
        runs: lines of the table of training jobs, as `run_row` makes them.
        latex: LaTeX by name of a table.
    """
    known = {"cells": cells, "tests": tests, "command": command, "latex": dict(latex or {})}
    provenance = json.dumps(known).replace("<", "\\u003c")
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in (summary or {}).items()
    )
    listed = _runs(runs)
    sections = {"tables": tables, "figures": figures, "claims": claims, "runs": listed}
    links = [name for name, shown in sections.items() if shown or name in ("tables", "figures")]
    links += [name for name, shown in (("plan", plan), ("gpu_check", gpu_check)) if shown]
    words = {name: name.replace("_", " ").capitalize().replace("Gpu", "GPU") for name in links}
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{(ASSETS / 'page.css').read_text(encoding='utf-8')}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(note)}</p>' if note else "",
        *(f'<p class="note">{escape(credit)}</p>' for credit in credits),
        f'<dl class="facts">{facts}</dl>' if facts else "",
        "<nav>" + "".join(f'<a href="#{name}">{word}</a>' for name, word in words.items()) + "</nav>",
        "<p>Our number first, the paper's below it.</p>" if claims else "",
        "<p>A click on a number shows its provenance, a click on a column's head sorts.</p>",
        '<h2 id="tables">Tables</h2>',
        VIEWS,
        *(scrolling(text) for text in tables),
        '<h2 id="figures">Figures</h2><div class="pictures">',
        *map(_picture, figures),
        "</div>",
        _claims(claims) if claims else "",
        listed,
        plan,
        gpu_check,
        '<dialog id="details" aria-labelledby="number"><button>Close</button><h3 id="number"></h3><dl></dl><p>Reproduce</p><pre></pre></dialog>',
        '<dialog id="enlarged"><button>Close</button></dialog>',
        f'<script type="application/json" id="provenance">{provenance}</script>',
        f"<script>{(ASSETS / 'page.js').read_text(encoding='utf-8')}</script>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


# Controls of all tables; page.js acts on them.
VIEWS = (
    '<form class="views"><label>Rows <input type="search" id="rows" placeholder="method"></label>'
    '<label>Columns <input type="search" id="columns" placeholder="dataset"></label>'
    '<label>Show <select id="shown"><option value="">numbers</option>'
    '<option value="paper">difference to the paper</option><option value="best">difference to the best</option>'
    '</select></label><label><input type="checkbox" id="heat"> colours</label></form>'
)


def _picture(picture: Picture) -> str:
    caption, content = escape(picture.caption), b64encode(picture.content).decode()
    return (
        f'<figure><figcaption>{caption} <span class="reading">{escape(picture.pdf)}</span></figcaption>'
        f'<img src="data:image/png;base64,{content}" alt="{caption}" title="enlarge"></figure>'
    )


def _runs(runs: Iterable[list[tuple[float | None, str]]]) -> str:
    """The table of training jobs, folded; nothing without any."""
    rows = ["".join(_run_cell(number, text) for number, text in row) for row in runs]
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{text}</th>' for text in RUN_HEADS)
    return (
        '<h2 id="runs">Runs</h2>\n<details><summary>Training jobs: '
        f'{len(rows)}</summary><figure class="table runs"><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table></div></figure></details>"
    )


def _run_cell(number: float | None, text: str) -> str:
    key = "" if number is None else f' data-mean="{number:g}"'
    return f"<td{key}>{escape(text)}</td>"


def _claims(claims: list[dict[str, Any]]) -> str:
    heads = ("The paper says", "Where", "On its numbers", "On ours")
    rows = []
    for claim in claims:
        reading = f'<br><span class="reading">{escape(claim["note"])}</span>' if claim["note"] else ""
        words = (f"“{escape(claim['quote'])}”{reading}", escape(claim["place"]))
        cells = [
            f'<td class="words" data-head="{head}">{text}</td>'
            for head, text in zip(heads, words, strict=False)
        ]
        sides = (("paper", "paper_numbers"), ("ours", "our_numbers"))
        for head, (kind, numbers) in zip(heads[2:], sides, strict=True):
            look = VERDICTS.get(claim[kind], "open")
            text = escape(claim[numbers])
            cells.append(
                f'<td class="words" data-head="{head}"><strong class="{look}">{escape(claim[kind])}</strong><br>{text}</td>'
            )
        judged = f' data-targets="{escape(claim["targets"])}"' if claim.get("targets") else ""
        rows.append(f'<tr id="{escape(claim["id"])}"{judged}>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return (
        '<h2 id="claims">Claims</h2>\n'
        f"<p>The paper's claims, checked on its own numbers, taken without noise, and on ours, with {100 * LEVEL:g} % intervals"
        " by test images, seeds and splits, simultaneous over the comparisons of a claim.</p>\n"
        '<figure class="table claims"><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure>"
    )
