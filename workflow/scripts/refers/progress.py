"""Progress of a job over images: a line now and then, for a log as well as for a terminal."""

import time
from collections.abc import Callable

LINES = 20  # one for every 5 %
WIDTH = 30


def progress_bar(total: int) -> Callable[[int], None]:
    """A function of the images done so far; for every 5 % of `total` it prints share, count, rate of this run and time left."""
    said = first = 0
    began = time.monotonic()

    def progress(done: int) -> None:
        nonlocal said, first, began
        if not first:
            first, began = done, time.monotonic()
        if done * LINES // total > said:
            said = done * LINES // total
            seconds = time.monotonic() - began
            rate = (done - first) / seconds if seconds > 1 else 0  # too short a time says nothing
            bar = "#" * (done * WIDTH // total)
            left = f", {rate:.0f} a second, {(total - done) / rate:.0f} s left" if rate else ""
            print(f"[{bar:.<{WIDTH}}] {100 * done // total} %, {done} of {total} images{left}", flush=True)

    return progress
