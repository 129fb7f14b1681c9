"""Provenance of a table cell: every file, digest, seed and setting behind it, compared with the files there are now. No torch.

A cell names its predictions by digest, their run.json the encoder, split, subset and store, the encoder's run.json the
inputs of pre-training or the imported checkpoint. Only names, digests, counts and settings are reported, never contents.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refers import config
from refers.errors import UserError
from refers.files import file_digest, read_json, read_object
from refers.formatting import markdown_table, size
from refers.provenance.run_record import digest, library_digest, problem_of
from refers.study import paths
from refers.study.availability import trained_settings
from refers.study.bert_files import files_read
from refers.study.study import Study

Run = tuple[int, int]  # split and seed of a fine-tune
HASHED = 2e9  # bytes of the largest file that is hashed without --full
UNCHANGED, CHANGED, ABSENT, UNKNOWN, LARGE = (
    "unchanged",
    "CHANGED SINCE",
    "not found",
    "not recorded",
    "not hashed",
)
SHORT = 12  # characters of a digest that are shown
# names of a run's inputs, as run.json has them
PRETRAIN_INPUTS = {
    "index": paths.INDEX,
    "manifest": paths.MANIFEST,
    "tokens": paths.TOKENS,
    "words": paths.WORDS,
    "pilot": paths.PILOT,
}
POOL_INPUTS = PRETRAIN_INPUTS | {"index": paths.POOL_INDEX, "manifest": paths.POOL_MANIFEST}
FINETUNE_INPUTS = {
    "encoder": paths.ENCODER,
    "split": paths.SPLIT,
    "subset": paths.SUBSET,
    "manifest": paths.MANIFEST,
}


@dataclass(frozen=True)
class DigestCheck:
    """A file against its record: digests are SHA-256, None where none was recorded or the file is not found."""

    what: str
    path: str
    recorded: str | None
    found: str | None
    verdict: str


@dataclass
class ProvenanceCheck:
    """Compares the files behind a cell with their records; every file is hashed once."""

    study: Study
    full: bool
    digests: list[DigestCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _hashed: dict[Path, str] = field(default_factory=dict)

    def compare(self, what: str, path: Path, recorded: str | None) -> None:
        """Compare the file at `path` with a recorded digest."""
        found = None
        if not path.is_file():
            verdict = ABSENT
        elif path.stat().st_size > HASHED and not self.full:
            verdict = f"{LARGE} ({size(path.stat().st_size)})"
        else:
            if path not in self._hashed:
                self._hashed[path] = file_digest(path)
            found = self._hashed[path]
            verdict = UNKNOWN if recorded is None else UNCHANGED if found == recorded else CHANGED
        line = DigestCheck(what, str(path), recorded, found, verdict)
        if line not in self.digests:
            self.digests.append(line)

    def record(self, path: Path) -> dict[str, Any]:
        """The run.json at `path`; empty where there is none or not a valid one, with a note."""
        if not path.is_file():
            self.notes.append(f"{path} not found")
            return {}
        try:
            found = read_json(path)
        except UserError as error:
            self.notes.append(str(error))
            return {}
        if problem := problem_of(found):
            self.notes.append(f"{path} is not a valid record ({problem})")
            return {}
        if found["settings_sha256"] != digest(found["settings"]):
            self.notes.append(f"{path}: its settings do not match their digest; it was edited")
        libraries = dict.fromkeys(part["library_sha256"][:SHORT] for part in found["history"])
        if len(libraries) > 1:
            self.notes.append(f"{path}: the library changed during the run ({', then '.join(libraries)})")
        return found

    def cell(self, method: str, dataset: str, ratio: int) -> dict[Run, dict]:
        """Check auc.json, the predictions and the inputs of the fine-tunes; returns the fine-tunes' records by run."""
        names = {"method": method, "dataset": dataset, "ratio": ratio}
        runs, cell = self.study.runs(dataset), self.study.resolve(paths.CELL, **names)
        self.compare("cell", cell, None)
        content = read_object(cell, "cell") if cell.is_file() else {}
        found = list(zip(content.get("splits", []), content.get("seeds", []), strict=False))
        recorded = dict(zip(found, content.get("predictions_sha256", []), strict=False))
        if content and found != runs:
            self.notes.append(
                f"{cell} is of {', '.join(map(_run_name, found)) or 'unknown runs'};"
                f" the config has {', '.join(map(_run_name, runs))}"
            )
        source = self.study.dataset(dataset).source
        settings = config.to_dict(self.study.finetune_settings(**names))
        records = {}
        for run in runs:
            split, seed = run
            where = names | {"split": split, "seed": seed, "source": source}
            made = where | {"method": self.study.encoder_owner(method)}
            records[run] = record = self.record(self.study.resolve(paths.RUN_RECORD, **where))
            path = self.study.resolve(paths.PREDICTIONS, **where)
            self.compare(f"predictions that the cell read, {_run_name(run)}", path, recorded.get(run))
            if not record:
                continue
            self.compare(
                f"predictions of {_run_name(run)} as written", path, record["outputs"]["predictions"]
            )
            stated = record.get("cell", {}) | {"seed": record["seed"]}
            for name, value in (names | {"split": split, "seed": seed}).items():
                if stated.get(name, value) != value:
                    self.notes.append(f"{path}: its record is of {name} {stated[name]}, not {value}")
            for name, pattern in (("metrics", paths.RUN_METRICS), ("classifier", paths.CLASSIFIER)):
                if name in record["outputs"]:
                    made_by = f"{name} of {_run_name(run)} as written"
                    self.compare(made_by, self.study.resolve(pattern, **where), record["outputs"][name])
            for name, pattern in FINETUNE_INPUTS.items():
                what = f"{name} of the fine-tunes"
                self.compare(what, self.study.resolve(pattern, **made), record["inputs"].get(name))
            wanted = settings | {"training": settings["training"] | {"seed": seed}}
            if digest(wanted) != record["settings_sha256"]:
                self.notes.append(f"the config's settings are no longer those of {_run_name(run)}")
        for split in self.study.splits(dataset):
            check = self.study.resolve(paths.CHECK, dataset=dataset, split=split)
            self.compare(f"check of split {split}", check, None)
        self._images(source)
        return records

    def encoders(self, method: str) -> dict[str, dict]:
        """Check a method's encoder and the one that it started from; returns their records by method."""
        method = self.study.encoder_owner(method)
        record = self.record(self.study.resolve(paths.ENCODER_RECORD, method=method))
        found, study = {method: record}, self.study
        if not record:
            return found
        encoder = study.resolve(paths.ENCODER, method=method)
        self.compare(f"encoder of {method} as written", encoder, record["outputs"]["encoder"])
        if "metrics" in record["outputs"]:
            curve = study.resolve(paths.ENCODER_METRICS, method=method)
            self.compare(f"metrics of {method} as written", curve, record["outputs"]["metrics"])
        if record["script"] == "import_encoder.py":
            generated = study.resolve(paths.RANDOM_VIT) if study.has_random_checkpoint(method) else None
            if path := study.checkpoint_file(method) or generated:
                self.compare(f"checkpoint of {method}", path, record["inputs"]["checkpoint"])
            if digest(config.to_dict(study.model_settings(method))) != record["settings_sha256"]:
                self.notes.append(f"{method}: the config's architecture is not that of its encoder")
            return found
        patterns = PRETRAIN_INPUTS if study.reads_mimic(method) else POOL_INPUTS
        inputs = {
            name: study.resolve(pattern, source="mimic", method=method, pool=study.pool(method))
            for name, pattern in patterns.items()
        }
        text_encoder = study.resolve(study.text_encoder_folder)
        inputs["text_encoder"] = text_encoder / files_read(text_encoder)[1]
        inputs["init"] = study.resolve(paths.ENCODER, method=study.encoder_owner("imagenet"))
        for name, recorded in record["inputs"].items():
            if name in inputs:
                what = f"{name.replace('_', ' ')} of the pre-training of {method}"
                self.compare(what, inputs[name], recorded)
        for source in study.pretrain_settings(method).sources:
            self._images(source)
        if digest(config.to_dict(trained_settings(study, method))) != record["settings_sha256"]:
            self.notes.append(f"the config's settings are no longer those of the pre-training of {method}")
        return found | (self.encoders("imagenet") if "init" in record["inputs"] else {})

    def _images(self, source: str) -> None:
        """Check an image store and its index against the store's manifest."""
        path = self.study.resolve(paths.MANIFEST, source=source)
        manifest = read_object(path, "manifest") if path.is_file() else {}
        for what, pattern, key in (
            ("images", paths.IMAGES, "sha256"),
            ("index", paths.INDEX, "index_sha256"),
        ):
            self.compare(f"{what} of {source}", self.study.resolve(pattern, source=source), manifest.get(key))


