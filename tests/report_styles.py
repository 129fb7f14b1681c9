"""Sections put into a report's text in the ways in which MIMIC-CXR writes them, to see whether cleaning finds them again.

A style is a function (Sections) -> (report text, expected Findings, expected Impression); the last two are as written, before
any cleaning. `STYLES` has them by name.
"""

import re
import textwrap
from collections.abc import Callable
from typing import NamedTuple

TITLE = " " * 33 + "FINAL REPORT"
WET_READ = (
    " " * 33
    + "WET READ: ___ ___ ___ 8:15 PM\n   Provisional opinion only.\n   IMPRESSION: Provisional.\n WET READ VERSION #1\n"
    + "_" * 78
)
ADDENDUM = " " * 33 + "FINAL ADDENDUM\n ADDENDUM  The referring team was called at 10:20 a.m.\n" + "_" * 78
LIST = re.compile(r"(?:^|\s)\d+[.)]\s")


class Sections(NamedTuple):
    """The text of a report's sections; empty where there is none."""

    indication: str
    comparison: str
    findings: str
    impression: str


Rendered = tuple[str, str, str]


def _wrap(text: str) -> str:
    lines = textwrap.wrap(text, 77, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f" {line}" for line in lines) or " "


def _report(blocks: list[tuple[str, str]], gap: str = "  ") -> str:
    """Title, then each (header, text) wrapped at 78 columns; `gap` parts them, and a gap of lines is kept as such."""
    body = [TITLE, _wrap("EXAMINATION:  CHEST (PA AND LAT)")]
    for header, text in blocks:
        body.append(
            f" {header}{gap}{_wrap(text)}" if "\n" in gap else _wrap(f"{header}{gap.strip(' ')} {text}")
        )
    return "\n \n".join(body) + "\n"


def _before(sections: Sections) -> list[tuple[str, str]]:
    return [("INDICATION:", sections.indication or "___"), ("COMPARISON:", sections.comparison or "___.")]


def _usual(sections: Sections, findings: str, impression: str, gap: str = "  ") -> Rendered:
    blocks = _before(sections)
    blocks += [
        (header, text)
        for header, text in ((findings, sections.findings), (impression, sections.impression))
        if text
    ]
    return _report(blocks, gap), sections.findings, sections.impression


def _combined(header: str) -> Callable[[Sections], Rendered]:
    def style(sections: Sections) -> Rendered:
        both = f"{sections.findings} {sections.impression}".strip()
        return _report(_before(sections) + [(header, both)] * bool(both)), both, ""

    return style


def _one_line(sections: Sections) -> Rendered:
    text, findings, impression = _usual(sections, "FINDINGS:", "IMPRESSION:")
    return " ".join(text.split()) + "\n", findings, impression


def sentences(text: str) -> list[str]:
    """Sentences of a text, by the capital after a full stop."""
    return [part for part in re.split(r"(?<=[a-z]\.)\s+(?=[A-Z])", text.strip()) if part]


def _several(sections: Sections) -> Rendered:
    """Findings and Impression are cut in two, the second halves in an addendum; a text with a list is not cut."""
    halves = []
    for header, text in (("FINDINGS:", sections.findings), ("IMPRESSION:", sections.impression)):
        parts = [text] * bool(text) if LIST.search(text) else sentences(text)
        middle = (len(parts) + 1) // 2
        halves.append([(header, " ".join(part)) for part in (parts[:middle], parts[middle:]) if part])
        if len(halves[-1]) == 2 and halves[-1][0][1] == halves[-1][1][1]:
            halves[-1] = [(header, text)]
    first = [half[0] for half in halves if half]
    second = [half[1] for half in halves if len(half) > 1]
    addendum = [("ADDENDUM:", "Read again."), *second] if second else []
    return _report(_before(sections) + first + addendum), sections.findings, sections.impression


def _numbered(sections: Sections) -> Rendered:
    """The impression as a list, an item a line; a text with a list of its own stays as it is."""
    text, findings, _ = _usual(sections._replace(impression=""), "FINDINGS:", "IMPRESSION:")
    items = sentences(sections.impression)
    if items and not LIST.search(sections.impression):
        listed = [f"{number}. {item}" for number, item in enumerate(items, 1)]
    else:
        listed = [sections.impression] * bool(items)
    if listed:
        text += " \n IMPRESSION: \n \n" + "\n \n".join(_wrap(item) for item in listed) + "\n"
    return text, findings, sections.impression


def _stray(sections: Sections) -> Rendered:
    """Byte-order mark, CRLF, no-break spaces, zero-width and control characters, dashes for hyphens."""
    text, findings, impression = _usual(sections, "FINDINGS:", "IMPRESSION:")
    text = text.replace(". ", ".\u00a0\u200b").replace("-", "\u2010").replace("\n", "\x0c\r\n")
    return "\ufeff" + text, findings, impression


def _marked(sections: Sections) -> Rendered:
    """A de-identification mark after each sentence."""
    findings, impression = (re.sub(r"\. (?=[A-Z])", ". ___ ", text) for text in sections[2:])
    text, *_ = _usual(sections._replace(findings=findings, impression=impression), "FINDINGS:", "IMPRESSION:")
    return text, sections.findings, sections.impression


def _around(before: str, after: str = "") -> Callable[[Sections], Rendered]:
    def style(sections: Sections) -> Rendered:
        text, findings, impression = _usual(sections, "FINDINGS:", "IMPRESSION:")
        return f"{before}\n{text}{after}", findings, impression

    return style


def _plain_style(findings: str, impression: str, gap: str = "  ") -> Callable[[Sections], Rendered]:
    return lambda sections: _usual(sections, findings, impression, gap)


STYLES: dict[str, Callable[[Sections], Rendered]] = {
    "FINDINGS: IMPRESSION:": _plain_style("FINDINGS:", "IMPRESSION:"),
    "Findings: Impression:": _plain_style("Findings:", "Impression:"),
    "header on a line of its own": _plain_style("FINDINGS:", "IMPRESSION:", " \n \n"),
    "header without a colon": _plain_style("FINDINGS", "IMPRESSION", "\n"),
    "header and dash": _plain_style("FINDINGS -", "IMPRESSION -"),
    "all in one line": _one_line,
    "CONCLUSION": _plain_style("FINDINGS:", "CONCLUSION:"),
    "Summary": _plain_style("Chest findings:", "Summary:"),
    "FINDINGS AND IMPRESSION": _combined("FINDINGS AND IMPRESSION:"),
    "IMPRESSION/FINDINGS": _combined("IMPRESSION/FINDINGS:"),
    "PA AND LATERAL VIEWS OF THE CHEST": _plain_style("PA AND LATERAL VIEWS OF THE CHEST:", "IMPRESSION:"),
    "PORTABLE AP CHEST RADIOGRAPH": _plain_style("PORTABLE AP CHEST RADIOGRAPH:", "IMPRESSION:"),
    "several of each": _several,
    "numbered list": _numbered,
    "wet read before": _around(WET_READ),
    "addendum before": _around(ADDENDUM),
    "sections after": _around(
        "",
        " \n NOTIFICATION:  Discussed by phone.\n \n RECOMMENDATION(S):  Repeat.\n\n DISPOSITION PLAN: Home.\n",
    ),
    "marks of de-identification": _marked,
    "stray characters": _stray,
}
