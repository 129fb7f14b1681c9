"""Find the headers of a radiology report and the sections that they open, by the rules of `refers.text.cleaning.RULES`.

Titles are data: `_TITLES` has the known ones, `_VIEW` and `_TOPIC` the words of titles that can replace a Findings header.
Any other title is text.
"""

import re
from functools import lru_cache
from typing import NamedTuple

# Replaces a de-identification mark: it is white space for every pattern, but a line of it is not blank.
MARK = "\x1f"


def _words(title: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Z0-9]+", title))


_VIEW = _words(
    "AP PA LATERAL LAT FRONTAL PORTABLE UPRIGHT SUPINE ERECT SEMI SEMIUPRIGHT SEMIERECT SEATED BEDSIDE DECUBITUS OBLIQUE"
    " SINGLE ONE TWO THREE FOUR FIVE VIEW VIEWS CHEST THORAX RADIOGRAPH RADIOGRAPHS RADIOGRAPHY X RAY XRAY FILM FILMS"
    " IMAGE IMAGES LEFT RIGHT STANDARD LINE PLACEMENT"
)
_NAMES_VIEW = _words("VIEW VIEWS CHEST RADIOGRAPH RADIOGRAPHS RADIOGRAPHY XRAY FILM FILMS")
_TOPIC = _words(
    "LUNG LUNGS PLEURA PLEURAL SPACE SPACES HEART CARDIAC SILHOUETTE CARDIOMEDIASTINAL CARDIOMEDIASTINUM MEDIASTINUM"
    " MEDIASTINAL CONTOUR CONTOURS HILA HILAR HILUM BONES BONY OSSEOUS STRUCTURES SKELETAL THORAX SOFT TISSUES ABDOMEN"
    " UPPER LOWER DIAPHRAGM DIAPHRAGMS AORTA VESSELS VASCULATURE VASCULARITY PULMONARY AIRWAY AIRWAYS TRACHEA LINES TUBES"
    " DEVICES CATHETERS SUPPORT HARDWARE CHEST WALL PARENCHYMA FIELDS RIBS SPINE LEFT RIGHT EFFUSION EFFUSIONS"
    " PNEUMOTHORAX CONSOLIDATION EDEMA ATELECTASIS OPACITIES"
)
# Other words of what a radiograph shows.
_SEEN_THERE = _words(
    "RADIOGRAPH RADIOGRAPHS RADIOGRAPHIC FILM FILMS VIEW VIEWS IMAGE IMAGES PNEUMOTHORACES OPACITY OPACIFICATION NODULE"
    " NODULES CONSOLIDATIONS INFILTRATE INFILTRATES FRACTURE FRACTURES CARDIOMEGALY TUBE CATHETER PACEMAKER PICC"
    " ENDOTRACHEAL CARINA APEX APICES BASE BASES BASILAR BIBASILAR LOBE LOBES HEMIDIAPHRAGM HEMIDIAPHRAGMS HEMITHORAX"
    " INTERSTITIAL AIRSPACE COSTOPHRENIC CALCIFICATION CALCIFICATIONS VENTRICLE ATRIUM CARDIOPULMONARY INTRATHORACIC"
    " SCOLIOSIS GRANULOMA HYPERINFLATION HYPERINFLATED"
)
_OBSERVABLE = (_TOPIC | _NAMES_VIEW | _SEEN_THERE) - _words(
    "CHEST LEFT RIGHT UPPER LOWER SUPPORT SOFT WALL SPACE"
)
_FILLER = _words("THE OF AND WITH IN ON AT FROM DATED")
_IN_VIEWS = _VIEW | _FILLER
_FIRST_WORD = re.compile(r"[^A-Z\d]*([A-Z][A-Z0-9]*)")
# A number or a time.
_NUMBER = re.compile(r"\b\d+(?::\d+)?\b ?(?:[AP]\.?M\b\.?|(?:HOURS|HRS)\b)?")

