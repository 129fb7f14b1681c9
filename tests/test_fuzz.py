"""Some damaged inputs of every reader (`make fuzz` tries thousands), and that the fuzzer sees what a bad reader does."""

import gzip
import os
from random import Random

import fuzz
import pytest
from fuzz import EQUAL, FAULTS, HANG, MEMORY, REFUSED, SILENT, TOLD, TRACEBACK, VALID, Fuzzer, Reader, Told
from fuzz.damage import WHOLE, instead, on_text
from fuzz.readers import READERS
from refers.errors import UserError

INPUTS = 6


def test_every_reader_has_a_name_of_its_own():
    assert READERS
    assert len({reader.name for reader in READERS}) == len(READERS)
    kinds = {kind for reader in READERS for kind in reader.damages}
    assert all({*reader.values, *reader.contents} <= kinds for reader in READERS)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_damaged_file_is_read_as_it_was_or_refused(tmp_path, reader):
    fuzzer = Fuzzer(reader, tmp_path, seed=0)
    outcomes = [fuzzer.attempt(number) for number in range(INPUTS)]
    assert not [outcome for outcome in outcomes if outcome.kind in FAULTS]


def test_an_input_is_known_by_seed_reader_and_number(tmp_path):
    reader = next(reader for reader in READERS if reader.name == "a report")
    first, second = (Fuzzer(reader, tmp_path / name, seed=3) for name in ("first", "second"))
    written = []
    for fuzzer in (first, second):
        for number in range(8):
            path, kind = fuzzer.write(number)
            written.append((kind, path.read_bytes() if path.is_file() else None))
    assert written[:8] == written[8:]
    assert len(set(written)) > 4


# ---- the judgement, on a reader of one number whose file becomes "2"


def number_of(tmp_path, read, damage=instead(b"2"), **allowed):  # noqa: B008
    def make(folder):
        (folder / "a.txt").write_text("1")
        return folder / "a.txt"

    def other(path):
        text = path.read_text()
        return 1 if text == "1" else read(text)

    return Fuzzer(Reader("number", make, other, {"two": damage}, **allowed), tmp_path, seed=0).attempt(0).kind


def fails(error):
    def read(text):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "allowed", "kind"),
    [
        (lambda text: 1, {}, EQUAL),
        (lambda text: 2, {}, SILENT),
        (lambda text: 2, {"values": ["two"]}, VALID),
        (lambda text: [2], {"values": ["two"]}, SILENT),
        (lambda text: [2], {"contents": ["two"]}, VALID),
        (lambda text: Told(2, "one row less"), {}, TOLD),
        (fails(UserError("a.txt: damaged; download it again")), {}, REFUSED),
        (fails(UserError("two\nlines")), {}, TRACEBACK),
        (fails(UserError("a.txt: load it with allow_pickle=True")), {}, TRACEBACK),
        (fails(KeyError("x")), {}, TRACEBACK),
        (fails(SystemExit(1)), {}, TRACEBACK),
        (fails(MemoryError()), {}, MEMORY),
    ],
)
def test_what_a_reader_makes_of_damage_is_judged(tmp_path, read, allowed, kind):
    assert number_of(tmp_path, read, **allowed) == kind


def test_memory_beyond_the_limit_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MEBIBYTES", 64)
    assert number_of(tmp_path, lambda text: len(b"x" * 2**28) and 1) == MEMORY


def test_a_reader_that_waits_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    ends, waits = os.pipe()
    assert number_of(tmp_path, lambda text: os.read(ends, 1)) == HANG
    os.close(ends)
    os.close(waits)


def test_a_reader_that_waits_for_a_pipe_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "PIPE_SECONDS", 0.2)
    assert number_of(tmp_path, lambda text: 1, damage=WHOLE["pipe"]) == HANG


def test_a_text_stays_packed_where_it_was(tmp_path):

    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    on_text(lambda random, text: text.replace("1", "3"))(Random(0), path)
    assert gzip.decompress(path.read_bytes()) == b"a,b\n3,2\n"
