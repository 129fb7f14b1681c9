"""Extract and clean Findings and Impression of a free-text radiology report (paper §4).

The authors cleaned their reports offline and published no code for it: these rules are this project's own. `RULES` and
`DROPPED` name every decision, and clean_reports.py counts the reports to which each applied. Two of them matter most. A
known section other than Findings and Impression is removed, but a paragraph of it without a header of its own counts as
Findings if there is no Findings header. And a header is recognised by the words before a colon, so that lines may be
wrapped anywhere.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from refers.text.headers import MARK, OPENS, STANDS_IN, Header, find_headers, observes
from refers.text.markup import without_markup, without_page_breaks

MIN_TOKENS = 3

RULES = {
    "not UTF-8": "a file that is not UTF-8 is read as Windows-1252, one with a byte order mark of UTF-16 or UTF-32 as such",
    "Unicode": "non-ASCII characters are replaced by ASCII equivalents where there are any; control characters are removed",
    "markup": "HTML tags and entities and Markdown's emphasis, headings and rulers are removed; a title in them, in quotation marks, between dashes or as a tag is a header",
    "page break": "(Over), (Cont) and the head of the page between them are removed",
    "de-identification": "___, _ _ and [** ... **] are removed, with brackets that become empty; so are single [** and **]",
    "wet read": "a wet read or preliminary report before a FINAL REPORT is removed, whatever headers it has",
    "addendum": "an addendum is removed, except for a Findings or Impression section in it",
    "no colon": "a known header without a colon is recognised alone on its line, and Findings, Impression or, in capitals, a section about the patient before a dash, full stop, arrow or bar too; other than Findings and Impression in capitals, only after a sentence or a blank line",
    "small letters": "a known header with a colon may be in small letters, where no wrapping of the line before put it",
    "inside a line": "a known header with a colon is recognised within a line, in capitals (not as the end of a longer title) or after a full stop",
    "misspelt": "one letter of FINDINGS, IMPRESSION and other titles may be missing, added, changed or out of order",
    "findings and impression": "a combined section counts as Findings",
    "conclusion": "Conclusion, Summary and Opinion count as Impression",
    "report as header": "Report, Result and Interpretation open Findings where no Findings header does",
    "view as header": "so does a title in capitals that names a view, such as PORTABLE CHEST AT 05:12",
    "topic as header": "so does one that names an organ or topic, such as LUNGS; its words are kept",
    "paragraph as header": "so does a sentence before all headers, or in a new paragraph of Indication, Technique and the like",
    "paragraph left out": "such a paragraph is removed if there is a Findings header, or if it tells History, Reason or Indication on",
    "in front of the headers": "other text before the first header is removed",
    "other section": "History, Indication, Technique, Comparison, Recommendation and other known sections are removed",
    "title as text": "any other title in capitals within Findings or Impression is kept as text",
    "several": "several Findings or Impression sections are joined in order",
    "repeated": "a section that is repeated word for word is kept once",
    "list numbers": "the numbers of list items (1. 2. 3.) are removed",
}
DROPPED = {
    "empty file": "the file has no words",
    "no header": "there is no header but FINAL REPORT, and no sentence",
    "no findings or impression": "no header is Findings or Impression, and no paragraph counts as Findings",
    "blank sections": "Findings and Impression have no words",
    f"fewer than {MIN_TOKENS} tokens": "a token is a word or a number",
}


class Cleaned(NamedTuple):
    """Findings, Impression, and both as one line of text; empty where the report has none.

    tokens: number of words and numbers in `text`; rules: keys of `RULES` that applied; dropped: key of `DROPPED`, or "".
    """

    findings: str
    impression: str
    text: str
    tokens: int
    rules: frozenset[str]
    dropped: str


# ---- plain text


class _Kept(dict):
    """Table for `str.translate` that decides about a character when it occurs for the first time."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        # Line and paragraph separators become spaces; format, private and unpaired surrogate characters are removed.
        if character.isspace() and character != "\n":
            kept = " "
        else:
            kept = None if unicodedata.category(character)[0] == "C" and character != "\n" else character
        self[code] = kept
        return kept