# Titles of headers, in capitals and with single spaces.
# (S) or a qualifier: (PRELIMINARY); the number of an item: IMPRESSION #1
_LIMIT = r"(?: ?\([^()]{1,30}\))?(?: ?(?:#|NO\.) ?\d{1,2}| \d{1,2})?"
_AND = r" ?(?:AND|&|/|,) ?"
_VIEWED = "|".join(sorted(_VIEW | _TOPIC)) + "|CT|RADIOGRAPHIC|RADIOLOGICAL|IMAGING|PERTINENT|REFERENCE"
_BEFORE = rf"(?:(?:{_VIEWED})(?:(?:,? |-|/)(?:{_VIEWED}|{'|'.join(sorted(_FILLER))}))* )?"
_SEEN = rf"{_BEFORE}(?:FINDINGS?|OBSERVATIONS?){_LIMIT}"
_MORE = rf"(?:(?:ADDITIONAL|INCIDENTAL|OTHER|FURTHER) )+{_SEEN}"
_IMPRESSION = rf"(?:(?:FINAL|OVERALL|CHEST|RADIOGRAPHIC) )*IMPRESSIONS?{_LIMIT}"
_CONCLUSION = rf"(?:IN )?(?:(?:FINAL|OVERALL) )?(?:CONCLUSIONS?|SUMMARY|OPINION){_LIMIT}"
_BOTH = rf"{_SEEN}{_AND}(?:{_IMPRESSION}|{_CONCLUSION})|{_IMPRESSION}{_AND}{_SEEN}"
_PLAN = r"(?:RECOMMENDATIONS?(?: ?\(S\))?|(?:DISPOSITION )?PLAN(?: OF CARE)?)"
# Sections about the patient and the request.
_CLINICAL = (
    r"(?:(?:(?:CLINICAL|MEDICAL|SURGICAL|PAST|PRESENT|PRESENTING|PERTINENT|PATIENT|BRIEF|RELEVANT|SOCIAL|FAMILY|ONCOLOGIC) )*"
    r"(?:HISTORY(?: OF (?:THE )?PRESENT ILLNESS)?|HX|ILLNESS)"
    r"|(?:CLINICAL )?(?:INDICATIONS?|INFO(?:RMATION)?|STATEMENT|DATA|QUESTION)(?: FOR [A-Z]+(?: [A-Z]+)?)?"
    r"|CLINICAL (?:CONTEXT|BACKGROUND|CONCERN|PRESENTATION|DETAILS|PROBLEM|NOTES?)"
    r"|(?:UNDERLYING )?MEDICAL (?:CONDITIONS?|PROBLEMS?)|UNDERLYING (?:CONDITIONS?|DISEASES?|DIAGNOS[EI]S)"
    r"|(?:CHIEF |PRESENTING )?COMPLAINTS?|SIGNS|SYMPTOMS?|BACKGROUND|CC|HPI|PMH|RSN"
    r"|(?:(?:CLINICAL|ADMITTING|ADMISSION|REFERRING|WORKING|ORDERING|(?:PRE|POST)-?OP(?:ERATIVE)?) )?(?:DIAGNOS[EI]S|DX)"
    r"|EXAM(?:INATION)? REASONS?|REASONS?(?:(?: FOR)?(?: THIS)? [A-Z]+(?: [A-Z]+)?)?)"
)
# These and other sections without observations.
_ASIDE = (
    rf"(?:{_CLINICAL}"
    r"|(?:TYPE OF |PRIOR |PREVIOUS |REFERENCE )?(?:EXAM(?:INATION)?S?|STUDY)|(?:EXAM(?:INATION)? |STUDY )?DATE"
    r"|(?:DATE|TIME) OF [A-Z]+|PROCEDURES?|TECHNIQUES?|TECHNICAL FACTORS|CONTRAST|COMPARISONS?(?: [A-Z]+)?|PRIORS?"
    r"|REFERENCE|DOSE|MEDICATIONS|ALLERGIES|ACCESSION(?: NUMBER)?|(?:REFERRING|ORDERING) (?:PHYSICIAN|PROVIDER))"
)
_TITLES = {
    "both": _BOTH,
    "findings": rf"(?:{_ASIDE}{_AND})*{_SEEN}",
    "more findings": _MORE,
    "impression": rf"{_IMPRESSION}(?:{_AND}{_PLAN})?",
    "conclusion": rf"{_CONCLUSION}(?:{_AND}{_PLAN})?",
    "final": r"FINAL REPORT",
    "wet read": r"WET ?READ|PRELIMINARY (?:REPORT|READ|INTERPRETATION)|(?:PROVISIONAL FINDINGS IMPRESSION|PFI)(?: \(PFI\)| REPORT)?",
    "addendum": r"(?:FINAL )?ADDENDUM",
    "report as header": rf"{_BEFORE}(?:REPORT|INTERPRETATION|RESULTS?){_LIMIT}",
    "clinical": rf"{_CLINICAL}(?:{_AND}{_CLINICAL})*{_LIMIT}",
    "aside": rf"{_ASIDE}(?:{_AND}{_ASIDE})*{_LIMIT}",  # before the observations
    "closing": (  # after them
        rf"{_PLAN}|NOTIFICATIONS?|COMMUNICATIONS?|DISPOSITION|(?:ELECTRONICALLY )?SIGNED(?: BY)?|DICTATED(?: BY)?"
        r"|ATTENDING(?: [A-Z]+)?|RADIOLOGIST"
    ),
}

