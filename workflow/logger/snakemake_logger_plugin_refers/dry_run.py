"""A dry run as one table: how many jobs of each rule, and why."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

REASONS = {  # Snakemake's words -> ours; the first that a job has is why it runs
    "Code has changed": "code changed",
    "Params have changed": "settings changed",
    "Set of input files has changed": "other input files",
    "Updated input files": "input changed",
    "Missing output files": "not made yet",
    "Incomplete output": "incomplete",
    "Forced": "forced",
    "Input files updated by another job": "after another job",
}
SHOWN = 60  # characters of the changed settings
CHANGED = re.compile(r"Params have changed since last execution: .*?before: (.*) now: (.*)", re.DOTALL)
MODULE = re.compile(r"'([\w.]+)': '([0-9a-f]{12})'")  # a module of the code behind a rule, and its digest


@dataclass
class DryRun:
    """Counts of a dry run's jobs and their reasons."""

    counts: dict[str, int] = field(default_factory=dict)
    reasons: defaultdict = field(default_factory=lambda: defaultdict(Counter))

    def add(self, rule: str, reason: str) -> None:
        """A job that would run, with Snakemake's reason."""
        found = next((short for text, short in REASONS.items() if text in reason), "")
        if found == "settings changed":
            found = changed_settings(reason)
        self.reasons[rule][found or reason.partition(":")[0].lower()[:SHOWN]] += 1

    def table(self) -> str:
        """One line per rule, and the total."""
        counts = self.counts | {"total": sum(self.counts.values())}
        width = max(map(len, counts))
        lines = [f"{rule:{width}}  {count:6}{self.why(rule)}" for rule, count in counts.items()]
        return "\n".join([f"{'job':{width}}   count", *lines])

    def why(self, rule: str) -> str:
        found = self.reasons[rule].most_common()
        if len(found) == 1:
            return f"  {found[0][0]}"
        return "".join(
            f"{', ' if place else '  '}{count} {text}" for place, (text, count) in enumerate(found)
        )


def changed_settings(reason: str) -> str:
    """What differs between the parameters of a reason: settings in JSON, or modules of the code."""
    found = CHANGED.search(reason)
    before, now = found.groups() if found else ("", "")
    old, new = dict(settings_in(before)), dict(settings_in(now))
    settings = [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    modules = sorted({name for name, _ in {*MODULE.findall(before)} ^ {*MODULE.findall(now)}})
    kind, names = ("settings", settings) if settings or not modules else ("code", modules)
    text = ", ".join(names)
    return f"{kind} changed" + (
        f": {text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}" if text else ""
    )


def settings_in(text: str) -> Iterator[tuple[str, object]]:
    """Dotted names and values of the JSON objects in a text; one that has an id is named by it, wherever it stands."""
    place = text.find("{")
    while place >= 0:
        try:
            content, end = json.JSONDecoder().raw_decode(text, place)
            yield from flat(content, f"{content['id']}." if "id" in content else "")
        except ValueError:
            end = place + 1
        place = text.find("{", end)


def flat(content: dict, above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        entries = value if isinstance(value, list) else []
        if entries and all(isinstance(each, dict) and "id" in each for each in entries):
            value = {str(each["id"]): each for each in entries}
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name, value
