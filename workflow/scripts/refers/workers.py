"""Worker processes that end with their parent, and the progress lines of the jobs that use them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from refers.errors import UserError

LINES, WIDTH = 20, 30  # one line per 5 %; characters of the bar


@contextmanager
def process_pool(workers: int) -> Generator[ProcessPoolExecutor]:
    """A pool of processes; on an error, tasks that have not started are cancelled.

    Raises:
        UserError: a worker was killed from outside, usually for memory.
    """
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError("a worker was killed, probably for memory; use fewer workers and run again") from None
    finally:
        # after an error nobody wants to wait for a hundred thousand queued images
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    # The workers of a killed run are told nothing: they would wait for tasks for ever.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def progress_bar(total: int) -> Callable[[int], None]:
    """A function of the number of images done; for every 5 % of `total` it prints share, count, rate and time left."""
    printed = first = 0
    began = time.monotonic()

    def progress(done: int) -> None:
        nonlocal printed, first, began
        # images that an earlier, interrupted run did must not count in this run's rate
        if not first:
            first, began = done, time.monotonic()
        if done * LINES // total > printed:
            printed = done * LINES // total
            seconds = time.monotonic() - began
            # no rate from less than a second
            rate = (done - first) / seconds if seconds > 1 else 0
            bar = "#" * (done * WIDTH // total)
            left = f", {rate:.0f} per second, {(total - done) / rate:.0f} s left" if rate else ""
            print(f"[{bar:.<{WIDTH}}] {100 * done // total} %, {done} of {total} images{left}", flush=True)

    return progress
