"""Headers of a radiology report: where they stand and what they open. The rules are named in `refers.reports.RULES`."""

import re
from functools import lru_cache
from typing import NamedTuple

# What a header says, in capitals and single spaces.
_F = (
    r"(?:(?:CHEST|PORTABLE|RADIOGRAPHIC|RADIOLOGICAL|IMAGING|PERTINENT|ADDITIONAL|INCIDENTAL|OTHER) )*"
    r"(?:FINDINGS?|OBSERVATIONS?)(?: ?\(S\))?"
)
_I = r"(?:(?:FINAL|OVERALL|CHEST|RADIOGRAPHIC) )*IMPRESSIONS?(?: ?\(S\))?"
_C = r"(?:(?:FINAL|OVERALL) )?(?:CONCLUSIONS?|SUMMARY|OPINION)(?: ?\(S\))?"
_AND = r" ?(?:AND|&|/|,) ?"
_TITLES = {
    "both": rf"{_F}{_AND}(?:{_I}|{_C})|{_I}{_AND}{_F}",
    "findings": _F,
    "impression": rf"{_I}(?:{_AND}(?:RECOMMENDATIONS?|PLAN))?",
    "conclusion": rf"{_C}(?:{_AND}(?:RECOMMENDATIONS?|PLAN))?",
    "final": r"FINAL REPORT",
    "wet read": r"WET READ|PRELIMINARY (?:REPORT|READ|INTERPRETATION)|(?:PROVISIONAL FINDINGS IMPRESSION|PFI)(?: \(PFI\)| REPORT)?",
    "addendum": r"(?:FINAL )?ADDENDUM",
    # Sections that hold no observation on this image.
    "other": (
        r"(?:(?:CLINICAL|MEDICAL|SURGICAL|PAST|PATIENT|BRIEF|RELEVANT|SOCIAL|FAMILY|ONCOLOGIC) )*HISTORY"
        r"|(?:CLINICAL )?(?:INDICATIONS?|INFORMATION|STATEMENT|DATA|QUESTION)(?: FOR [A-Z]+(?: [A-Z]+)?)?"
        r"|REASON(?: FOR)?(?: THIS)? [A-Z]+(?: [A-Z]+)?|(?:TYPE OF )?EXAM(?:INATION)?S?|STUDY|PROCEDURE"
        r"|TECHNIQUES?|TECHNICAL FACTORS|COMPARISONS?(?: [A-Z]+)?|PRIORS?|REPORT|RECOMMENDATIONS?(?: ?\(S\))?"
        r"|NOTIFICATIONS?|DATE|REFERENCE|DOSE|SIGNED|DICTATED(?: BY)?|ATTENDING"
    ),
}
_NAMED = "|".join(f"(?P<{kind.replace(' ', '_')}>{title})" for kind, title in _TITLES.items())
_TITLE = re.compile(_NAMED)
_INSIDE = re.compile(rf"(?:^|(?<=\s))(?:{_NAMED})\s*$".replace(" ?", r"\s*").replace(" ", r"\s+"))
_BARE = re.compile(
    rf"\s*(?:(?P<word>(?:FINAL\s+)?ADDENDUM|WET\s+READ)\b(?!\s*:)|(?P<words>FINAL\s+REPORT|PRELIMINARY\s+REPORT|{_F}{_AND}(?:{_I}|{_C})"
    rf"|{_I}{_AND}{_F}|{_F}|{_I}|{_C})\s*(?:[-.;]+(?=\s|$)|$))".replace(" ?", r"\s*").replace(" ", r"\s+")
)
_CAPITALS = re.compile(r"[A-Z][A-Z0-9/&,()' -]{3,60}")
_COLON = re.compile(r"(?<!\d):|:(?!\d)")  # "AP CHEST, 5:09 A.M." has none
_REACH = 80  # characters before a colon that can be a header


def _words(title: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Z0-9]+", title))


