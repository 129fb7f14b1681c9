"""Free-text radiology reports: Findings and Impression, cleaned (paper §4).

The authors did their cleaning offline and published no code for it: the rules here are this project's own. `RULES` and
`DROPPED` name every decision, and clean_reports.py counts the reports in which each was taken. Two are worth knowing:
a known section that is neither Findings nor Impression goes, but a paragraph of it that has no header of its own is what
the radiologist saw where no Findings header says otherwise; and headers go by what is in front of a colon, so that lines
may be wrapped anywhere.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from refers.text.headers import MARK, OPENS, STANDS_IN, Header, find_headers

MIN_TOKENS = 3

RULES = {
    "not UTF-8": "a file that is no UTF-8 is read as Windows-1252",
    "Unicode": "characters beyond ASCII become plain ones where there are such; those without text go",
    "de-identification": "___ and [** ... **] go, with the brackets that they leave empty; so do lone [** and **]",
    "wet read": "a wet read or preliminary report before a FINAL REPORT goes, whatever headers it has",
    "addendum": "an addendum goes, but for a Findings or Impression with a header of its own",
    "no colon": "a known header in capitals counts alone on its line or before a dash or full stop",
    "inside a line": "a known header with a colon counts in a line, in capitals (not as the end of a longer title) or after a full stop",
    "misspelt": "one letter of FINDINGS, IMPRESSION and other titles may be missing, added, changed or out of order",
    "findings and impression": "a section of both is Findings",
    "conclusion": "Conclusion, Summary and Opinion are Impression",
    "report as header": "Report, Result and Interpretation open Findings where no Findings header does",
    "view as header": "so does a title in capitals that names a view, as PORTABLE CHEST AT 05:12",
    "topic as header": "so does one that names what is looked at, as LUNGS; its words are kept",
    "paragraph as header": "so does a sentence in front of all headers, or in a new paragraph of Indication, Technique and the like",
    "paragraph left out": "such a paragraph goes where a Findings header is",
    "in front of the headers": "other text without a header goes",
    "other section": "History, Indication, Technique, Comparison, Recommendation and other known sections go",
    "title as text": "any other title in capitals within Findings or Impression is their text",
    "several": "more Findings or Impressions than one are joined in their order",
    "repeated": "a section that is there twice, word for word, is kept once",
    "list numbers": "1. 2. 3. before the items of a list go",
}
DROPPED = {
    "empty file": "no word at all",
    "no header": "no header but FINAL REPORT, and no sentence",
    "no findings or impression": "headers, none of them Findings or Impression, and no paragraph that stands for them",
    "blank sections": "Findings and Impression without a word",
    f"fewer than {MIN_TOKENS} tokens": "a token is a word or a number",
}


class Cleaned(NamedTuple):
    """Findings, Impression, and both as one line of text; empty where the report has none.

    tokens: words and numbers in `text`; rules: those of `RULES` that were used; dropped: the reason out of `DROPPED`, or "".
    """

    findings: str
    impression: str
    text: str
    tokens: int
    rules: frozenset[str]
    dropped: str


# ---- plain text


class _Kept(dict):
    """What `str.translate` makes of a character that it meets for the first time."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        # Line and paragraph separators count as spaces; format, private and unpaired surrogate characters carry no text.
        if character.isspace() and character != "\n":
            kept = " "
        else:
            kept = None if unicodedata.category(character)[0] == "C" and character != "\n" else character
        self[code] = kept
        return kept


_KEPT = _Kept(
    str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-"})
)
# Blanks of any kind are spaces; other control characters carry no text.
_ASCII = {code: " " if chr(code).isspace() else None for code in (*range(0x20), 0x7F) if code != 0x0A}
_BLANKS = re.compile(r"__+")
_REMOVED = re.compile(r"\[\*\*[^\]:]{0,80}\*\*\]|\[\*\*|\*\*\]")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")
_SPACE_BEFORE_STOP = re.compile(r" (?=[.,;:]+(?:\s|$))")
_TOKEN = re.compile(r"[^\W_]+(?:[.,'/-][^\W_]+)*")
_ASCII_TOKEN = re.compile(
    r"[A-Za-z0-9]+(?:[.,'/-][A-Za-z0-9]+)*"
)  # the same of ASCII, in two thirds of the time


