"""A logger of Snakemake for people who wait: a line per job with the time left, and one line per error.

Snakemake imports every installed logger plugin before it reads its command line, which is why the command line is put in order
here. The profiles choose the logger where it is installed; without it Snakemake prints as it always does.
"""

import sys
from pathlib import Path

from snakemake_logger_plugin_refers.command_line import targets_first
from snakemake_logger_plugin_refers.handler import LogHandler

__all__ = ["LogHandler"]

if "snakemake" in (Path(sys.argv[0]).name, Path(sys.argv[0]).parent.name):
    sys.argv[1:] = targets_first(sys.argv[1:])
