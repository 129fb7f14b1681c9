"""A user's mistake is one line on the terminal and exit code 1, never a traceback."""

import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input or configuration. The message is one line: file, row, what is wrong, what to do."""

    code = 1


class Preempted(UserError):
    """The job was asked to end before its work was done. What it had is saved."""

    code = 143  # what a shell reports of a process that SIGTERM ended


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a wrong one, as " (did you mean 'x'?)"; empty where none is near."""
    from difflib import get_close_matches

    nearest = get_close_matches(name, list(known), 1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError` into one line on stderr and its exit code, 1 as a rule."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.code) from None
