"""Errors that a user can correct: one line on the terminal and exit code 1, never a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input or configuration. The message is one line: place (file, row, key), what is wrong, what to do."""

    code = 1


class Preempted(UserError):
    """The job was asked to stop before it was finished; its state is saved."""

    # What a shell reports for a process that SIGTERM ended.
    code = 143


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class name where the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError` into one line on stderr and its exit code, usually 1."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.code) from None
