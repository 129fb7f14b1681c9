"""Every reader of the project."""

from fuzz import sources

READERS = (*sources.READERS,)