def normalise(text: str) -> str:
    """One line of plain text: the rules "Unicode" and "de-identification", spaces single and none before a full stop.

    Applying it twice changes nothing.
    """
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return _fixpoint(text, lambda text: _tidy(text).strip())
    return _fixpoint(text, lambda text: _tidy(_unify(" ".join(text.split()))))


def clean_section(text: str) -> str:
    """What the cleaning makes of the text of one section: `normalise` and the rule "list numbers".

    Applying it twice changes nothing.
    """
    return _without_list_numbers(normalise(text))


def _without_list_numbers(text: str) -> str:
    if "1." not in text and "1)" not in text:
        return text
    return _fixpoint(text, lambda text: normalise(_drop_list_numbers(text)))


def _fixpoint(text: str, change: Callable[[str], str]) -> str:
    # Dropping a character can bring two others together that belong together; each round only shortens the text.
    while (changed := change(text)) != text:
        text = changed
    return text


def _tidy(text: str, mark: str = " ") -> str:
    """Unified text with `mark` for marks and the brackets that these leave empty; no double space, none before a full stop."""
    # A word's search costs a tenth of a pattern's, and most texts need none of them.
    if "[**" in text or "**]" in text:
        text = _REMOVED.sub(mark, text)
    if "__" in text:
        text = _BLANKS.sub(mark, text)
    while "  " in text:
        text = text.replace("  ", " ")
    if "(" in text or "[" in text:
        text = _EMPTY_BRACKETS.sub(mark, text)
    if " ." in text or " ," in text or " ;" in text or " :" in text:
        text = _SPACE_BEFORE_STOP.sub("", text)
    return text


def _unify(text: str) -> str:
    if text.isascii():
        return text if text.replace("\n", "").isprintable() else text.translate(_ASCII)
    return unicodedata.normalize("NFKC", text).translate(_KEPT)


_NUMBER = re.compile(r"(?:^|(?<=\s))(\d{1,2})[.)]\s+(?=\S)")


def _drop_list_numbers(text: str) -> str:
    """Normal text without the numbers of lists: 1 at the start or after a sentence, then each number the next one's turn."""
    due = None

    def number(found: re.Match) -> str:
        nonlocal due
        before = text[max(found.start() - 2, 0) : found.start()].strip()
        if int(found[1]) == 1 and before in ("", ".", ":", ";", "?", "!"):
            due = 2
            return ""
        if int(found[1]) == due:
            due += 1
            return ""
        return found[0]

    return _NUMBER.sub(number, text)


def count_tokens(text: str) -> int:
    """Words and numbers in a text; punctuation alone is none."""
    return len((_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text))


# ---- sections


def clean_report(text: str) -> Cleaned:
    """Findings and Impression of a report as written, cleaned by `RULES`.

    No word is added or changed, and sections put back under their headers and cleaned again stay as they are.
    """
    rules: set[str] = set()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    unified = _fixpoint(text, _unify)
    if not text.isascii() or len(unified) < len(text):
        rules.add("Unicode")
    if "__" in text or "[**" in text or "**]" in text:
        rules.add("de-identification")
    plain = _fixpoint(unified, lambda text: _tidy(text, MARK))
    sections = _sections(plain, rules)
    findings, impression = _kept(plain, sections, rules)
    # Joined lines can make a header that none of the lines was: "CLINICAL" and "HISTORY:".
    while ":" in findings or ":" in impression:
        again = f"FINDINGS: {findings}\nIMPRESSION: {impression}"
        found = _kept(again, _sections(again, set()), set())
        if found == (findings, impression):
            break
        findings, impression = found
    both = normalise(f"{findings} {impression}") if findings and impression else findings or impression
    tokens = count_tokens(both)
    kinds = {section.kind for section in sections}
    reasons = {
        "empty file": not _TOKEN.search(plain),
        "no header": kinds <= {"", "final"},
        "no findings or impression": not kinds & OPENS.keys(),
        "blank sections": not tokens,
        f"fewer than {MIN_TOKENS} tokens": tokens < MIN_TOKENS,
    }
    dropped = next((reason for reason, applies in reasons.items() if applies), "")
    return Cleaned(findings, impression, both, tokens, frozenset(rules), dropped)


