"""Exchange left and right in the report of a study whose images are flipped (paper §4)."""

import re

_SIDES = {"left": "right", "right": "left"}
_WORD = re.compile(r"(?<!\w)(?:[Ll][Ee][Ff][Tt]|[Rr][Ii][Gg][Hh][Tt])(?!\w)")
_SUBSTRING = re.compile("left|right")


def swap_sides(text: str, rule: str = "word") -> str:
    """Exchange left and right in a text.

    rule: `word` exchanges whole words and keeps their case; `substring` follows the authors' code: lower case only, and
    also within words ("bright" becomes "bleft").

    Raises:
        ValueError: another rule.
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