# The section that a kind of header opens, for sections that are kept.
OPENS = {
    "both": "findings",
    "findings": "findings",
    "more findings": "findings",
    "impression": "impression",
    "conclusion": "impression",
    "report as header": "findings",
    "view as header": "findings",
    "topic as header": "findings",
    "paragraph as header": "findings",
}
# These open it only in a report without a Findings header, and never within a section that is kept.
STANDS_IN = {kind for kind in OPENS if kind.endswith("as header")}


def _spaced(pattern: str) -> str:
    """A pattern of titles in which any white space matches a space."""
    return pattern.replace(" ?", r"\s*").replace(" ", r"\s+")


_NAMED = "|".join(f"(?P<{kind.replace(' ', '_')}>{title})" for kind, title in _TITLES.items())
_TITLE = re.compile(_NAMED)
_BULLET = r"(?:[-*#>=+•·▪●]+\s*|\d{1,2}[.)]\s+)?"
_LEAD = re.compile(rf"\s*{_BULLET}")
_INSIDE = re.compile(rf"(?:^|(?<=[\s.;?!]))(?:[-*]+\s*)?(?:{_spaced(_NAMED)})\s*$")
_OBSERVED = f"{_BOTH}|{_SEEN}|{_MORE}|{_IMPRESSION}|{_CONCLUSION}"
_MARKED = r"\s*(?:[-.;]+|[-=]+>|→|\|)(?=\s|$)"
_STOPPED = rf"(?:{_MARKED}|\s*$)"
_BARE = re.compile(
    rf"\s*{_BULLET}(?:(?P<word>{_spaced('(?:FINAL )?ADDENDUM|WET READ')})\b(?!\s*:)|(?P<words>"
    + _spaced(rf"FINAL REPORT|PRELIMINARY REPORT|{_OBSERVED}")
    + rf"){_STOPPED})"
)
_BARE_SMALL = re.compile(rf"\s*{_BULLET}(?P<words>{_spaced(_OBSERVED)}){_STOPPED}", re.IGNORECASE)
# These only in capitals, and as nothing that wrapping put at the start of a line.
_BARE_CLINICAL = re.compile(rf"\s*{_BULLET}{_spaced(_CLINICAL)}{_LIMIT}{_MARKED}")
# Sentences have these before a colon too, so that they are headers only at the start of a line.
_IN_SENTENCES = {"CC", "HPI", "PMH", "RSN", "DX", "DIAGNOSIS"}
# A search for these costs a tenth of a match of the pattern, and one in small letters a tenth of that.
_OBSERVED_STEMS = ("finding", "observ", "impres", "conclu", "summary", "opinion")
_OPENS_SMALL = re.compile("|".join(_OBSERVED_STEMS), re.IGNORECASE)
_ENDS_LINE = f" {MARK}"
# What may stand before the first letter of a line that is a header.
_BEFORE_LETTERS = f"{_ENDS_LINE}-*#>=+•·▪●0123456789.)"
_CAPITALS = re.compile(r"[A-Z][A-Z0-9/&,()'.: -]{3,60}")
_STOP = re.compile(r"[.;?!](?:\s+|(?=[A-Z][a-z]))")
# "FINDINGS::"
_COLONS = re.compile(r"(?:[^\S\n]*:)+")
_CAPITAL_WORD = re.compile(r"(?:^|\s)[A-Z]+\s*$")
_WORD = re.compile(r"[A-Z]+")
_NO_SMALL_LETTERS = "".join({chr(code) for code in range(128)} - set("abcdefghijklmnopqrstuvwxyz"))
_LAST_WORD = re.compile(r"[A-Z]+(?=\s*$)")
_REACH = 80  # a header has at most this many characters before its colon
_NARROW = 60  # no report is wrapped at fewer characters