_KEPT = _Kept(
    str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-"})
)
# White space of any kind becomes a space; other control characters are removed.
_ASCII = {code: " " if chr(code).isspace() else None for code in (*range(0x20), 0x7F) if code != 0x0A}
_PLAIN = bytes((*range(0x20, 0x7F), 0x0A))
_OTHERS = re.compile(r"[^\n -~]")
# Unicode's ends of lines and paragraphs.
_SEPARATORS = {"\x85": "\n", "\u2028": "\n", "\u2029": "\n\n"}
# `re` looks for a pattern that starts with one character, not with what is before it, ten times as fast.
_BLANKS = re.compile(r"_(?:(?:[ \t]?_)+|(?<!\S_)(?!\S))")
_REMOVED = re.compile(r"\[\*\*[^\]:]{0,80}\*\*\]|\[\*\*|\*\*\]")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")
_EMPTY_PARENTHESES = re.compile(r"\(\s*\)")
_STOPS = ".,;:"
_SPACES = re.compile("  +")
_SPACE_BEFORE_STOP = re.compile(r" ([.,;:]+)(?=\s|$)")
# The shape of a text of ASCII: stops are ".", control characters "#", and so are those of which markup, page breaks, marks
# and brackets consist, but hyphens, of which one alone is ordinary.
_SHAPE = bytes.maketrans(b",;:", b"...").translate(
    bytes(
        code if 0x20 <= code < 0x7F and chr(code) not in "()[]*_<&\"'=~+" else ord("#") for code in range(256)
    )
)
_DASHES = re.compile(b"-(?=-)")
_TOKEN = re.compile(r"[^\W_]+(?:[.,'/-][^\W_]+)*")
# Of ASCII: the characters of a word are "a", those that join two into a token "-", and all others " ".
_TOKEN_PARTS = bytes(
    ord("a" if chr(code).isalnum() else "-" if chr(code) in ".,'/-" else " ") for code in range(128)
).ljust(256)
_JOINED_TO_NOTHING = re.compile(b"-(?<=[ -]-)a")


def normalise(text: str) -> str:
    """One line of plain text: rules "Unicode", "markup", "page break" and "de-identification", single spaces, no space
    before a full stop.

    Idempotent.
    """
    text = _SPACES.sub(" ", text.replace("\n", " ").replace(MARK, " ")).strip(" ")
    shape = _shape(text)
    if _is_ordinary(shape):
        return _close_up_stops(text, shape)
    text = " ".join(text.split())
    if _is_plain(text):
        while (changed := _tidy(_bare(text))) != text:
            text = " ".join(changed.split())
        return text
    return _fixpoint(text, lambda text: _tidy(_bare(_unify(" ".join(text.split())))))


def clean_section(text: str) -> str:
    """Clean the text of one section: `normalise` and the rule "list numbers". Idempotent."""
    return _without_list_numbers(normalise(text))


def _without_list_numbers(text: str) -> str:
    if "1" not in text or ("1." not in text and "1)" not in text):
        return text
    while (changed := _drop_list_numbers(text)) != text:
        text = normalise(changed)
    return text


def _fixpoint(text: str, change: Callable[[str], str]) -> str:
    # Removing a character can join two others into a new match; it ends because each round shortens the text.
    while (changed := change(text)) != text:
        text = changed
    return text


def _bare(text: str) -> str:
    return without_markup(without_page_breaks(text))


def _tidy(text: str, mark: str = " ") -> str:
    """Replace de-identification marks, and the brackets that they leave empty, by `mark`; remove superfluous spaces."""
    return _close_up(_without_marks(text, mark), mark)


def _without_marks(text: str, mark: str) -> str:
    # The search for one character costs a thirtieth of any other, and most texts need none of the patterns.
    if "*" in text and ("[**" in text or "**]" in text):
        text = _REMOVED.sub(mark, text)
    if "_" in text:
        text = _BLANKS.sub(mark, text)
    return _SPACES.sub(" ", text)


