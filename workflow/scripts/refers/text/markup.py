"""Remove what is no text of a report: page breaks of a print-out, HTML and Markdown.

A title that is set off by markup (<b>Findings</b>, **Findings**, ## Findings, "FINDINGS", === FINDINGS ===,
<FINDINGS>...</FINDINGS>, or one underlined by dashes) becomes a header with
a colon, which the rules of `refers.text.headers` recognise wherever it is.
"""

import re
from html import unescape
from html.entities import html5

from refers.text.headers import title_kind

# `re` looks for a pattern that starts with one character ten times as fast as for one that starts with a choice.
_OVER, _CONT = r"\s{0,3}over\s{0,3}\)", r"\s{0,3}cont(?:inued|'d|\.)?\s{0,3}\)"
# The head of the next page stands between the two marks.
_PAGES = re.compile(
    rf"\((?:{_OVER}((?:(?!\((?:{_OVER}|{_CONT})).){{0,1500}})\({_CONT}|{_OVER}|{_CONT})",
    re.DOTALL | re.IGNORECASE,
)
_PAGE_HEAD = re.compile(r"FINAL REPORT|PRELIMINARY REPORT|\bclip #|_{9,}", re.IGNORECASE)

_BLOCKS = "p|br|div|li|ul|ol|tr|td|th|table|thead|tbody|hr|pre|blockquote|section|article|center|html|head|body|title"
_INLINE = "span|font|u|s|a|sub|sup|small|big|code|tt|mark|label|abbr|cite|ins|del"
# "nodule <s 5 mm, which is > 3 mm" is text.
_ATTRIBUTE = r"(?:[a-z][a-z0-9_:.-]{0,40}\s*=\s*(?:\"[^\"<>]{0,300}\"|'[^'<>]{0,300}'|[^\s\"'<>]{1,300})|nowrap|noshade)"
_TAG = re.compile(
    rf"</?(?:(?P<strong>b|strong)|(?P<slanted>i|em)|(?P<heading>h[1-6])|(?P<block>{_BLOCKS})|{_INLINE})(?:\s+{_ATTRIBUTE}){{0,20}}\s*/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});")
_TITLED = r"[A-Za-z][^*_\n]{0,60}?"
_END = r"[ \t]*+:?[ \t]*+"
# A title in emphasis, at the start of a line or after a sentence; as a heading; underlined.
_EMPHASISED = re.compile(
    rf"(?:^[ \t#>-]*|(?<=[.;?!] ))(\*{{1,3}}|_{{1,3}})[ \t]*({_TITLED}){_END}\1[ \t]*:?", re.MULTILINE
)
_HEADING = re.compile(rf"^[ \t]*#{{1,6}}[ \t]*({_TITLED}){_END}#*[ \t]*$", re.MULTILINE)
_UNDERLINED = re.compile(rf"^[ \t]*({_TITLED}){_END}\n[ \t]*(?:-{{3,}}|={{3,}}|~{{3,}})[ \t]*$", re.MULTILINE)
# A title between dashes or the like; one in quotation marks, in capitals or with a colon or alone on its line.
_FRAMED = re.compile(rf"^[ \t]*([-=~+#])\1+[ \t]*({_TITLED}){_END}\1\1+[ \t]*:?", re.MULTILINE)
_QUOTED = re.compile(rf"(?:^[ \t]*|(?<=[.;?!] ))([\"'])({_TITLED}){_END}\1([ \t]*:|[ \t]*$)?", re.MULTILINE)
# <FINDINGS> ... </FINDINGS>, in any case and with _ for a space.
_TITLE_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z_ ]{0,60})>")
_RULER = re.compile(r"^[ \t]*([-=*~#+])(?:[ \t]?\1){2,}[ \t]*$", re.MULTILINE)
# Without a match of these, which are fast, the patterns above have none.
_SLANTED = re.compile(r"_[A-Za-z]")
_DASHES = re.compile("-(?=-)")
_FRAMES = ("==", "~~", "++", "##")
_RULED = re.compile(r"\n[ \t]*[-=*~#+][ \t]?[-=*~#+]")
# Not those of [**Name**], the marks of de-identification.
_STARS = re.compile(r"(?<![\[*])\*{2,}+(?!\])")
# A title in bold anywhere; one in brackets at the start of a line.
_BOLD = re.compile(rf"(\*\*|__)[ \t]*([A-Z][^*_\n]{{0,60}}?){_END}\1[ \t]*:?")
_BRACKETED = re.compile(rf"^[ \t]*\[[ \t]*({_TITLED}){_END}\][ \t]*:?", re.MULTILINE)