def _misspelt(word: str) -> set[str]:
    """Spellings of a word with one letter missing, added, changed, or swapped with the next."""
    halves = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    shorter = {left + right[1:] for left, right in halves}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    longer = {left + letter + right for left, right in halves for letter in letters}
    changed = {left + letter + right[1:] for left, right in halves if right for letter in letters}
    return shorter | swapped | longer | changed


_MEANT = {
    wrong: word
    for word in ("FINDINGS", "IMPRESSION", "CONCLUSION", "INDICATION", "HISTORY", "UNDERLYING", "COMPARISON", "COMPARISONS", "TECHNIQUE", "EXAMINATION")
    for wrong in _misspelt(word)
}  # fmt: skip


class Header(NamedTuple):
    """A header in a text: from `start` to `end`, its kind, and the rules by which it was recognised.

    A header whose words are kept, and a paragraph without a header, end where they start.
    """

    start: int
    end: int
    kind: str
    rules: tuple[str, ...] = ()


def find_headers(text: str) -> list[Header]:
    """Headers of a plain text, in order.

    A paragraph that starts without a header counts as one, and so do the first lines of the report. Lines that only name
    a view do not belong to a paragraph.
    """
    found: list[Header] = []
    lines = text.split("\n")
    last, paragraph, after, width = "", True, 0, 0
    for line in lines:
        start, after = after, after + len(line) + 1
        before, last = last, line.rstrip()
        if not last:
            paragraph = True
            continue
        # It begins the report, a paragraph or a sentence.
        fresh = not before or before[-1] in ".:;!?"
        # Most lines go on with a sentence: no rule applies to them.
        if not (fresh or paragraph or ":" in line) and line.lstrip(_BEFORE_LETTERS)[:2].islower():
            continue
        # So it does, or its first word would have fitted on the line before, so that no wrapping put it here.
        if not fresh and not width:
            width = max(_NARROW, *map(len, lines))
        chosen = fresh or len(before) + 1 + len(line.split(maxsplit=1)[0]) <= width
        outstanding = not fresh and line.isupper() and not before.isupper()
        headers = _headers_in(line, fresh, chosen, outstanding)
        if headers and not line[: headers[0].start].strip():
            paragraph = paragraph and headers[0].kind == "final"
        elif paragraph and not _is_view(line.upper()):
            begin = start + len(line) - len(line.lstrip(" "))
            found.append(Header(begin, begin, "paragraph as header"))
            paragraph = False
        for begin, end, kind, rules in headers:
            found.append(Header(start + begin, start + end, kind, rules))
    return found


# In real reports, 65 to 80 % of the lines that get here were there before, such as "FINDINGS:".
@lru_cache(4096)
def _headers_in(line: str, fresh: bool, chosen: bool, outstanding: bool) -> tuple[Header, ...]:
    """Headers of a line, with their places in it. It is split at colons, which keeps the time linear in its length.

    fresh: the line begins the report, a paragraph or a sentence; chosen: or at least no wrapping put it here; outstanding:
    it is in capitals, and the line before is not.
    """
    found: list[Header] = []
    colon = line.find(":") + 1
    letters = line.lstrip(_BEFORE_LETTERS)[:2]
    # A title has no colon but in brackets.
    opening = line[:colon] if colon and "(" not in line[:colon] else line
    bare = _in_capitals(opening) if letters.isupper() else None
    if bare and (bare[1] != "clinical" or chosen or outstanding):
        length, kind = bare
        # FINAL REPORT and the like never have a colon.
        found.append(Header(0, length, kind, ("no colon",) if kind in OPENS or kind == "clinical" else ()))
    elif not colon and letters.isalpha():
        alone = fresh or outstanding or (chosen and letters[0].isupper())
        length, kind = _without_colon(line, fresh, alone)
        if kind:
            found.append(Header(0, length, kind, ("no colon",)))
    at, following = 0, colon - 1
    while following >= 0:
        colon, following = following, line.find(":", following + 1)
        # Not the colon of a time, as in "AP CHEST, 5:09 A.M.".
        if colon and line[colon - 1].isdecimal() and line[colon + 1 : colon + 2].isdecimal():
            continue
        opens = not at and colon <= _REACH
        first = colon - _REACH if colon - at > _REACH else at
        if header := _before_colon(line[first:colon], opens, opens and chosen):
            begin, kind, rules = header
            begin += first
            if not found or begin >= found[-1].end:
                end = colon + 1 if following < 0 else _past_colons(line, colon)
                found.append(Header(begin, begin if kind == "topic as header" else end, kind, rules))
        at = colon + 1
    return tuple(found)


