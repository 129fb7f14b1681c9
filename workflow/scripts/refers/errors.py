"""Errors that a user can correct: one line on the terminal and exit code 1, never a traceback."""

import difflib
import re
import signal
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input or configuration. The message is one line: place (file, row, key), what is wrong, what to do."""

    code = 1


class Diverged(UserError):
    """The loss or a weight of a training became NaN or Inf at step `step`."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Preempted(UserError):
    """A signal asked the job to end before its work was done. What was done is saved."""

    def __init__(self, message: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(message)
        # as a shell reports a process that the signal ended
        self.code = 128 + number


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Text to put behind an unknown name: the nearest known one; empty where none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


# What libraries advise where a file would have to be trusted.
ADVICE_TO_TRUST = re.compile(
    "allow_pickle|weights_only|weights only|trust_remote_code|safe_globals|pickled|pickle\\.", re.IGNORECASE
)


def first_line(error: Exception) -> str:
    """The first line of an error's message; where that is empty or advises to trust a file, what it means.

    A user who follows such advice lets the file run any program.
    """
    lines = str(error).strip().splitlines()
    if ADVICE_TO_TRUST.search(str(error)):
        return "damaged, or more than numbers in it"
    return lines[0] if lines else type(error).__name__


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError` into one line on stderr and its exit code, 1 as a rule.

    Ctrl-C ends a script at once and without a traceback, as SIGTERM does; where it is ignored, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.code) from None
