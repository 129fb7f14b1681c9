"""A user's mistake is one line on the terminal and exit code 1, never a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input or configuration. The message is one line: file, row, what is wrong, what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; turn a `UserError` into one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