def _past_colons(line: str, start: int) -> int:
    found = _COLONS.match(line, start)
    return found.end() if found else start


@lru_cache(4096)
def _in_capitals(opening: str) -> tuple[int, str] | None:
    """End and kind of the header in capitals without a colon that opens a line, or None."""
    if bare := _BARE.match(opening):
        return bare.end(), title_kind(bare["word"] or bare["words"])
    bare = _BARE_CLINICAL.match(opening)
    return (bare.end(), "clinical") if bare else None


def _without_colon(line: str, fresh: bool, alone: bool) -> tuple[int, str]:
    """End and kind of the header in any letters that opens a line without a colon; the kind is "" if there is none.

    fresh: the line begins a paragraph or a sentence; alone: the whole line may be a title.
    """
    # A line that wrapping may have begun with such a word is text.
    if fresh and _opens_small(line[:_REACH]) and (bare := _BARE_SMALL.match(line)):
        return bare.end(), title_kind(bare["words"])
    if alone and len(line) <= _REACH and line[-1] != ".":
        return len(line), title_kind(_LEAD.sub("", line, count=1))
    return len(line), ""


def _opens_small(text: str) -> bool:
    if not text.isascii():
        return bool(_OPENS_SMALL.search(text))
    small = text.lower()
    return any(stem in small for stem in _OBSERVED_STEMS)


@lru_cache(4096)
def _before_colon(piece: str, opens_line: bool, chosen: bool) -> tuple[int, str, tuple[str, ...]] | None:
    """The header at the end of a piece of a line before a colon: (position, kind, rules), or None.

    chosen: the piece opens its line, and not because the line before was wrapped.
    """
    words = " ".join(_LEAD.sub("", piece, count=1).split())
    begin = len(piece) - len(piece.lstrip())
    if opens_line and words[:1].isupper():
        title = words.upper()
        if (kind := title_kind(title)) and (chosen or title not in _IN_SENTENCES):
            return begin, kind, ()
        if kind := title_kind(_WORD.sub(_meant, title)):
            return begin, kind, ("misspelt",)
        if _CAPITALS.fullmatch(words) and (kind := _unnamed(words)):
            return begin, kind, ()
    if chosen and words[:1].islower() and (kind := title_kind(words)):
        return begin, kind, ("small letters",)
    # Titles have small letters only in brackets: none starts before the last one.
    tail = 0 if "(" in piece or not piece.isascii() else len(piece.rstrip(_NO_SMALL_LETTERS))
    meant = _LAST_WORD.sub(_meant, piece)
    for spelt, rules in ((piece, ()), (meant, ("misspelt",)))[: 1 + (meant != piece)]:
        if found := _INSIDE.search(spelt, tail):
            begin, kind = found.start(), (found.lastgroup or "").replace("_", " ")
            # "SECOND STUDY:" is text; the words in front of FINDINGS: and IMPRESSION: may be, in a report all in capitals
            named = kind in OPENS and kind not in STANDS_IN
            if named or not (_CAPITAL_WORD.search(spelt[:begin]) or spelt[begin:].strip() in _IN_SENTENCES):
                return begin, kind, ("inside a line", *rules)
    begin = max((stop.end() for stop in _STOP.finditer(piece)), default=0)
    sentence = piece[begin:].strip()
    small = sentence[:1].islower()
    # "Clear. Impression: normal"; in small letters, only after a sentence
    kind = title_kind(sentence) if sentence[:1].isupper() or (small and begin) else ""
    if kind in OPENS and kind not in STANDS_IN:
        return begin, kind, ("inside a line", "small letters") if small else ("inside a line",)
    return None


