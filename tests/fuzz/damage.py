"""What happens to files on the way: seeded damage to one file, by the form of its content.

A damage gets a source of random numbers and the file's path and changes the file. It leaves the file as it is where there is
nothing to damage, as in a text without two lines.
"""

import gzip
import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Damage = Callable[[Random, Path], None]
GZIP = b"\x1f\x8b"
PAGE = (
    b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
ODD_NUMBERS = (
    "NaN",
    "inf",
    "-inf",
    "-1",
    "0",
    "1",
    "2",
    "1e400",
    "9" * 30,
    "1.5",
    "",
    "x",
    "1,5",
    "0x10",
    "\u0661",
)
ODD_VALUES = (None, True, -1, 0, 2, 1.5, 1e308, 10**30, float("nan"), "", "x", "NaN", "\u0000", "../x", [], [None], {}, {"x": 1})  # fmt: skip


def on_bytes(change: Callable[[Random, bytearray], bytes | bytearray]) -> Damage:
    """A damage of a file's content, where it has any."""

    def damage(random: Random, path: Path) -> None:
        if content := path.read_bytes():
            path.write_bytes(change(random, bytearray(content)))

    return damage


def instead(content: bytes) -> Damage:
    """Another content."""
    return lambda random, path: path.write_bytes(content) and None


# ---- any file


def flip(random: Random, content: bytearray) -> bytearray:
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return content


def byte(random: Random, content: bytearray) -> bytearray:
    content[random.randrange(len(content))] = random.choice((0, 255, random.randrange(256)))
    return content


def insert(random: Random, content: bytearray) -> bytearray:
    content.insert(random.randrange(len(content) + 1), random.randrange(256))
    return content


def remove(random: Random, content: bytearray) -> bytearray:
    start = random.randrange(len(content))
    del content[start : start + random.choice((1, 1, 2, 9, 100))]
    return content


def zeros(random: Random, content: bytearray) -> bytearray:
    """A run of zeros, as a disk or a download leaves that did not get further."""
    start = random.randrange(len(content))
    length = min(random.choice((4, 16, 512)), len(content) - start)
    content[start : start + length] = bytes(length)
    return content


def head(random: Random, content: bytearray) -> bytearray:
    """A byte among the first hundred, where headers are."""
    content[random.randrange(min(100, len(content)))] = random.choice((0, 255, random.randrange(256)))
    return content


def repeat(random: Random, content: bytearray) -> bytearray:
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:]


def cut(random: Random, content: bytearray) -> bytearray:
    return content[: random.randrange(len(content))]


