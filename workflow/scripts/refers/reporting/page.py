"""The static page of a study: tables, figures, claims, and the provenance of every number. Needs no server and no network."""

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from refers.evaluation.statistics import LEVEL
from refers.formatting import input_text, scrolling

ASSETS = Path(__file__).parents[3] / "report"
VERDICTS = {
    **{"holds": "holds", "does not hold": "fails"},
    **{"within noise": "open", "cannot be judged": "open"},
}


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
    return {
        # once each: the runs of another split have the same seeds and settings
        "seeds": ", ".join(dict.fromkeys(str(record["seed"]) for record in records)),
        "configuration": ", ".join(dict.fromkeys(record["settings_sha256"][:12] for record in records)),
        "library": ", ".join(dict.fromkeys(part["library_sha256"][:12] for part in processes)),
        "commit": every("commit"),
        "device": every("device"),
        **({"input of the encoder": "; ".join(inputs)} if inputs else {}),
        "time": f"{fmean(seconds):.1f} s per seed",
        "torch": ", ".join(dict.fromkeys(record["versions"].get("torch", "?") for record in records)),
        **({"run in": f"{len(processes)} processes"} if len(processes) > len(records) else {}),
    }


def render(
    title: str,
    note: str,
    tables: list[str],
    figures: list[tuple[str, str]],
    claims: list[dict[str, str]],
    cells: dict[str, dict[str, str]],
    tests: dict[str, list[str]],
    command: str,
    plan: str = "",
    gpu_check: str = "",
    credits: Iterable[str] = (),
) -> str:
    """The page.

    Args:
        title, note: head of the page; the note describes a study that is not the published one.
        tables: HTML figures as `refers.reporting.table_formats.to_html` writes them.
        figures: (caption, path of the PNG relative to the page, a PDF of that name beside it).
        claims: lines of claims.csv.
        cells: facts by target.
        tests: targets of the two cells that a t-test compares, by its target.
        command: how to make a target again; TARGET stands for its path.
        credits: citation and licence of the images, one line each.
        plan, gpu_check: the sections that `to_html` of `refers.planning.plan` and of `gpu_report` write, or nothing.
    """
    provenance = json.dumps({"cells": cells, "tests": tests, "command": command}).replace("<", "\\u003c")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{(ASSETS / 'page.css').read_text(encoding='utf-8')}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(note)}</p>' if note else "",
        *(f'<p class="note">{escape(credit)}</p>' for credit in credits),
        '<nav><a href="#tables">Tables</a><a href="#figures">Figures</a>'
        + ('<a href="#claims">Claims</a>' if claims else "")
        + ('<a href="#plan">Plan</a>' if plan else "")
        + ('<a href="#gpu_check">GPU check</a>' if gpu_check else "")
        + "</nav>",
        "<p>Our number first, the paper's beside it.</p>" if claims else "",
        "<p>A click on a number shows its provenance, a click on a column's head sorts.</p>",
        '<h2 id="tables">Tables</h2>',
        *(scrolling(text) for text in tables),
        '<h2 id="figures">Figures</h2><div class="pictures">',
        *(_picture(caption, path) for caption, path in figures),
        "</div>",
        _claims(claims) if claims else "",
        plan,
        gpu_check,
        '<dialog aria-labelledby="number"><button>Close</button><h3 id="number"></h3><dl></dl><p>Command</p><pre></pre></dialog>',
        f'<script type="application/json" id="provenance">{provenance}</script>',
        f"<script>{(ASSETS / 'page.js').read_text(encoding='utf-8')}</script>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _picture(caption: str, path: str) -> str:
    link = escape(path.removesuffix(".png") + ".pdf")
    return (
        f'<figure><figcaption>{escape(caption)} (<a href="{link}">PDF</a>)</figcaption>'
        f'<a href="{escape(path)}"><img src="{escape(path)}" alt="{escape(caption)}" loading="lazy"></a></figure>'
    )


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
        rows.append(f'<tr id="{escape(claim["id"])}">{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return (
        '<h2 id="claims">Claims</h2>\n'
        f"<p>The paper's claims, checked on its own numbers, taken without noise, and on ours, with {100 * LEVEL:g} % intervals"
        " by test images, seeds and splits, simultaneous over the comparisons of a claim.</p>\n"
        '<figure class="table claims"><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure>"
    )