@lru_cache(4096)
def title_kind(words: str) -> str:
    """Kind of a known title, whatever its letters' case and its blanks; "" if it is not known."""
    found = _TITLE.fullmatch(" ".join(words.upper().split()))
    return (found.lastgroup or "").replace("_", " ") if found else ""


def _meant(found: re.Match) -> str:
    return _MEANT.get(found[0], found[0])


def _unnamed(words: str) -> str:
    """Kind of an unknown title in capitals that can replace a Findings header; "" if it is text."""
    if _is_view(words):
        return "view as header"
    parts = _words(_NUMBER.sub("", words)) - _FILLER
    return "topic as header" if parts and parts <= _TOPIC else ""


# What the patient has or had is no place in the image.
_HAS = re.compile(
    r"\b(?:CHEST|HEART|LUNG|CARDIAC|PULMONARY|ABDOMEN|SPINE|RIBS?) (?:PAIN|DISCOMFORT|TIGHTNESS|PRESSURE|TRAUMA|INJURY|FAILURE|ATTACK"
    r"|ARREST|SURGERY|CANCER|DISEASE|TRANSPLANT|INFECTION|EMBOLI(?:SM|ZATION|C)?|EMBOLUS)\b"
)
_TELLS_ON = re.compile(
    r"\W*(?:(?:THE|THIS|A|AN) )?(?:PATIENT|PT|(?:\d{1,3} ?)?-?(?:YEARS?|YRS?|Y\.?O\.?|Y/O|MONTHS?|DAYS?|WEEKS?)[ -]OLD|\d{1,3} ?(?:YO|Y/O|YF|YM|M|F)\b"
    r"|MAN|WOMAN|MALE|FEMALE|BOY|GIRL|CHILD|INFANT|HISTORY|HX|H/O|S/P|STATUS POST|KNOWN|SUSPECTED|CONCERN|QUESTION|RECENT(?:LY)?"
    r"|PRESENTS|PRESENTING|ADMITTED|COMPLAIN(?:S|ING)|EVALUATION (?:FOR|OF))\b"
)
_ASKS = re.compile(
    r"\W*(?:PLEASE|KINDLY|EVALUATE|EVAL|ASSESS|RULE[ -]OUT|R/O|CHECK|CONFIRM|LOOK FOR|EXCLUDE|IS THERE|ARE THERE|ANY)\b"
)
_UNREMARKABLE = re.compile(
    r"\b(?:NORMAL|CLEAR|UNREMARKABLE|UNCHANGED|STABLE|NEGATIVE|NO (?:\w+ )?(?:ACUTE|ACTIVE|CHANGE|EVIDENCE|ABNORMALIT\w+))\b"
)
_STATES = re.compile(
    r"\b(?:THERE (?:IS|ARE|HAS|HAVE)|NO (?:\w+ ){0,3}(?:PNEUMOTHORAX|EFFUSIONS?|CONSOLIDATIONS?|EDEMA|FRACTURES?|ABNORMALIT\w+|CHANGE)"
    r"|(?:IS|ARE|REMAINS?|APPEARS?|WITHIN) (?:\w+ ){0,2}(?:CLEAR|NORMAL|STABLE|UNCHANGED|ENLARGED|UNREMARKABLE|INTACT|PRESENT|SEEN|NOTED)"
    r"|SHOWS?|DEMONSTRATES?|REVEALS?)\b"
)


def observes(paragraph: str) -> bool:
    """Whether a paragraph below History, Reason or Indication may describe the image.

    It names a place or a thing that a radiograph shows, or calls it normal; and it does not begin as a request does, nor,
    unless it states what is seen, with the patient.
    """
    words = " ".join(paragraph.replace(MARK, " ").upper().split())
    if _ASKS.match(words):
        return False
    named = not _OBSERVABLE.isdisjoint(_words(_HAS.sub("", words)))
    if _TELLS_ON.match(words):
        return named and bool(_STATES.search(words))
    return named or bool(_UNREMARKABLE.search(words))


def _is_view(words: str) -> bool:
    # No number is removed from the first word; most lines of text have another one.
    if (first := _FIRST_WORD.match(words)) and first[1] not in _IN_VIEWS:
        return False
    parts = _words(_NUMBER.sub("", words)) - _FILLER
    return parts <= _VIEW and not parts.isdisjoint(_NAMES_VIEW)