_VIEW = _words(
    "AP PA LATERAL LAT FRONTAL PORTABLE UPRIGHT SUPINE ERECT SEMI SEMIUPRIGHT SEMIERECT SEATED BEDSIDE DECUBITUS OBLIQUE"
    " SINGLE ONE TWO THREE FOUR FIVE 1 2 3 4 5 VIEW VIEWS CHEST THORAX RADIOGRAPH RADIOGRAPHS RADIOGRAPHY X RAY XRAY FILM"
    " FILMS IMAGE IMAGES LEFT RIGHT STANDARD LINE PLACEMENT"
)
_NAMES_VIEW = _words("VIEW VIEWS CHEST RADIOGRAPH RADIOGRAPHS RADIOGRAPHY XRAY FILM FILMS")
_ORGAN = _words(
    "LUNG LUNGS PLEURA PLEURAL SPACE SPACES HEART CARDIAC SILHOUETTE CARDIOMEDIASTINAL CARDIOMEDIASTINUM MEDIASTINUM"
    " MEDIASTINAL CONTOUR CONTOURS HILA HILAR HILUM BONES BONY OSSEOUS STRUCTURES SKELETAL THORAX SOFT TISSUES ABDOMEN"
    " UPPER LOWER DIAPHRAGM DIAPHRAGMS AORTA VESSELS VASCULATURE VASCULARITY PULMONARY AIRWAY AIRWAYS TRACHEA LINES TUBES"
    " DEVICES CATHETERS SUPPORT HARDWARE CHEST WALL PARENCHYMA FIELDS RIBS SPINE LEFT RIGHT"
)
_FILLER = _words("THE OF AND WITH IN ON AT")
_NAMES_ORGAN = re.compile(
    r"LUNG|PLEURA|HEART|CARDI|MEDIASTIN|HIL[AU]|BON[EY]|OSSEOUS|SKELET|SOFT|TISSUE|ABDOM|DIAPHRAGM|AORTA|VASCUL|AIRWAY|TRACHEA"
    r"|LINE|TUBE|DEVICE|CATHETER|SUPPORT|CHEST|RADIOGRAPH|VIEW|FRONTAL|LATERAL|PORTABLE|RIB|SPINE|UPPER|LOWER|LEFT|RIGHT|OTHER|NOTE"
)

# Section that a kind of header opens, where it is one that is kept.
OPENS = {
    "both": "findings",
    "findings": "findings",
    "impression": "impression",
    "conclusion": "impression",
    "view as header": "findings",
    "organ as header": "findings",
}


class Header(NamedTuple):
    """A header in a text: from `start` to `end`, its kind, and the rule that took it for one, or ""."""

    start: int
    end: int
    kind: str
    rule: str


def find_headers(text: str) -> list[Header]:
    """Headers of a plain text, in order; a line is cut at its colons, so the time is linear in the text's length."""
    found, start = [], 0
    for line in text.split("\n"):
        if line.lstrip()[:2].isupper() and (bare := _BARE.match(line)):
            kind = _named(" ".join((bare["word"] or bare["words"]).split()))
            rule = "no colon" if kind in OPENS else ""  # FINAL REPORT has none anyway
            found.append(Header(start, start + bare.end(), kind, rule))
        if ":" in line:
            at = start
            for piece in _COLON.split(line)[:-1]:
                if header := _before_colon(piece[-_REACH:], at == start and len(piece) <= _REACH):
                    begin, kind, rule = header
                    begin += at + max(len(piece) - _REACH, 0)
                    if not found or begin >= found[-1].end:
                        found.append(Header(begin, at + len(piece) + 1, kind, rule))
                at += len(piece) + 1
        start += len(line) + 1
    return found


@lru_cache(4096)
def _before_colon(piece: str, opens_line: bool) -> tuple[int, str, str] | None:
    """The header that a piece of a line before a colon ends in: (where it begins, kind, rule), or None."""
    words = " ".join(piece.split())
    if opens_line and words[:1].isupper():
        if kind := _named(words.upper()):
            return len(piece) - len(piece.lstrip()), kind, ""
        if _CAPITALS.fullmatch(words) and (kind := _unnamed(words)) in ("view as header", "organ as header"):
            return len(piece) - len(piece.lstrip()), kind, ""
    if inside := _INSIDE.search(piece):
        return inside.start(), inside.lastgroup.replace("_", " "), "inside a line"
    if opens_line and _CAPITALS.fullmatch(words) and (kind := _unnamed(words)):
        return len(piece) - len(piece.lstrip()), kind, ""
    return None


def _named(words: str) -> str:
    """Kind of a known header in capitals, or ""."""
    found = _TITLE.fullmatch(words)
    return found.lastgroup.replace("_", " ") if found else ""


def _unnamed(words: str) -> str:
    """What a title in capitals that is no known header stands for; "" where it is part of the text."""
    parts = _words(words) - _FILLER
    if parts <= _VIEW and parts & _NAMES_VIEW:
        return "view as header"
    if parts and parts <= _ORGAN:
        return "organ as header"
    return "" if _NAMES_ORGAN.search(words) else "unknown title"
