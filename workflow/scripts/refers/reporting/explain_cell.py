"""Where a table cell comes from: every file, digest, seed and setting behind it, held against what lies there now. No torch.

A cell names its predictions by digest, their run.json the encoder, split, subset and store, the encoder's run.json what
pre-training read or which checkpoint was imported. Only names, digests, counts and settings are told, never contents.
"""

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refers.data.preflight import size
from refers.errors import UserError
from refers.files import file_digest, read_json
from refers.planning.jobs import Job, Planned, jobs_of
from refers.provenance.run_record import digest, library_digest, problem_of

HASHED = 2e9  # bytes of a file that are hashed unasked
UNCHANGED, CHANGED, ABSENT, UNKNOWN, LARGE = (
    "unchanged",
    "CHANGED SINCE",
    "not here",
    "not recorded",
    "not hashed",
)
SHORT = 12


@dataclass(frozen=True)
class Evidence:
    """A file against its record: digests are SHA-256, None where nothing recorded one or nothing is there."""

    what: str
    path: str
    recorded: str | None
    found: str | None
    verdict: str


@dataclass
class Trail:
    """Collects the evidence of a cell; every file is hashed once."""

    full: bool
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _digests: dict[Path, str] = field(default_factory=dict)

    def add(self, what: str, path: Path, recorded: str | None) -> None:
        """Hold the file at `path` against a recorded digest."""
        found = None
        if not path.is_file():
            verdict = ABSENT
        elif path.stat().st_size > HASHED and not self.full:
            verdict = f"{LARGE} ({size(path.stat().st_size)})"
        else:
            if path not in self._digests:
                self._digests[path] = file_digest(path)
            found = self._digests[path]
            verdict = UNKNOWN if recorded is None else UNCHANGED if found == recorded else CHANGED
        line = Evidence(what, str(path), recorded, found, verdict)
        if line not in self.evidence:
            self.evidence.append(line)

    def record(self, path: Path) -> dict[str, Any]:
        """The run.json at `path`; empty where it is not there or not one, with a note."""
        if not path.is_file():
            self.notes.append(f"{path} is not here")
            return {}
        try:
            found = read_json(path)
        except UserError as error:
            self.notes.append(str(error))
            return {}
        if problem := problem_of(found):
            self.notes.append(f"{path} is no whole record ({problem})")
            return {}
        if found["settings_sha256"] != digest(found["settings"]):
            self.notes.append(f"{path}: its settings are not those of its digest; it was edited")
        libraries = dict.fromkeys(part["library_sha256"][:SHORT] for part in found["history"])
        if len(libraries) > 1:
            self.notes.append(f"{path}: the library changed while it was made ({', then '.join(libraries)})")
        return found


