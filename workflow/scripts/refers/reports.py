"""Free-text radiology reports: Findings and Impression, cleaned; left and right for mirrored images (paper §4).

The authors did their cleaning offline and published no code for it: the rules here are this project's own.
A report without a Findings or Impression header is dropped and counted, for nothing else in it is marked as
what the radiologist saw.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from refers.errors import UserError

MIN_TOKENS = 3

_FINDINGS = (
    r"FINDINGS?(?:\s*(?:AND|&|/|,)\s*(?:IMPRESSIONS?|CONCLUSIONS?))?|IMPRESSIONS?\s*(?:AND|&|/)\s*FINDINGS?"
)
_IMPRESSION = r"(?:(?:FINAL|OVERALL)\s+)?(?:IMPRESSIONS?|CONCLUSIONS?)(?:\s*(?:AND|&|/)\s*RECOMMENDATIONS?)?"
# Sections that hold no observation on this image: they end Findings and Impression, whatever their case.
_OTHER = (
    r"(?:[A-Z]+\s+)?HISTORY|(?:CLINICAL\s+)?(?:INDICATIONS?|INFORMATION|STATEMENT|DATA|QUESTION)(?:\s+FOR\s+[A-Z ]+)?"
    r"|REASON(?:\s+FOR)?(?:\s+THIS)?\s+[A-Z]+(?:\s+[A-Z]+)?|EXAM(?:INATION)?S?|STUDY|TYPE\s+OF\s+EXAM(?:INATION)?|PROCEDURE"
    r"|TECHNIQUES?|TECHNICAL\s+FACTORS|COMPARISONS?(?:\s+[A-Z]+)?|PRIORS?|WET\s+READ|PRELIMINARY\s+REPORT"
    r"|(?:FINAL\s+)?(?:ADDENDUM|REPORT)|RECOMMENDATIONS?|NOTIFICATIONS?|DATE|REFERENCE|DOSE|SIGNED|DICTATED(?:\s+BY)?|ATTENDING"
)
_ALONE = (
    r"FINAL\s+REPORT|FINAL\s+ADDENDUM|ADDENDUM|WET\s+READ"  # written on a line of their own, without a colon
)
# A title in capitals ends a section too, unless it names a part of the chest or a view, as in "LUNGS: ...".
_PART = (
    r"LUNG|PLEURA|HEART|CARDI|MEDIASTIN|HIL[AU]|BON[EY]|OSSEOUS|SKELET|SOFT|TISSUE|ABDOM|DIAPHRAGM|AORTA|VASCUL|AIRWAY|TRACHEA"
    r"|LINE|TUBE|DEVICE|CATHETER|SUPPORT|CHEST|RADIOGRAPH|VIEW|FRONTAL|LATERAL|PORTABLE|RIB|SPINE|UPPER|LOWER|LEFT|RIGHT|OTHER|NOTE"
)
_HEADER = re.compile(
    rf"""
      (?:^[ \t]*|(?P<inside>(?<=\s)))
      (?:(?P<findings>{_FINDINGS})|(?P<impression>{_IMPRESSION})|(?P<other>{_OTHER}))(?:\(S\))?[ \t]*(?P<colon>:)
    | ^[ \t]*(?:(?P<findings_alone>{_FINDINGS})|(?P<impression_alone>{_IMPRESSION})|(?P<other_alone>{_ALONE}))[ \t]*$
    | ^[ \t]*(?P<title>(?-i:[A-Z][A-Z0-9/&,()' \t-]{{3,60}}))[ \t]*:
    """.replace(r"\s+", r"[ \t]+").replace(r"\s*", r"[ \t]*"),
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_KINDS = ("findings", "impression", "other", "findings_alone", "impression_alone", "other_alone", "title")
_TITLES = {"FINDING": "findings", "IMPRESSION": "impression", "CONCLUSION": "impression"}
_IS_PART = re.compile(_PART)
_TOKEN = re.compile(r"[^\W_]+(?:[.,'/-][^\W_]+)*")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-"}
)


class Cleaned(NamedTuple):
    """Findings, Impression, and both as one line of text; empty where the report has none."""

    findings: str
    impression: str
    text: str


def normalise(text: str) -> str:
    """One line of plain text: compatibility forms unified, `___` and control characters dropped, spaces single.

    Applying it twice changes nothing.
    """
    return _fixpoint(text, lambda text: " ".join(_plain(text).split()))


def _fixpoint(text: str, change: Callable[[str], str]) -> str:
    # Dropping a character can bring two others together that belong together; each round only shortens the text.
    while (changed := change(text)) != text:
        text = changed
    return text


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
        # Line and paragraph separators count as spaces; format, private and unpaired surrogate characters carry no text.
        text = "".join(
            " " if character.isspace() and character != "\n" else character
            for character in text
            if character.isspace() or unicodedata.category(character)[0] != "C"
        )
    else:
        text = re.sub(r"[\x00-\x08\x0e-\x1b\x7f]", "", text)
    text = re.sub(r"_{2,}", " ", text)
    text = re.sub(r"\(\s*\)", " ", text)  # what "(___)" leaves
    return re.sub(r"(?<![^\S\n])[^\S\n]+(?=[.,;:](?:\s|$))", "", text)


def clean_report(text: str) -> Cleaned:
    """Findings and Impression of a report, cleaned; every occurrence of a section, in order, repeats once.

    No word is added or changed. Text before the first header and under any other header is left out.
    """
    text = _fixpoint(text.replace("\r\n", "\n").replace("\r", "\n"), _plain)
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    section, start = "", 0
    for header in _HEADER.finditer(text):
        if (kind := _kind(header)) is not None:
            _keep(parts, section, text[start : header.start()])
            section, start = kind, header.end()
    _keep(parts, section, text[start:])
    findings, impression = (" ".join(parts[name]) for name in ("findings", "impression"))
    findings, impression = normalise(findings), normalise(impression)
    return Cleaned(findings, impression, normalise(f"{findings} {impression}"))


def _kind(header: re.Match) -> str | None:
    """Section that a header opens: findings, impression, or other; None where it is no header after all."""
    group = next(name for name in _KINDS if header[name] is not None)
    words = header[group]
    if group == "title":
        for ending, kind in _TITLES.items():
            if words.rstrip().removesuffix("S").endswith(ending):
                return kind
        return None if _IS_PART.search(words) else "other"
    # "the findings: ..." is prose, "FINDINGS: ... IMPRESSION: ..." on one line is not; nor is a capital word alone.
    if (header["inside"] is not None or group.endswith("_alone")) and words != words.upper():
        return None
    return group.removesuffix("_alone")


def _keep(parts: dict[str, list[str]], section: str, text: str) -> None:
    if section in parts and (text := normalise(text)) and text not in parts[section]:
        parts[section].append(text)


def count_tokens(text: str) -> int:
    """Words and numbers in a text; punctuation alone is none."""
    return sum(1 for _ in _TOKEN.finditer(text))


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


class Report(NamedTuple):
    """A report file: study_id "s...", patient_id "p...", and its text as written."""

    study_id: str
    patient_id: str
    text: str


def read_reports(folder: Path) -> Iterator[Report]:
    """Reports below `folder`/files/pNN/pNNNNNNNN/sNNNNNNNN.txt, one at a time, in the order of their paths.

    Raises:
        UserError: no such folder, a file that is no report, or one that cannot be read; the message names it.
    """
    files = folder / "files"
    if not files.is_dir():
        raise UserError(f"{files}: no such folder; unpack mimic-cxr-reports.zip into {folder}")
    for group in sorted(files.glob("p*")):
        for patient in sorted(group.glob("p*")):
            for path in sorted(patient.iterdir()):
                if not re.fullmatch(r"s\d+\.txt", path.name):
                    raise UserError(f"{path}: no report (expected sNNNNNNNN.txt); move it out of the folder")
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise UserError(f"{path}: cannot be read ({error.strerror}); download it again") from None
                yield Report(path.stem, patient.name, _decode(content))


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