def explain(study: Study, method: str, dataset: str, ratio: int, command: str, full: bool = False) -> str:
    """The provenance of a cell as Markdown.

    Args:
        study: the study that the cell is part of.
        command: how to make a target again; TARGET stands for it.
        full: hash files of any size.

    Raises:
        UserError: the study has no such cell.
    """
    cell, check = study.cell(method, dataset, ratio), ProvenanceCheck(study, full)
    target = str(study.resolve(paths.CELL, method=method, **cell._asdict()))
    runs, encoders = check.cell(method, *cell), check.encoders(method)
    rules = [
        "import_encoder" if study.is_imported(method) else "pretrain",
        "finetune_kept" if study.saves_classifier(method, *cell) else "finetune",
    ]
    found = {f"encoder of {name}": record for name, record in encoders.items() if record}
    found |= {_run_name(run): record for run, record in runs.items() if record}
    files = [
        [line.what, line.path, (line.recorded or "")[:SHORT], (line.found or "")[:SHORT], line.verdict]
        for line in check.digests
    ]
    parts = [
        f"# {target}",
        _verdict(check, list(found.values())),
        "## Files\n\n" + markdown_table(["what", "file", "recorded", "now", ""], files),
        "## Fine-tunes\n\n" + _finetunes(runs),
        "## Random seeds\n\n" + _random_seeds(study, dataset, encoders),
        "## Runs\n\n" + _runs(found),
        *(_settings(f"Settings of {name}", record) for name, record in encoders.items() if record),
        *(
            _settings("Settings of the first fine-tune", record)
            for record in list(filter(None, runs.values()))[:1]
        ),
        "## Commands\n\n" + _commands(command.replace("TARGET", shlex.quote(target)), rules, runs, encoders),
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(check: ProvenanceCheck, records: list[dict]) -> str:
    """The summary: how many digests match, and what does not."""
    now = library_digest()
    lines = [
        f"- {line.path}: {line.verdict} ({line.what})"
        for line in check.digests
        if line.verdict in (CHANGED, ABSENT)
    ]
    lines += [f"- {note}" for note in dict.fromkeys(check.notes)]
    if any(part["library_sha256"] != now for record in records for part in record["history"]):
        lines.append(
            f"- the library changed since ({now[:SHORT]} now); `snakemake -n` says which jobs that reruns"
        )
    matching = sum(line.verdict == UNCHANGED for line in check.digests)
    large = sum(line.recorded is not None and line.verdict.startswith(LARGE) for line in check.digests)
    text = f"{matching} digests are as recorded" + (
        f", {large} files were too large to hash without `--full`" if large else ""
    )
    return f"{text}. " + ("What differs:\n\n" + "\n".join(lines) if lines else "Nothing differs.")


def _run_name(run: Run) -> str:
    return "split {}, seed {}".format(*run)


def _finetunes(records: dict[Run, dict]) -> str:
    rows = []
    for (split, seed), record in records.items():
        if record:
            images = ", ".join(f"{count:,} {name}" for name, count in record["images"].items())
            score = "" if record["best_score"] is None else f"{record['best_score']:.4f}"
            settings = record["settings_sha256"][:SHORT]
            rows.append([str(split), str(record["seed"]), settings, images, str(record["best_step"]), score])
        else:
            rows.append([str(split), str(seed), ABSENT, "", "", ""])
    return markdown_table(["split", "seed", "settings", "images", "best step", "validation score"], rows)


def _random_seeds(study: Study, dataset: str, encoders: dict[str, dict]) -> str:
    """Seeds of everything random but the fine-tunes."""
    bootstrap, subset = study.config.study.bootstrap, study.config.subset
    rows = []
    for split in study.splits(dataset):
        settings = study.split_settings(dataset, split)
        rows.append([f"split {split}, {settings.kind}", str(settings.seed), "config"])
        what = f"label subset{'s, one per seed,' if subset.per_seed else ''} of split {split}"
        rows.append([what, str(subset.seed + split), "config"])
    for name, record in encoders.items():
        if record:
            rows.append([f"encoder of {name}", str(record["seed"]), "run.json"])
            if record["settings"].get("words", {}).get("count"):
                rows.append([f"visual words of {name}", str(record["settings"]["words"]["seed"]), "run.json"])
    rows.append([f"bootstrap, {bootstrap.resamples} resamples", str(bootstrap.seed), "config"])
    return markdown_table(["what", "seed", "source"], rows)


def _runs(records: dict[str, dict]) -> str:
    """Code, machine, time and memory of each run; of one that several processes worked on also those of each."""
    rows = []
    for name, record in records.items():
        versions = ", ".join(f"{key} {record['versions'][key]}" for key in ("python", "torch", "numpy"))
        whole, seed = record | {"seconds": record["wall_seconds"]}, str(record["seed"])
        rows.append(_run(name, record["finished"], whole, seed, versions))
        for number, part in enumerate(record["history"], 1) if len(record["history"]) > 1 else ():
            rows.append(_run(f"its process {number}, {part['steps']:,} steps", "", part, "", ""))
    heads = ["what", "finished", "time", "memory", "device", "seed", "commit", "library", "versions"]
    return markdown_table(heads, rows)


def _run(what: str, finished: str, facts: dict, seed: str, versions: str) -> list[str]:
    commit = facts["commit"] or "no git"
    return [
        what,
        finished,
        f"{facts['seconds']:,.0f} s",
        f"{facts['peak_memory_mib']:,} MiB",
        facts["device"],
        seed,
        commit[:SHORT] + ("+changes" if "+" in commit else ""),
        facts["library_sha256"][:SHORT],
        versions,
    ]


def _settings(title: str, record: dict) -> str:
    return f"## {title}\n\nSHA-256 {record['settings_sha256']}\n\n```json\n{json.dumps(record['settings'], indent=1)}\n```"


def _set_threads(records: Mapping[str, Iterable[dict]]) -> str:
    """Snakemake's option for as many threads as the records of a rule have, on which the last bits depend on a CPU.

    Without a rule whose records have none, or several numbers of them.
    """
    found = {rule: {record.get("threads") for record in each if record} for rule, each in records.items()}
    known = [
        f"{rule}={next(iter(each))}" for rule, each in found.items() if len(each) == 1 and None not in each
    ]
    return " ".join(["", "--set-threads", *known]) if known else ""


def _commands(make: str, rules: list[str], runs: dict[Run, dict], encoders: dict[str, dict]) -> str:
    """How to make the cell again with Snakemake, and the commands of its jobs as they were run."""
    records = {rules[0]: encoders.values(), rules[1]: runs.values()}
    lines = [
        f"{make}    # what is missing or out of date",
        f"{make} -R {rules[1]}{_set_threads({rules[1]: runs.values()})}    # its fine-tunes again",
        f"{make} -R {rules[0]}{_set_threads(records)}    # its encoder again, and then its fine-tunes",
    ]
    parts = ["```sh\n" + "\n".join(lines) + "\n```"]
    recorded = [record["command"] for record in encoders.values() if record]
    recorded += [record["command"] for record in list(filter(None, runs.values()))[:1]]
    if recorded:
        text = "\n".join(shlex.join(["python", *argv]) for argv in recorded)
        parts.append(
            f"The commands of its jobs, encoder first; one command trains every seed of a split, here of the first:\n\n```sh\n{text}\n```"
        )
    return "\n\n".join(parts)