def explain(values: dict, method: str, dataset: str, ratio: int, command: str, full: bool = False) -> str:
    """The account of a cell as Markdown.

    Args:
        values: the study's config.
        command: how a target is remade; TARGET stands for it.
        full: hash files of any size.

    Raises:
        UserError: the study has no such cell.
    """
    study, trail = Planned(values), Trail(full)
    study.require(method, dataset, ratio)
    jobs = jobs_of(values, [method], [f"{dataset}/{ratio}"])
    cell = Path(next(target for target, job in jobs.items() if job.rule == "cell"))
    runs = Path(next(target for target, job in jobs.items() if job.rule == "finetune")).parents[1]
    rules = [
        "import_encoder" if "checkpoint" in study.method(method) else "pretrain",
        "finetune_kept" if study.keeps(method, dataset, ratio) else "finetune",
    ]
    records = {seed: trail.record(runs / f"seed{seed}/run.json") for seed in study.seeds}
    _cell(trail, study, cell, runs, records)
    _tuning(trail, study, method, dataset, ratio, records)
    encoders = _encoders(trail, study, method, jobs, {})
    found = [record for record in [*records.values(), *encoders.values()] if record]
    parts = [
        f"# {cell}",
        _verdict(trail, found),
        "## Files\n\n"
        + _table(
            ["what", "file", "recorded", "now", ""],
            [
                [line.what, line.path, _short(line.recorded), _short(line.found), line.verdict]
                for line in trail.evidence
            ],
        ),
        "## Seeds\n\n" + _seeds(records),
        "## Draws\n\n" + _draws(study, dataset, encoders),
        "## Made with\n\n" + _makers(records, encoders),
        *(_settings(f"Settings of {name}", record) for name, record in encoders.items() if record),
        *(
            [_settings("Settings of the fine-tune, of the first seed", next(filter(None, records.values())))]
            if any(records.values())
            else []
        ),
        "## Remake\n\n" + _commands(command, str(cell), rules, records, encoders),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ---- the walk


def _cell(trail: Trail, study: Planned, cell: Path, runs: Path, records: dict[int, dict]) -> None:
    """auc.json, and the predictions that it and their runs name."""
    trail.add("cell", cell, None)
    recorded: dict[int, str] = {}
    if cell.is_file():
        content = read_json(cell)
        recorded = dict(zip(content.get("seeds", []), content.get("predictions_sha256", []), strict=False))
        if content.get("seeds") != study.seeds:
            trail.notes.append(f"{cell} is of seeds {content.get('seeds')}, the config has {study.seeds}")
    for seed in study.seeds:
        path = runs / f"seed{seed}/predictions.parquet"
        trail.add(f"predictions that the cell read, seed {seed}", path, recorded.get(seed))
        if records[seed]:
            trail.add(f"predictions of seed {seed} as written", path, records[seed]["outputs"]["predictions"])


def _tuning(
    trail: Trail, study: Planned, method: str, dataset: str, ratio: int, records: dict[int, dict]
) -> None:
    """What the fine-tunes read, and what lies behind that."""
    interim = Path(study.place("interim")) / dataset
    source = study.dataset(dataset)["source"]
    paths = {
        "encoder": Path(study.place("results")) / f"encoders/{method}/encoder.safetensors",
        "split": interim / "split.parquet",
        "subset": interim / f"subset_{ratio}pct.csv",
        "manifest": Path(study.place("store")) / source / "images.json",
    }
    settings = study.finetune_settings(method, dataset, ratio)
    for seed, record in records.items():
        if not record:
            continue
        for name, path in paths.items():
            trail.add(f"{name} of the fine-tunes", path, record["inputs"].get(name))
        wanted = settings | {"training": settings["training"] | {"seed": seed}}
        if digest(wanted) != record["settings_sha256"]:
            trail.notes.append(f"the config's settings are no longer those of seed {seed}")
    trail.add("check of the split", interim / "check.json", None)
    _store(trail, study, source)


def _store(trail: Trail, study: Planned, source: str) -> None:
    """A store and its index, by the manifest."""
    folder = Path(study.place("store")) / source
    manifest = read_json(folder / "images.json") if (folder / "images.json").is_file() else {}
    trail.add(f"images of {source}", folder / "images.npy", manifest.get("sha256"))
    trail.add(f"index of {source}", folder / "index.parquet", manifest.get("index_sha256"))


def _encoders(
    trail: Trail, study: Planned, method: str, jobs: dict[str, Job], found: dict[str, dict]
) -> dict[str, dict]:
    """Records of the method's encoder and of the one that it started from, by method."""
    folder = Path(study.place("results")) / f"encoders/{method}"
    record = found[method] = trail.record(folder / "run.json")
    if not record:
        return found
    trail.add(f"encoder of {method} as written", folder / "encoder.safetensors", record["outputs"]["encoder"])
    if record["script"] == "import_encoder.py":
        job = jobs.get(str(folder / "encoder.safetensors"))
        generated = next(map(Path, job.needs), None) if job else None
        if path := study.checkpoint_file(method) or generated:
            trail.add(f"checkpoint of {method}", path, record["inputs"]["checkpoint"])
        if digest(study.model_settings(method)) != record["settings_sha256"]:
            trail.notes.append(f"{method}: the config's architecture is not that of its encoder")
        return found
    mimic, interim = Path(study.place("store")) / "mimic", Path(study.place("interim")) / "mimic"
    text = study.text_encoder or interim / "text_encoder"
    start = Path(study.place("results")) / "encoders/imagenet/encoder.safetensors"
    paths = {
        "index": mimic / "index.parquet",
        "manifest": mimic / "images.json",
        "tokens": interim / "tokens.npz",
        "text_encoder": text / "model.safetensors",
        "words": interim / method / "words.csv",
        "init": start,
    }
    for name, recorded in record["inputs"].items():
        if name in paths:
            trail.add(f"{name.replace('_', ' ')} of the pre-training of {method}", paths[name], recorded)
    _store(trail, study, "mimic")
    if digest(study.pretrain_settings(method)) != record["settings_sha256"]:
        trail.notes.append(f"the config's settings are no longer those of the pre-training of {method}")
    return _encoders(trail, study, "imagenet", jobs, found) if "init" in record["inputs"] else found


# ---- the account


def _verdict(trail: Trail, records: list[dict]) -> str:
    """What a reader wants to know first."""
    now = library_digest()
    lines = [
        f"- {line.path}: {line.verdict} ({line.what})"
        for line in trail.evidence
        if line.verdict in (CHANGED, ABSENT)
    ]
    lines += [f"- {note}" for note in dict.fromkeys(trail.notes)]
    if any(part["library_sha256"] != now for record in records for part in record["history"]):
        lines.append(
            f"- the library changed since ({now[:SHORT]} now); whether a job of its rules reruns, `snakemake -n` says"
        )
    held = sum(line.verdict == UNCHANGED for line in trail.evidence)
    open_ = sum(line.recorded is not None and line.verdict.startswith(LARGE) for line in trail.evidence)
    said = f"{held} digests are as recorded" + (
        f", {open_} files were too large to hash unasked (`--full`)" if open_ else ""
    )
    return f"{said}. " + ("What differs:\n\n" + "\n".join(lines) if lines else "Nothing differs.")


def _seeds(records: dict[int, dict]) -> str:
    rows = []
    for seed, record in records.items():
        if record:
            images = ", ".join(f"{count:,} {name}" for name, count in record["images"].items())
            score = record["best_score"]
            rows.append(
                [
                    str(record["seed"]),
                    record["settings_sha256"][:SHORT],
                    images,
                    str(record["best_step"]),
                    "" if score is None else f"{score:.4f}",
                ]
            )
        else:
            rows.append([str(seed), ABSENT, "", "", ""])
    return _table(["seed", "settings", "images", "best step", "its validation score"], rows)


def _draws(study: Planned, dataset: str, encoders: dict[str, dict]) -> str:
    """Everything else that was drawn at random."""
    split, values = study.split_settings(dataset), study.values
    rows = [[f"split, {split['kind']}", str(split.get("seed", "")), "config"]]
    rows.append(["label subset", str(values["subset"]["seed"]), "config"])
    for name, record in encoders.items():
        if record:
            rows.append([f"encoder of {name}", str(record["seed"]), "run.json"])
            if record["settings"].get("words", {}).get("count"):
                rows.append([f"visual words of {name}", str(record["settings"]["words"]["seed"]), "run.json"])
    bootstrap = values["study"]["bootstrap"]
    rows.append([f"bootstrap, {bootstrap['resamples']} resamples", str(bootstrap["seed"]), "config"])
    return _table(["draw", "seed", "said by"], rows)


def _makers(records: dict[int, dict], encoders: dict[str, dict]) -> str:
    """Code, machine, time and memory; where several processes worked on a result also those of each."""
    named = {f"encoder of {name}": record for name, record in encoders.items()}
    named |= {f"seed {seed}": record for seed, record in records.items()}
    rows = []
    for name, record in named.items():
        if record:
            versions = ", ".join(f"{key} {record['versions'][key]}" for key in ("python", "torch", "numpy"))
            whole, seed = record | {"seconds": record["wall_seconds"]}, str(record["seed"])
            rows.append(_maker(name, record["finished"], whole, seed, versions))
            pieces = record["history"] if len(record["history"]) > 1 else []
            for number, part in enumerate(pieces, 1):
                rows.append(_maker(f"its process {number}, {part['steps']:,} steps", "", part, "", ""))
    heads = ["what", "finished", "time", "memory", "device", "seed", "commit", "library", "versions"]
    return _table(heads, rows)


def _maker(what: str, finished: str, made: dict, seed: str, versions: str) -> list[str]:
    commit = made["commit"] or "no git"
    return [
        what,
        finished,
        f"{made['seconds']:,.0f} s",
        f"{made['peak_memory_mib']:,} MiB",
        made["device"],
        seed,
        commit[:SHORT] + ("+changes" if "+" in commit else ""),
        made["library_sha256"][:SHORT],
        versions,
    ]


def _settings(title: str, record: dict) -> str:
    return f"## {title}\n\nSHA-256 {record['settings_sha256']}\n\n```json\n{json.dumps(record['settings'], indent=1)}\n```"


def _commands(
    command: str, cell: str, rules: list[str], records: dict[int, dict], encoders: dict[str, dict]
) -> str:
    remake = command.replace("TARGET", shlex.quote(cell))
    lines = [
        f"{remake}    # what is missing or out of date",
        f"{remake} -R {rules[1]}    # its fine-tunes again",
        f"{remake} -R {rules[0]}    # its encoder again, and then its fine-tunes",
    ]
    parts = ["```sh\n" + "\n".join(lines) + "\n```"]
    recorded = [record["command"] for record in encoders.values() if record]
    recorded += [record["command"] for record in list(filter(None, records.values()))[:1]]
    if recorded:
        text = "\n".join(shlex.join(["python", *argv]) for argv in recorded)
        parts.append(
            f"As its jobs were called, encoder first; one call trains every seed:\n\n```sh\n{text}\n```"
        )
    return "\n\n".join(parts)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def _short(sha256: str | None) -> str:
    return sha256[:SHORT] if sha256 else ""