def _close_up(text: str, mark: str = " ") -> str:
    """Replace brackets that are empty by `mark`; remove the space before a full stop."""
    if "[" in text or ("(" in text and _EMPTY_PARENTHESES.search(text)):
        text = _EMPTY_BRACKETS.sub(mark, text)
    return _close_up_stops(text, _shape(text))


def _close_up_stops(text: str, shape: bytes) -> str:
    # To make the shape and to look at it costs a third of the search for the pattern.
    return _SPACE_BEFORE_STOP.sub(lambda found: found[1], text) if b" ." in shape else text


def _shape(text: str) -> bytes:
    """A text's characters by `_SHAPE`; other than ASCII, a text may need anything."""
    return text.encode().translate(_SHAPE) if text.isascii() else b"# ."


def _is_ordinary(shape: bytes) -> bool:
    """Whether a line of this shape has nothing that `normalise` changes but spaces and the place of stops."""
    return b"#" not in shape and not _DASHES.search(shape)


def _is_plain(text: str) -> bool:
    """Whether a text has nothing but ASCII, line feeds and no other control characters."""
    return text.isascii() and not text.encode().translate(None, _PLAIN)


def _unify(text: str) -> str:
    if text.isascii():
        return text if _is_plain(text) else text.translate(_ASCII)
    text = unicodedata.normalize("NFKC", text)
    # Most texts have few characters of the kind, and the table is slow.
    if len(odd := {*_OTHERS.findall(text)}) > 32:
        return text.translate(_KEPT)
    for character in odd:
        text = text.replace(character, _KEPT[ord(character)] or "")
    return text


_NUMBER = re.compile(r"(\d(?<!\S\d)\d?)[.)]\s+(?=\S)")


def _drop_list_numbers(text: str) -> str:
    """Remove the numbers of list items: 1 at the start or after a sentence, then each number in sequence."""
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
    """Number of words and numbers in a text, punctuation excluded."""
    if not text.isascii():
        return len(_TOKEN.findall(text))
    # A token starts after a blank or after joining characters that join nothing.
    parts = b" " + text.encode().translate(_TOKEN_PARTS)
    return parts.count(b" a") + len(_JOINED_TO_NOTHING.findall(parts))


# ---- sections


def clean_report(text: str) -> Cleaned:
    """Findings and Impression of a report as written, cleaned by `RULES`.

    No word is added or changed. Cleaned sections under their headers, cleaned again, stay the same.
    """
    rules: set[str] = set()
    is_ascii = text.isascii()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not is_ascii:
        for separator, lines in _SEPARATORS.items():
            text = text.replace(separator, lines)
    unified = _fixpoint(text, _unify)
    if not is_ascii or len(unified) < len(text):
        rules.add("Unicode")
    whole = without_page_breaks(unified)
    if whole != unified:
        rules.add("page break")
    bare = _bare(whole)
    if bare != whole:
        bare = _fixpoint(_unify(bare), lambda text: _unify(_bare(text)))
    if bare != whole:
        rules.add("markup")
    single = _without_marks(bare, MARK)
    if MARK in single:
        rules.add("de-identification")
    plain = _close_up(single, MARK)
    if plain != single or "_" in plain or "*" in plain:
        plain = _fixpoint(plain, lambda text: _tidy(text, MARK))
    sections = _sections(plain, rules)
    findings, impression = _kept(plain, sections, rules)
    # Joined lines can form a header that neither line was: "CLINICAL" and "HISTORY:".
    while ":" in findings or ":" in impression:
        again = f"FINDINGS: {findings}\nIMPRESSION: {impression}"
        found = _kept(again, _sections(again, set()), set())
        if found == (findings, impression):
            break
        findings, impression = found
    both = findings or impression
    if findings and impression:
        both = f"{findings} {impression}"
        # Two ordinary lines make one, unless the second starts with a full stop.
        if impression[0] in _STOPS or not _is_ordinary(_shape(both)):
            both = normalise(both)
    tokens = count_tokens(both)
    dropped = "" if tokens >= MIN_TOKENS else _why_dropped(plain, sections, tokens)
    return Cleaned(findings, impression, both, tokens, frozenset(rules), dropped)


