"""Every reader of the project, each with the files that it reads."""

from fuzz import models, results, sources

READERS = (*sources.READERS, *models.READERS, *results.READERS)
