"""Damage inputs of every reader for some time, and print how many were equal, refused, told, valid or faulty.

Every reader gets the same number of inputs, one after the other. A fault is printed with the reader and number that
`--only` repeats. Exit code 1 where there is a fault.
"""

import argparse
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from transformers.utils import logging

from fuzz import FAULTS, OUTCOMES, Fuzzer
from fuzz.readers import READERS

GIBIBYTES = 12


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default="", help="only readers whose name has this regular expression")
    parser.add_argument("--only", type=int, help="only the input of this number")
    return parser.parse_args()


def table(counts: dict[str, Counter]) -> str:
    """Inputs and outcomes by reader, as Markdown."""
    rows = [(name, sum(each.values()), *(each[kind] for kind in OUTCOMES)) for name, each in counts.items()]
    rows.append(("**all**", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    head = ("Reader", "inputs", *OUTCOMES)
    lines = [head, (":--", *["--:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    # A file that claims to be large is one fault here, and not the end of this machine's memory.
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES * 2**30, resource.RLIM_INFINITY))
    readers = [reader for reader in READERS if re.search(args.readers, reader.name)]
    if not readers:
        print(f"no reader has {args.readers!r} in its name", file=sys.stderr)
        return 1
    counts: dict[str, Counter] = {reader.name: Counter() for reader in readers}
    with tempfile.TemporaryDirectory() as folder:
        fuzzers = [
            Fuzzer(reader, Path(folder) / str(place), args.seed) for place, reader in enumerate(readers)
        ]
        start, number = time.monotonic(), args.only or 0
        while time.monotonic() - start < args.seconds:
            for fuzzer in fuzzers:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    outcome = fuzzer.attempt(number)
                counts[fuzzer.reader.name][outcome.kind] += 1
                if outcome.kind in FAULTS or args.only is not None:
                    name = fuzzer.reader.name
                    print(f"{name} {number}: {outcome.kind} ({outcome.damage}): {outcome.what}", flush=True)
            number += 1
            if args.only is not None:
                break
        seconds = time.monotonic() - start
    print(f"\n`make fuzz SEED={args.seed}`, {seconds:.0f} seconds on one core:\n\n{table(counts)}")
    return int(any(each[kind] for each in counts.values() for kind in FAULTS))


if __name__ == "__main__":
    raise SystemExit(main())