def _why_dropped(text: str, sections: list[Header], tokens: int) -> str:
    """The first key of `DROPPED` that applies to a report of so few tokens."""
    kinds = {section.kind for section in sections}
    reasons = {
        "empty file": not _TOKEN.search(text),
        "no header": kinds <= {"", "final"},
        "no findings or impression": not kinds & OPENS.keys(),
        "blank sections": not tokens,
    }
    return next((reason for reason, applies in reasons.items() if applies), f"fewer than {MIN_TOKENS} tokens")


# The rule of a kind of section where it has another name: of kinds that are kept, and of kinds that are removed.
_KEPT_BY = {"both": "findings and impression"}
_LEFT_BY = {
    "": "in front of the headers",
    "final": "in front of the headers",
    "clinical": "other section",
    "aside": "other section",
    "closing": "other section",
}
_PARAGRAPHS_IN = ("", "final", "clinical", "aside")
_SENTENCE = re.compile(r"\W*[A-Z0-9].*?[^\W\d_]{2}[)\"']?[.?!](?:\s|$)", re.DOTALL)
_TITLE_IN_TEXT = re.compile(r"^ *[A-Z][A-Z0-9/&,()' -]{3,60}:", re.MULTILINE)


def _sections(text: str, rules: set[str]) -> list[Header]:
    """Headers that open a section of the report; the first stands for the text before all headers."""
    headers = find_headers(text)
    kinds = {header.kind for header in headers}
    if "wet read" in kinds:
        headers = _without_preliminary(headers)
    if kinds.isdisjoint(STANDS_IN):
        return [Header(0, 0, ""), *headers]
    titles = [header for header in headers if header.kind not in STANDS_IN]
    titled = any(
        header.kind in ("both", "findings") and _TOKEN.search(text, header.end, end)
        for header, end in _spans(titles, len(text))
    )
    opened = [Header(0, 0, "")]
    for header, end in _spans(headers, len(text)):
        if header.kind in STANDS_IN:
            # "PORTABLE CHEST: no change" under Impression is text of the Impression.
            if opened[-1].kind in OPENS:
                continue
            paragraph = header.kind == "paragraph as header"
            if paragraph and not _may_observe(text, opened[-1], header.start, end):
                continue
            told_on = paragraph and opened[-1].kind == "clinical" and not observes(text[header.start : end])
            if titled or told_on:
                rules.update({"paragraph left out"} if paragraph else ())
                continue
        opened.append(header)
    return opened


def _may_observe(text: str, section: Header, start: int, end: int) -> bool:
    """Whether a paragraph of a section is a sentence that may be an observation."""
    if section.kind not in _PARAGRAPHS_IN or not _SENTENCE.match(text, start, end):
        return False
    # The first paragraph under INDICATION: is the indication, even if it is ___.
    return section.kind in ("", "final") or bool(text[section.end : start].strip(" \n"))


def _kept(text: str, sections: list[Header], rules: set[str]) -> tuple[str, str]:
    """Findings and Impression of a report's sections; the names of the rules that applied are added to `rules`."""
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    for section, end in _spans(sections, len(text)):
        _, start, kind, named = section
        if named:
            rules.update(named)
        if left := _LEFT_BY.get(kind):
            if left not in rules and _TOKEN.search(text, start, end):
                rules.add(left)
            continue
        if (rule := _KEPT_BY.get(kind, kind)) in RULES:
            rules.add(rule)
        if not (kept := OPENS.get(kind)) or not (plain := normalise(text[start:end])):
            continue
        if ":" in plain and _TITLE_IN_TEXT.search(text, start, end):
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
    """Each header with the position where the next one starts."""
    return zip(headers, [*[header.start for header in headers[1:]], end], strict=False)


def _without_preliminary(headers: list[Header]) -> list[Header]:
    """Headers without those between a wet read and a later FINAL REPORT."""
    last_final = max((header.start for header in headers if header.kind == "final"), default=-1)
    left, preliminary = [], False
    for header in headers:
        if not preliminary or header.kind == "final":
            left.append(header)
            preliminary = header.kind == "wet read" and header.start < last_final
    return left
