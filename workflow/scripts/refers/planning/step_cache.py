"""Costs of training steps that an earlier calibration counted, one file per kind of step."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from refers.files import write_json
from refers.provenance.code_digests import code_of
from refers.provenance.run_record import digest


class StepCache:
    """A folder of costs; one is taken from it if the same code counted it with the same torch.

    Speeds are not kept: that of a machine depends on what else runs on it. A file that cannot be read, or is not what was
    written, counts as none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str, count: Callable[[], dict[str, Any]], *objectives: str) -> dict[str, Any]:
        """The cost of the kind of step `key`, from the folder or counted by `count` with the code of `objectives`."""
        path = self.folder / f"{key}.json"
        counted_by = digest([torch.__version__, code_of("calibrate", methods=objectives)])
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["counted_by"] == counted_by and kept["digest"] == digest(kept["cost"]):
                return kept["cost"]
        cost = count()
        write_json(path, {"counted_by": counted_by, "digest": digest(cost), "cost": cost})
        return cost
