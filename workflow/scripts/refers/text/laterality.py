"""Exchange left and right in the report of a study whose images are flipped (paper §4)."""

import re

_SIDES = {"left": "right", "right": "left"}
_SIDE = "[Ll][Ee][Ff][Tt]|[Rr][Ii][Gg][Hh][Tt]"
_WORD = re.compile(rf"(?<!\w)(?:{_SIDE})(?=(?:[Ww][Aa][Rr][Dd][Ss]?|[Mm][Oo][Ss][Tt])?(?!\w))")
# Lobes and zones, quadrants, jugular and subclavian veins, arms and legs: RUL, LLL, RML, RUQ, LIJ, RSC, LUE.
_ABBREVIATED = re.compile(r"(?<!\w)[LR](?=(?:[UML]L|[UML]Z|[UL]Q|IJ|SCV?|[UL]E)(?!\w))")
# A single letter: "L > R", "R lung", "(L)". Not a level of the spine, litres, initials or r/o.
_LETTER = re.compile(
    r"(?<![\w.'/])(?<!\d )(?<!\b[Dd][Rr]\. )[LR]"
    r"(?![\w']|/(?![LR](?!\w))|[ -]?\d(?!\d?(?:st|nd|rd|th)\b)|[ -]?(?:[Ss]pin|SPIN))"
    r"|(?<=(?<!\w)[LR]/)[LR](?!\w)"
)
# The side to which a spine bends or a part is turned.
_BENT = re.compile(r"(?<!\w)(?:dextro|levo)(?=-?(?:scolio|curv|convex|rotat|position))", re.IGNORECASE)
_TURNED = {"dextro": "levo", "levo": "dextro"}
_SUBSTRING = re.compile("left|right")


def swap_sides(text: str, rule: str = "word") -> str:
    """Exchange left and right in a text.

    rule: `word` exchanges whole words and keeps their case: left, right, leftward, rightmost and the like; the
    abbreviations RUL, LLL, LIJ and the like; the single letters L and R; dextro- and levoscoliosis. `substring` follows the
    authors' code: left and right in lower case only, and also within words ("bright" becomes "bleft").

    Raises:
        ValueError: another rule.
    """
    if rule == "substring":
        return _SUBSTRING.sub(lambda found: _SIDES[found[0]], text)
    if rule != "word":
        raise ValueError(f"rule {rule!r} is neither word nor substring")
    text = _WORD.sub(lambda found: _like(found[0], _SIDES), text)
    text = _BENT.sub(lambda found: _like(found[0], _TURNED), text)
    for letters in (_ABBREVIATED, _LETTER):
        text = letters.sub(lambda found: "R" if found[0] == "L" else "L", text)
    return text


def _like(word: str, others: dict[str, str]) -> str:
    """The word's counterpart, in the same case."""
    other = others[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
