"""A function in a process of its own: whatever ends it, the caller goes on and has one line about it. No torch."""

import contextlib
import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from refers.errors import first_line

# What is imported once, in a process that computes nothing and of which the others are forks.
PRELOADED = ["torch", "torchvision", "transformers", "timm", "pandas", "pyarrow.parquet"]


class Failed(Exception):
    """The function raised an error, or its process died."""


class OutOfTime(Exception):
    """The function took longer than it may."""


def call(function: Callable[..., dict[str, Any]], *arguments: Any, seconds: float) -> dict[str, Any]:
    """What a function of a module returns, called in a new process that is ended after `seconds`.

    Raises:
        Failed: one line on the error or on the signal that ended the process.
        OutOfTime: the process was ended.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_answer, args=(sender, function, arguments), daemon=False)
    process.start()
    sender.close()
    try:
        if not receiver.poll(max(seconds, 0)):
            raise OutOfTime
        good, found = receiver.recv()
    except EOFError:
        process.join()
        raise Failed(_death(process.exitcode or 0)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not good:
        raise Failed(found)
    return found


def _answer(sender: Connection, function: Callable[..., dict[str, Any]], arguments: tuple) -> None:
    """Send (True, what the function returns) or (False, its error in one line)."""
    # the process below torchrun that takes the first of the GPUs which its launcher holds
    os.environ.setdefault("LOCAL_RANK", "0")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            answer = True, function(*arguments)
    except Exception as error:
        answer = False, f"{type(error).__name__}: {' '.join(first_line(error).split())}"
    sender.send(answer)


def _death(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    return f"its process ended with {signal.Signals(-code).name}"
