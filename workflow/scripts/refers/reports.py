"""Free-text radiology reports: Findings and Impression, cleaned; left and right for mirrored images (paper §4).

The authors did their cleaning offline and published no code for it: the rules here are this project's own. `RULES` and
`DROPPED` name every decision, and clean_reports.py counts the reports in which each was taken. Two are worth knowing:
a report without a Findings or Impression header, or a title that stands for one, is dropped, for nothing else in it is
marked as what the radiologist saw; and headers go by what is in front of a colon, so that lines may be wrapped anywhere.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from refers.errors import UserError
from refers.report_headers import OPENS, Header, find_headers

MIN_TOKENS = 3
FOLDER = "mimic-cxr-reports"  # beside the images

RULES = {
    "not UTF-8": "a file that is no UTF-8 is read as Windows-1252",
    "Unicode": "characters beyond ASCII become plain ones where there are such; those without text go",
    "de-identification": "___ and [** ... **] go, with the brackets that they leave empty",
    "wet read": "a wet read or preliminary report before a FINAL REPORT goes, whatever headers it has",
    "addendum": "an addendum goes, but for a Findings or Impression with a header of its own",
    "no colon": "a known header in capitals counts alone on its line or before a dash or full stop",
    "inside a line": "a known header in capitals with a colon counts anywhere in a line",
    "findings and impression": "a section of both is Findings",
    "conclusion": "Conclusion, Summary and Opinion are Impression",
    "view as header": "a title in capitals that names a view, as PORTABLE CHEST, opens Findings where no header does",
    "organ as header": "one that names parts of the chest, as LUNGS, does so too, and its words are kept",
    "unknown title": "any other title in capitals ends Findings and Impression",
    "several": "more Findings or Impressions than one are joined in their order",
    "repeated": "a section that is there twice, word for word, is kept once",
    "list numbers": "1. 2. 3. before the items of a list go",
}
DROPPED = {
    "empty file": "no word at all",
    "no header": "text without any header but FINAL REPORT",
    "no findings or impression": "headers, none of them Findings or Impression",
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
_REMOVED = re.compile(r"\[\*\*[^\]]{0,80}\*\*\]")
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


def _tidy(text: str) -> str:
    """Unified text without marks, the brackets that these leave empty, double spaces and spaces before a full stop."""
    # A word's search costs a tenth of a pattern's, and most texts need none of them.
    if "[**" in text:
        text = _REMOVED.sub(" ", text)
    if "__" in text:
        text = _BLANKS.sub(" ", text)
    while "  " in text:
        text = text.replace("  ", " ")
    if "(" in text or "[" in text:
        text = _EMPTY_BRACKETS.sub(" ", text)
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
    unified = _unify(text)
    if not text.isascii() or len(unified) < len(text):
        rules.add("Unicode")
    if "__" in text or ("[**" in text and _REMOVED.search(text)):
        rules.add("de-identification")
    plain = _fixpoint(unified, _tidy if unified.isascii() else lambda text: _tidy(_unify(text)))
    headers = find_headers(plain)
    findings, impression = _sections(plain, headers, rules)
    # Joined lines can make a header that none of the lines was: "CLINICAL" and "HISTORY:".
    while ":" in findings or ":" in impression:
        again = f"FINDINGS: {findings}\nIMPRESSION: {impression}"
        found = _sections(again, find_headers(again), set())
        if found == (findings, impression):
            break
        findings, impression = found
    both = normalise(f"{findings} {impression}") if findings and impression else findings or impression
    tokens = count_tokens(both)
    kinds = {header.kind for header in headers}
    reasons = {
        "empty file": not _TOKEN.search(plain),
        "no header": kinds <= {"final"},
        "no findings or impression": not kinds & OPENS.keys(),
        "blank sections": not tokens,
        f"fewer than {MIN_TOKENS} tokens": tokens < MIN_TOKENS,
    }
    dropped = next((reason for reason, applies in reasons.items() if applies), "")
    return Cleaned(findings, impression, both, tokens, frozenset(rules), dropped)


_RULE_OF_KIND = {"both": "findings and impression", "conclusion": "conclusion"}


def _sections(text: str, headers: list[Header], rules: set[str]) -> tuple[str, str]:
    """Findings and Impression under `headers`; the names of the rules that took part are added to `rules`."""
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    section, start = "", 0
    headers = _without_preliminary(headers)
    stand_in = not any(header.kind in ("both", "findings") for header in headers)

    def keep(end: int) -> None:
        if section not in parts or not (plain := normalise(text[start:end])):
            return
        cleaned = _without_list_numbers(plain)
        if cleaned != plain:
            rules.add("list numbers")
        if parts[section]:
            rules.add("repeated" if cleaned in parts[section] else "several")
        if cleaned not in parts[section]:
            parts[section].append(cleaned)

    for header in headers:
        if header.kind in ("view as header", "organ as header") and (section in parts or not stand_in):
            continue  # "PORTABLE CHEST: no change" under Impression is its text
        if header.kind == "unknown title" and section not in parts:
            continue
        keep(header.start)
        rules.update(
            rule for rule in (header.rule, _RULE_OF_KIND.get(header.kind, header.kind)) if rule in RULES
        )
        section = OPENS.get(header.kind, "other")
        start = header.start if header.kind == "organ as header" else header.end
    keep(len(text))
    findings, impression = (
        found[0] if len(found) == 1 else clean_section(" ".join(found)) for found in parts.values()
    )
    return findings, impression


def _without_preliminary(headers: list[Header]) -> list[Header]:
    """Headers less those between a wet read and a later FINAL REPORT."""
    last_final = max((header.start for header in headers if header.kind == "final"), default=-1)
    left, preliminary = [], False
    for header in headers:
        if not preliminary or header.kind == "final":
            left.append(header)
            preliminary = header.kind == "wet read" and header.start < last_final
    return left


# ---- left and right

_SIDES = {"left": "right", "right": "left"}
_WORD = re.compile(r"(?<!\w)(?:[Ll][Ee][Ff][Tt]|[Rr][Ii][Gg][Hh][Tt])(?!\w)")
_SUBSTRING = re.compile("left|right")


def swap_sides(text: str, rule: str = "word") -> str:
    """Exchange left and right, for a study whose images are mirrored.

    rule: `word` exchanges whole words and keeps their case; `substring` does what the authors' code does:
    lower case only and also inside words ("bright" becomes "bleft").
    """
    if rule == "substring":
        return _SUBSTRING.sub(lambda found: _SIDES[found[0]], text)
    if rule != "word":
        raise ValueError(f"rule {rule!r} is neither word nor substring")
    return _WORD.sub(_swap, text)


def _swap(found: re.Match) -> str:
    word, other = found[0], _SIDES[found[0].lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


# ---- the official folder


class Report(NamedTuple):
    """A report file: study_id "s...", patient_id "p...", its text as written, and whether it is UTF-8."""

    study_id: str
    patient_id: str
    text: str
    is_utf8: bool


def list_patients(folder: Path) -> list[str]:
    """Patient folders below `folder`/files, as "pNN/pNNNNNNNN", sorted.

    Raises:
        UserError: no such folder, or a patient in the wrong one.
    """
    files = folder / "files"
    if not files.is_dir():
        raise UserError(f"{files}: no such folder; unpack mimic-cxr-reports.zip into {folder}")
    found = []
    for group in sorted(files.glob("p*")):
        for name in sorted(_entries(group)) if group.is_dir() else ():
            if name.startswith("p") and not (name.startswith(group.name) and name[1:].isdecimal()):
                raise UserError(f"{group / name}: no patient folder of {group.name}; unpack the zip again")
            if name.startswith("p"):
                found.append(f"{group.name}/{name}")
    return found


def list_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """("pNN/pNNNNNNNN", "sNNNNNNNN.txt") of every report below `folder`/files, in the order of their paths.

    patients: those of `list_patients` to look at; all of them by default.

    Raises:
        UserError: no such folder, or a file that is no report; the message names it.
    """
    files = f"{folder}/files"
    for patient in list_patients(folder) if patients is None else patients:
        parent = f"{files}/{patient}"
        for name in sorted(_entries(parent)):
            if name.startswith(".") or name == "index.html":  # file managers and wget leave these
                continue
            if not _REPORT_NAME.fullmatch(name):
                raise UserError(
                    f"{parent}/{name}: no report (expected sNNNNNNNN.txt); move it out of the folder"
                )
            yield patient, name


def read_reports(folder: Path, patients: Iterable[str] | None = None) -> Iterator[Report]:
    """Reports of `list_reports`, one at a time.

    Raises:
        UserError: as `list_reports`, or a report cannot be read.
    """
    files = f"{folder}/files"
    for patient, name in list_reports(folder, patients):
        path = f"{files}/{patient}/{name}"
        try:
            with open(path, "rb", buffering=0) as opened:
                content = opened.read()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); download it again") from None
        yield Report(name[:-4], patient.partition("/")[2], *_decode(content))


_REPORT_NAME = re.compile(r"s\d+\.txt")


def _entries(folder: str | Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); unpack the zip again") from None


def _decode(content: bytes) -> tuple[str, bool]:
    try:
        return content.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), False