def folder(random: Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(random: Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def absent(random: Random, path: Path) -> None:
    path.unlink()


def closed(random: Random, path: Path) -> None:
    """A link to itself, which no user can open."""
    path.unlink()
    path.symlink_to(path)


BYTES: dict[str, Damage] = {
    **{
        change.__name__: on_bytes(change) for change in (flip, byte, insert, remove, zeros, head, repeat, cut)
    },
}
WHOLE: dict[str, Damage] = {
    **{"empty": instead(b"\n"), "blank": lambda random, path: path.write_bytes(b"") and None},
    **{"page": instead(PAGE), "pointer": instead(POINTER), "zip": instead(b"PK\x05\x06" + bytes(18))},
    **{"folder": folder, "pipe": pipe, "absent": absent, "closed": closed},
}

# ---- text


def on_text(change: Callable[[Random, str], str | None]) -> Damage:
    """A damage of a text, which stays gzipped where it is."""

    def damage(random: Random, path: Path) -> None:
        content = path.read_bytes()
        packed = content.startswith(GZIP)
        text = (gzip.decompress(content) if packed else content).decode("utf-8")
        if text and (changed := change(random, text)) is not None:
            written = changed.encode("utf-8", "surrogateescape")
            path.write_bytes(gzip.compress(written) if packed else written)

    return damage


def on_lines(change: Callable[[Random, list[str]], list[str] | None]) -> Damage:
    def damage(random: Random, text: str) -> str | None:
        lines = change(random, text.split("\n"))
        return None if lines is None else "\n".join(lines)

    return on_text(damage)


def on_fields(change: Callable[[Random, list[str]], list[str]]) -> Damage:
    """A damage of one row's fields."""

    def damage(random: Random, lines: list[str]) -> list[str] | None:
        rows = [place for place, line in enumerate(lines) if place and line.count(",") > 1]
        if not rows:
            return None
        place = random.choice(rows)
        lines[place] = ",".join(change(random, lines[place].split(",")))
        return lines

    return on_lines(damage)


def letter(random: Random, text: str) -> str | None:
    """Another letter or digit for one."""
    places = [found.start() for found in re.finditer(r"\w", text)]
    if not places:
        return None
    place = random.choice(places)
    return text[:place] + random.choice("0123456789abcxyzABCXYZ_-\u00e9") + text[place + 1 :]


def number(random: Random, text: str) -> str | None:
    if not (found := list(NUMBER.finditer(text))):
        return None
    one = random.choice(found)
    return text[: one.start()] + random.choice(ODD_NUMBERS) + text[one.end() :]


def sign(random: Random, text: str) -> str:
    """A character that separates or quotes, at any place."""
    place = random.randrange(len(text))
    return text[:place] + random.choice(",\"'\n\r\t;|\\ \u2028\x0c") + text[place + random.randrange(2) :]


def nul(random: Random, text: str) -> str:
    place = random.randrange(len(text))
    return text[:place] + random.choice(("\0", "\x1a", "\x07", "\udc80", "\udce9")) + text[place + 1 :]


def less(random: Random, lines: list[str]) -> list[str]:
    del lines[random.randrange(len(lines))]
    return lines


def twice(random: Random, lines: list[str]) -> list[str]:
    place = random.randrange(len(lines))
    return [*lines[: place + 1], *lines[place:]]


def cut_lines(random: Random, lines: list[str]) -> list[str]:
    return lines[: random.randrange(len(lines))]


def mixed(random: Random, lines: list[str]) -> list[str]:
    """Two lines change places."""
    if len(lines) > 1:
        one, two = random.sample(range(len(lines)), 2)
        lines[one], lines[two] = lines[two], lines[one]
    return lines


def field_less(random: Random, fields: list[str]) -> list[str]:
    del fields[random.randrange(len(fields))]
    return fields


def field_twice(random: Random, fields: list[str]) -> list[str]:
    place = random.randrange(len(fields))
    return [*fields[: place + 1], *fields[place:]]


def columns(random: Random, lines: list[str]) -> list[str] | None:
    """The values of two columns change places under their names."""
    rows = [line.split(",") for line in lines]
    width = len(rows[0])
    if width < 2:
        return None
    one, two = random.sample(range(width), 2)
    for row in rows[1:]:
        if len(row) == width:
            row[one], row[two] = row[two], row[one]
    return [",".join(row) for row in rows]


def title(random: Random, lines: list[str]) -> list[str] | None:
    """A change in the first line."""
    changed = letter(random, lines[0])
    return None if changed is None else [changed, *lines[1:]]


def coded(random: Random, path: Path) -> None:
    """The text in another encoding."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if content.startswith(GZIP) else content).decode("utf-8")
    path.write_bytes(text.encode(random.choice(("utf-16", "utf-32", "utf-16-be"))))


def resaved(random: Random, text: str) -> str:
    """The same text as another program writes it."""
    return random.choice((text.replace("\n", "\r\n"), "\ufeff" + text, text.rstrip("\n") + "\n\n\n"))


LINES: dict[str, Damage] = {
    **{change.__name__: on_text(change) for change in (letter, number, sign, nul, resaved)},
    **{"line less": on_lines(less), "line twice": on_lines(twice), "lines cut": on_lines(cut_lines)},
    **{"lines mixed": on_lines(mixed), "coded": coded},
}
TABLE: dict[str, Damage] = LINES | {
    **{"field less": on_fields(field_less), "field twice": on_fields(field_twice)},
    **{"columns": on_lines(columns), "title": on_lines(title)},
}

# ---- JSON and YAML: the text above, and values, keys and kinds of content


def _nodes(content: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a nested content."""
    keys = range(len(content)) if isinstance(content, list) else content if isinstance(content, dict) else ()
    return [each for key in keys for each in ((content, key), *_nodes(content[key]))]


def spoiled(random: Random, content: Any) -> Any:
    """A nested content with one value replaced, left out, or under another name."""
    if not (nodes := _nodes(content)):
        return random.choice(ODD_VALUES)
    parent, key = random.choice(nodes)
    what = random.choice(("value", "value", "value", "less", "name", "more", "all"))
    if what == "value":
        parent[key] = random.choice(ODD_VALUES)
    elif what == "less":
        del parent[key]
    elif what == "more":
        parent[key] = [parent[key], parent[key]]
    elif what == "name" and isinstance(parent, dict):
        parent[f"{key}x"] = parent.pop(key)
    elif what == "all":
        return random.choice(([content], {"x": content}, *ODD_VALUES))
    return content


def node(random: Random, path: Path) -> None:
    path.write_text(json.dumps(spoiled(random, json.loads(path.read_text()))), encoding="utf-8")


JSON: dict[str, Damage] = {
    **{name: LINES[name] for name in ("letter", "number", "sign", "nul", "line less", "line twice", "coded")},
    "node": node,
}

# ---- archives of arrays


def _members(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _pack(path: Path, members: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)


def on_members(change: Callable[[Random, list[tuple[str, bytes]], int], None]) -> Damage:
    """A damage of one member of an archive, which is packed anew."""

    def damage(random: Random, path: Path) -> None:
        members = _members(path)
        change(random, members, random.randrange(len(members)))
        _pack(path, members)

    return damage


def member_less(random: Random, members: list, place: int) -> None:
    del members[place]


def member_empty(random: Random, members: list, place: int) -> None:
    members[place] = members[place][0], b""


def member_named(random: Random, members: list, place: int) -> None:
    name, content = members[place]
    members[place] = "x" + name, content


def member_of_another(random: Random, members: list, place: int) -> None:
    members[place] = members[place][0], random.choice(members)[1]


def member_byte(random: Random, members: list, place: int) -> None:
    """A byte within a member, whose checksum is that of the new content."""
    name, content = members[place]
    if content:
        members[place] = name, bytes(random.choice((byte, head))(random, bytearray(content)))


ARCHIVE: dict[str, Damage] = {
    change.__name__.replace("_", " "): on_members(change)
    for change in (member_less, member_empty, member_named, member_of_another, member_byte)
}


def array(random: Random, path: Path) -> None:
    """The header of a .npy file, of the same length."""
    content = path.read_bytes()
    end = content.index(b"\n")
    start = content.index(b"{")
    text = bytearray(content[start:end])
    places = [place for place, each in enumerate(text) if chr(each) not in " {}"]
    text[random.choice(places)] = random.choice(b"0123456789,()'|<>uifbOUMT")
    path.write_bytes(content[:start] + bytes(text) + content[end:])


def tensors(random: Random, path: Path) -> None:
    """The header of a safetensors file, with its length."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    written = json.dumps(spoiled(random, json.loads(content[8 : 8 + length]))).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])


ARRAY: dict[str, Damage] = {"array": array}
TENSORS: dict[str, Damage] = {"tensors": tensors}

# ---- Parquet


def on_frame(change: Callable[[Random, pa.Table], pa.Table | None]) -> Damage:
    def damage(random: Random, path: Path) -> None:
        if (table := change(random, pq.read_table(path))) is not None:
            pq.write_table(table, path)

    return damage


def column_less(random: Random, table: pa.Table) -> pa.Table:
    return table.drop_columns([random.choice(table.column_names)])


def column_named(random: Random, table: pa.Table) -> pa.Table:
    place = random.randrange(table.num_columns)
    return table.rename_columns(
        [name + "x" * (place == each) for each, name in enumerate(table.column_names)]
    )


def column_twice(random: Random, table: pa.Table) -> pa.Table:
    place = random.randrange(table.num_columns)
    return table.append_column(table.column_names[place], table.column(place))


def column_of(random: Random, table: pa.Table) -> pa.Table:
    """A column of another type."""
    place, count = random.randrange(table.num_columns), table.num_rows
    values = random.choice(
        (
            pa.array(["x"] * count), pa.array([None] * count), pa.array([True] * count), pa.array([[1]] * count),
            pa.array([0] * count, pa.timestamp("s")), pa.array([b"\xff"] * count), pa.array([float("nan")] * count),
            pa.array([2**63] * count, pa.uint64()), pa.array([float("inf")] * count), pa.array([-1.0] * count),
            pa.array([{"a": 1}] * count), pa.array(["1"] * count).dictionary_encode(), pa.array([1] * count, pa.decimal128(5)),
        )
    )  # fmt: skip
    return table.set_column(place, table.column_names[place], values)


def value(random: Random, table: pa.Table) -> pa.Table | None:
    """One value of a column is missing or odd."""
    place = random.randrange(table.num_columns)
    values = table.column(place).to_pylist()
    if not values:
        return None
    values[random.randrange(len(values))] = random.choice((None, 2, -1, float("nan"), 1e300, "", "x", 0))
    try:
        changed = pa.array(values, table.column(place).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return table.set_column(place, table.column_names[place], changed)


def row_less(random: Random, table: pa.Table) -> pa.Table:
    place = random.randrange(table.num_rows)
    return pa.concat_tables([table.slice(0, place), table.slice(place + 1)])


def row_twice(random: Random, table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(random.randrange(table.num_rows), 1)])


def rows_mixed(random: Random, table: pa.Table) -> pa.Table:
    return table.take(random.sample(range(table.num_rows), table.num_rows))


def rows_none(random: Random, table: pa.Table) -> pa.Table:
    return table.slice(0, 0)


PARQUET: dict[str, Damage] = {
    change.__name__.replace("_", " "): on_frame(change)
    for change in (
        *(column_less, column_named, column_twice, column_of, value),
        *(row_less, row_twice, rows_mixed, rows_none),
    )
}


def changed(before: bytes, path: Path) -> bool:
    """Whether a file is not the regular one of this content any more."""
    return path.is_symlink() or not path.is_file() or path.read_bytes() != before


def buffered(save: Callable[[io.BytesIO], Any]) -> bytes:
    """What a writer writes."""
    opened = io.BytesIO()
    save(opened)
    return opened.getvalue()