def without_page_breaks(text: str) -> str:
    """The text without (Over), (Cont) and the head of the page between them.

    The sentence that a page break cuts goes on in the next line; a paragraph that ends there stays one.
    """
    if "(" not in text or not _PAGES.search(text):
        return text
    found = [*_PAGES.finditer(text)]
    parts, start = [], 0
    for each in found:
        head = each[1] or ""
        kept = "" if not head.strip() or _PAGE_HEAD.search(head) else head
        parts += [text[start : each.start()], *([kept] if kept else [])]
        start = each.end()
    parts.append(text[start:])
    joined = parts[0]
    for part in parts[1:]:
        before, after = joined.rstrip(), part.lstrip()
        blank = "\n\n" in "".join((joined[len(before) :] + part[: len(part) - len(after)]).split(" "))
        joined = before + ("\n\n" if blank and before[-1:] in tuple(".:;?!") else "\n") + after
    return joined


def without_markup(text: str) -> str:
    """The text without HTML tags and entities and without Markdown's emphasis, headings and rulers."""
    if "<" in text:
        text = _TAG.sub(_as_markdown, text)
        text = _without_title_tags(text)
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    if '"' in text or "'" in text:
        text = _QUOTED.sub(
            lambda found: (
                found[0] if found[3] is None and not found[2].isupper() else _as_header(found, 2, "\n")
            ),
            text,
        )
    if "*" in text or _SLANTED.search(text):
        text = _EMPHASISED.sub(lambda found: _as_header(found, 2), text)
        text = _BOLD.sub(lambda found: _as_header(found, 2, "\n"), text)
        text = _STARS.sub(" ", text)
    if "[" in text:
        text = _BRACKETED.sub(lambda found: _as_header(found, 1), text)
    if "#" in text:
        text = _HEADING.sub(lambda found: _as_header(found, 1), text)
    # The search for one character costs a thirtieth of that for two.
    if _DASHES.search(text) or (
        ("=" in text or "~" in text or "+" in text or "#" in text) and any(frame in text for frame in _FRAMES)
    ):
        text = _FRAMED.sub(lambda found: _as_header(found, 2), text)
    if _RULED.search(text):
        text = _UNDERLINED.sub(lambda found: _as_header(found, 1), text)
        text = _RULER.sub("", text)
    return text


def _as_markdown(found: re.Match) -> str:
    if found["heading"]:
        return "\n" if found[0].startswith("</") else "\n## "
    if found["block"]:
        return "\n"
    return "**" if found["strong"] else " "


def _without_title_tags(text: str) -> str:
    """Known titles as tags become headers where both tags are there: <date> alone is the mark of a removed date."""
    tags = [(found[1], found[2].lower()) for found in _TITLE_TAG.finditer(text)]
    titles = {name for slash, name in tags if slash and title_kind(name.replace("_", " "))}
    titles &= {name for slash, name in tags if not slash}

    def header(found: re.Match) -> str:
        if found[2].lower() not in titles:
            return found[0]
        return "\n" if found[1] else f"\n{found[2].replace('_', ' ')}: "

    return _TITLE_TAG.sub(header, text) if titles else text


def _character(found: re.Match) -> str:
    known = found[1].startswith("#") or f"{found[1]};" in html5
    return unescape(found[0]) if known else found[0]


def _as_header(found: re.Match, group: int, before: str = "") -> str:
    """A known title with a colon; other words as they are."""
    return f"{before}{found[group]}: " if title_kind(found[group]) else found[0]