# Rules of kinds of sections that do not have the kind's name: those kept, and those whose text goes.
_KEPT_BY = {"both": "findings and impression"}
_LEFT_BY = {
    "": "in front of the headers",
    "final": "in front of the headers",
    "aside": "other section",
    "closing": "other section",
}
_PARAGRAPHS_IN = ("", "final", "aside")
_SENTENCE = re.compile(r"\W*[A-Z0-9].*?[^\W\d_]{2}[)\"']?[.?!](?:\s|$)", re.DOTALL)
_TITLE_IN_TEXT = re.compile(r"^ *[A-Z][A-Z0-9/&,()' -]{3,60}:", re.MULTILINE)


def _sections(text: str, rules: set[str]) -> list[Header]:
    """Headers that open a section of the report, the text in front of all of them first."""
    headers = _without_preliminary(find_headers(text))
    titles = [header for header in headers if header.kind not in STANDS_IN]
    titled = any(
        header.kind in ("both", "findings") and _TOKEN.search(text, header.end, end)
        for header, end in _spans(titles, len(text))
    )
    opened = [Header(0, 0, "")]
    for header, end in _spans(headers, len(text)):
        if header.kind in STANDS_IN:
            if opened[-1].kind in OPENS:  # "PORTABLE CHEST: no change" under Impression is its text
                continue
            paragraph = header.kind == "paragraph as header"
            if paragraph and not _observes(text, opened[-1], header.start, end):
                continue
            if titled:
                rules.update({"paragraph left out"} if paragraph else ())
                continue
        opened.append(header)
    return opened


def _observes(text: str, section: Header, start: int, end: int) -> bool:
    """Whether a paragraph of a section is a sentence that may be an observation."""
    if section.kind not in _PARAGRAPHS_IN or not _SENTENCE.match(text, start, end):
        return False
    # The first paragraph under INDICATION: is the indication, be it ___.
    return section.kind != "aside" or bool(text[section.end : start].strip(" \n"))


def _kept(text: str, sections: list[Header], rules: set[str]) -> tuple[str, str]:
    """Findings and Impression of a report's sections; the names of the rules that took part are added to `rules`."""
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    for section, end in _spans(sections, len(text)):
        rules.update(section.rules)
        if section.kind not in _LEFT_BY:
            rules.update({_KEPT_BY.get(section.kind, section.kind)} & RULES.keys())
        elif _TOKEN.search(text, section.end, end):
            rules.add(_LEFT_BY[section.kind])
        if not (kept := OPENS.get(section.kind)) or not (plain := normalise(text[section.end : end])):
            continue
        if ":" in plain and _TITLE_IN_TEXT.search(text, section.end, end):
            rules.add("title as text")
        cleaned = _without_list_numbers(plain)
        if cleaned != plain:
            rules.add("list numbers")
        if parts[kept]:
            rules.add("repeated" if cleaned in parts[kept] else "several")
        if cleaned not in parts[kept]:
            parts[kept].append(cleaned)
    findings, impression = (
        found[0] if len(found) == 1 else clean_section(" ".join(filter(_TOKEN.search, found)))
        for found in parts.values()
    )
    return findings, impression


def _spans(headers: list[Header], end: int) -> Iterator[tuple[Header, int]]:
    """Each header with the place where the next one starts."""
    return zip(headers, [*(header.start for header in headers[1:]), end], strict=False)


def _without_preliminary(headers: list[Header]) -> list[Header]:
    """Headers less those between a wet read and a later FINAL REPORT."""
    last_final = max((header.start for header in headers if header.kind == "final"), default=-1)
    left, preliminary = [], False
    for header in headers:
        if not preliminary or header.kind == "final":
            left.append(header)
            preliminary = header.kind == "wet read" and header.start < last_final
    return left
