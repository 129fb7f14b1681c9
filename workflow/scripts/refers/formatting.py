"""Numbers for people."""

_UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}


def size(count: float) -> str:
    """A number of bytes in the largest unit that it fills."""
    for unit, factor in _UNITS.items():
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
