"""Worker processes that do not outlive their parent, and whose death is one line."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from refers.errors import UserError


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; on an error, jobs that have not begun are dropped.

    Raises:
        UserError: a worker was killed from outside, for memory as a rule.
    """
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError("a worker was killed, probably for memory; use fewer workers and run again") from None
    finally:
        pool.shutdown(cancel_futures=True)  # an error must not wait for a hundred thousand images


def _end_with_parent() -> None:
    # Nobody tells the workers of a killed run: they would wait for work for ever.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
