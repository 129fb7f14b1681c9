"""Exchange left and right in the report of a study whose images are flipped (paper §4)."""

import re

_SIDES = {"left": "right", "right": "left"}
_SHORTENED = {"lt": "rt", "rt": "lt"}
_LETTERS = dict(zip("LRlr", "RLrl", strict=True))
_SIDE = "[Ll][Ee][Ff][Tt]|[Rr][Ii][Gg][Hh][Tt]"
_WORD = re.compile(rf"(?<!\w)(?:{_SIDE})(?=(?:[Ww][Aa][Rr][Dd][Ss]?|[Mm][Oo][Ss][Tt])?(?!\w))")
# Lobes and zones, quadrants, jugular and subclavian veins, arms and legs: RUL, LLL, RML, RUQ, LIJ, RSC, LUE.
_ABBREVIATED = re.compile(r"(?<!\w)[LR](?=(?:[UML]L|[UML]Z|[UL]Q|IJ|SCV?|[UL]E)(?!\w))")
# In small letters only the lobes, which are no other words: rul, lll.
_LOBE = re.compile(r"(?<![\w'])[LRlr](?=[uml]l(?![\w']))")
# Rt and Lt, with or without a full stop; not radiotherapy (post RT, RT changes), RT-PCR,
# a technologist, RT(R), or an entity.
_SHORT = re.compile(
    r"(?<![\w'&.])(?<!\b[Pp]ost[ -])(?<!\b[Ss]/[Pp] )(?:rt|lt|Rt|Lt|RT|LT)(?![\w'(]|[ -](?:change|field)s?\b|[ /-]?q?PCR\b)"
)
# "l > r" in small letters; a capital in it is a letter of its own.
_COMPARED = re.compile(r"(?<![\w.'/])(?<!\d )[LRlr]\s?[<>=]{1,2}\s?[LRlr](?![\w'])")
_SMALL = str.maketrans("lr", "rl")
# What stands before a letter that is no side. "PA and L views" are PA and lateral; "L. Smith MD" and "by L. Smith" are
# people, and so is "L. Smith" where a sentence begins, unless the capital is a word of a report.
_NAME = r"[LR]\.\s?(?:[A-Z]\.\s?)?[A-Z][a-z]+"
_DEGREE = r"(?:M\.?D|D\.?O|Ph\.?D|MBBS|RN|NP|PA(?:-C)?|RT)\b"
_OPENERS = (
    "Left|Right|The|There|This|These|No|Not|New|Old|Clear|Normal|Stable|Unchanged|Unremarkable|Interval|Small|Large|Mild"
    "|Moderate|Minimal|Trace|Increased|Decreased|Persistent|Possible|Probable|Likely|Lungs?|Pleura|Pleural|Heart|Cardiac|Bas(?:e|al|ilar)"
    "|Upper|Lower|Mid|Middle|Apical|Effusions?|Pneumothorax|Opacit(?:y|ies)|Atelectasis|Consolidation|Chest|Ribs?|Hil(?:um|ar)"
    "|Hemi[a-z]+|Lateral|Pulmonary|Subclavian|Internal|Jugular|Central|Tip|Tubes?|Lines?|Other|Otherwise|Also|Again|Both|If"
    "|In|On|As|At|An?|Is|And|With|Mediastin[a-z]+"
)
_KEPT = (
    r"\b(?:PA|AP)(?:\s?[&+/,]\s?|\s(?:and|AND|with|WITH)\s)L(?=[.,;:)]|$|\s(?i:views?|films?|chest|cxr|x-?rays?|radiographs?|images?"
    r"|projections?|of|was|were|obtained)\b)"
    rf"|(?<![\w.'/]){_NAME}(?:-[A-Z][a-z]+)?,?\s{_DEGREE}"
    rf"|\b(?:[Bb]y|[Dd]rs?\.?|[Dd]octors?|[Rr]esident|[Aa]ttending|[Rr]adiologist|[Ff]ellow|M\.?D\.?,?)\s{_NAME}\b"
    r"|\bRT\([LR]\)"
    rf"|(?:^|(?<=[.:;?!]\s))(?!..\s?(?:{_OPENERS})\b){_NAME}\b"
)
# A single letter: "L > R", "R lung", "(L)". Not a level of the spine, litres, initials or r/o.
_LETTER = re.compile(
    r"(?<![\w.'/])(?<!\d )(?<!\b[Dd][Rr]\. )[LR]"
    r"(?![\w']|/(?![LR](?!\w))|[ -]?\d(?!\d?(?:st|nd|rd|th)\b)|[ -]?(?:[Ss]pin|SPIN))"
    r"|(?<=(?<!\w)[LR]/)[LR](?!\w)"
)
_LETTER_OR_KEPT = re.compile(rf"{_KEPT}|{_LETTER.pattern}")
# The side to which a spine bends or a part is turned.
_BENT = re.compile(r"(?<!\w)(?:dextro|levo)(?=-?(?:scolio|curv|convex|rotat|position))", re.IGNORECASE)
_TURNED = {"dextro": "levo", "levo": "dextro"}
_SUBSTRING = re.compile("left|right")


def swap_sides(text: str, rule: str = "word") -> str:
    """Exchange left and right in a text.

    rule: `word` exchanges whole words and keeps their case: left, right, leftward, rightmost and the like; the
    abbreviations RUL, LLL, LIJ and the like, the lobes in small letters too; Rt and Lt; the single letters L and R, and l > r;
    dextro- and levoscoliosis. `substring` follows the authors' code: left and right in lower case only, and also within
    words ("bright" becomes "bleft").

    Raises:
        ValueError: another rule.
    """
    if rule == "substring":
        return _SUBSTRING.sub(lambda found: _SIDES[found[0]], text)
    if rule != "word":
        raise ValueError(f"rule {rule!r} is neither word nor substring")
    text = _WORD.sub(lambda found: _like(found[0], _SIDES), text)
    text = _BENT.sub(lambda found: _like(found[0], _TURNED), text)
    text = _SHORT.sub(lambda found: _like(found[0], _SHORTENED), text)
    text = _COMPARED.sub(lambda found: found[0].translate(_SMALL), text)
    # Most reports have no single letter, and the search for one costs a fifth of the longer pattern.
    for letters in (_ABBREVIATED, _LOBE, *([_LETTER_OR_KEPT] if _LETTER.search(text) else [])):
        text = letters.sub(lambda found: _LETTERS.get(found[0], found[0]), text)
    return text


def _like(word: str, others: dict[str, str]) -> str:
    """The word's counterpart, in the same case."""
    other = others[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
