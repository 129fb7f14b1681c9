"""Numbers with their units, and tables as Markdown and csv."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import Any

# What Markdown reads as markup: wherever it is; at the edge of a word; where it makes a tag, an entity, a link or code;
# and at the start of a line.
_MARKUP = re.compile(
    r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=\()|^\[|^[->](?=[\s-]|$)|^>|^[+#](?=[\s#]|$)"
)
BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3}


def size(count: float) -> str:
    """Bytes in decimal units: `1.5 GB`."""
    for unit, factor in BYTES.items():
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def gib(mib: float | None) -> str:
    """Memory given in MiB: `1.5 GiB`; empty where it is unknown or none."""
    return f"{mib / 1024:.1f} GiB" if mib else ""


def span(hours: float | None) -> str:
    """Hours in the unit that suits them: `30 s`, `1.5 min`, `2.0 h`, `3.5 d`; empty where unknown."""
    if hours is None:
        return ""
    if hours >= 72:
        return f"{hours / 24:,.1f} d"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def input_text(facts: dict[str, Any]) -> str:
    """The input of an imported encoder in words, from `input` of its run.json."""
    mean, std = (", ".join(f"{number:.4g}" for number in facts[key]) for key in ("mean", "std"))
    return f"mean {mean}, deviation {std} ({facts['from']}), {facts['applied']}"


def names_text(names: list[str], few: int = 4) -> str:
    """Dotted names in words: a few of them by name, more as numbers by their first part."""
    if len(names) <= few:
        return ", ".join(names) or "none"
    parts = Counter(name.partition(".")[0] for name in names)
    return f"{len(names)} ({', '.join(f'{part} {count}' for part, count in parts.items())})"


def markdown_text(text: str) -> str:
    """Any text on one line of Markdown that shows as itself, by itself or within a sentence."""
    escaped = _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)


def markdown_table(heads: list[str], rows: list[list[str]], widths: list[int] | None = None) -> str:
    """A Markdown table whose columns also line up on a terminal.

    Cells are Markdown: text that may hold markup goes through `markdown_text` first. A bare `|` is escaped as well.

    Args:
        widths: least width of each column, so that tables below each other line up.
    """
    grid = [[re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in (heads, *rows)]
    needed = column_widths(grid)
    widths = [max(pair) for pair in zip(needed, widths or needed, strict=True)]
    head, *body = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in grid
    )
    rule = "|" + "|".join(f":{'-' * (width + 1)}" for width in widths) + "|"
    return "\n".join([head, rule, *body])


def html_table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    """A table of plain text as an HTML figure, its first column as heads of the rows."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<figure class="table"><figcaption>{escape(title)}</figcaption><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def scrolling(html: str) -> str:
    """HTML whose plain tables scroll by themselves where the page is too narrow for them."""
    return html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def html_section(name: str, title: str, text: str, tables: Iterable[tuple[str, list, list]]) -> str:
    """A section of the page: a heading that can be linked by `name`, a paragraph, and tables as (title, heads, rows)."""
    parts = [f'<h2 id="{name}">{title}</h2>', f"<p>{escape(text)}</p>"]
    return "\n".join([*parts, *(scrolling(html_table(*table)) for table in tables)])


def column_widths(grid: list[list[str]]) -> list[int]:
    """Characters that each column needs, three at least."""
    return [max(3, *map(len, column)) for column in zip(*grid, strict=True)]


def csv_text(fields: list[str], rows: Iterable[dict[str, Any]]) -> str:
    """A csv file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
