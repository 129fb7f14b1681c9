"""The finished study as an RO-Crate: results, workflow, config, software and the run of every encoder and fine-tune.

RO-Crate 1.1 with the profiles Workflow RO-Crate 1.0, Process Run Crate 0.5 and Workflow Run Crate 0.5
(researchobject.org). Small files are packed. Predictions, classifiers and encoders are named by their SHA-256: predictions
hold image and patient ids, and who may have an encoder that learnt from MIMIC-CXR is for its data use agreement to say.
Nothing outside the results and the workflow is read, so no report, token or image store.
"""

import base64
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from mimetypes import guess_type
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from refers import config
from refers.config.publication import Author, Publication
from refers.config.study import StudyConfig
from refers.errors import UserError
from refers.files import file_digest, read_object
from refers.provenance.run_record import digest, problem_of
from refers.study import paths
from refers.study.study import Study

PROJECT = Path(__file__).parents[4]
# What runs the study, as patterns below the project.
WORKFLOW = (
    "Snakefile",
    "rules/*.smk",
    "workflow/**/*",
    "envs/*",
    "config/*.yaml",
    "config/*.csv",
    "Makefile",
)
ABOUT = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "CITATION.cff")
CONFIG = "config.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
ABSENT = {
    "predictions": "not in the crate: image and patient ids of the dataset are in it",
    "encoder": "not in the crate: publication.encoders does not name its method",
}
NOT_PACKED = "not in the crate: known by its SHA-256"
# Programs beside the packages of an index.
NO_PACKAGES = ("python", "apex")
UNITS = {"wall_seconds": "s", "peak_memory_mib": "MiB", "peak_gpu_memory_mib": "MiB"}
SHA256 = re.compile(r"[0-9a-f]{64}")
INSTALL = "rocrate is not installed; run `make install`, or `uv sync --group crate`"


def publication_of(checked: StudyConfig) -> Publication:
    """What the config says of the publication.

    Raises:
        UserError: it says nothing, or the library that writes crates is not installed.
    """
    if checked.publication is None:
        raise UserError(
            "config.publication: not set; a crate needs its name and its licence: set publication: {name: ..., license: ...}"
        )
    if find_spec("rocrate") is None:
        raise UserError(INSTALL)
    return checked.publication


def without_places(values: Any) -> Any:
    """Values with each absolute path replaced by its last part: the folders of a machine are not published."""
    if isinstance(values, Mapping):
        return {key: without_places(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_places(value) for value in values]
    if isinstance(values, str) and (values.startswith("~") or Path(values).is_absolute()):
        return Path(values).name
    return values


@dataclass(frozen=True)
class Results:
    """Files of a study by kind, below its folder of results: each list may be empty.

    records: run.json of encoders, fine-tunes and probes.
    """

    tables: list[Path] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    claims: list[Path] = field(default_factory=list)
    cells: list[Path] = field(default_factory=list)
    tests: list[Path] = field(default_factory=list)
    page: list[Path] = field(default_factory=list)
    records: list[Path] = field(default_factory=list)


class StudyCrate:
    """A crate in the making. Files known by digest are one entity, whichever run writes or reads them."""

    def __init__(self, study: Study, publication: Publication) -> None:
        from rocrate.rocrate import ROCrate

        self.study, self.publication = study, publication
        self.folder = study.resolve("<results>")
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(TERMS)
        self.notes: list[str] = []
        self._by_digest: dict[str, Any] = {}

    # ---- entities

    def entity(self, name: str, kind: str | list[str], /, **about: Any) -> Any:
        """A contextual entity; the one of that name where there is one."""
        name = f"#{quote(name[1:])}" if name.startswith("#") else name
        found = self.crate.get(name)
        return found or self.crate.add_jsonld({"@id": name, "@type": kind, **about})

    def pack(self, source: Path, place: str, **about: Any) -> Any:
        """A file that is copied into the crate."""
        about = {"encodingFormat": _format(source), "sha256": file_digest(source)} | about
        found = self.crate.add_file(source, place, properties=about, record_size=True)
        self._by_digest[about["sha256"]] = found
        return found

    def pack_result(self, path: Path, **about: Any) -> Any:
        """A file below the folder of the results, at the same place below `results` of the crate."""
        return self.pack(path, f"results/{self.place(path)}", **about)

    def place(self, path: Path) -> str:
        """Where a file or a folder is below the folder of the results.

        Raises:
            UserError: it is elsewhere.
        """
        try:
            return path.relative_to(self.folder).as_posix()
        except ValueError:
            raise UserError(f"{path}: not below {self.folder}, where the results are; leave it out") from None

    def known(self, sha256: str, name: str, reason: str = NOT_PACKED) -> Any:
        """A file by its SHA-256, packed or not; its id is a `ni` URI (RFC 6920) where it is not."""
        if sha256 not in self._by_digest:
            text = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
            about = {"name": name, "sha256": sha256, "conditionsOfAccess": reason}
            self._by_digest[sha256] = self.crate.add_file(f"ni:///sha-256;{text}", properties=about)
        return self._by_digest[sha256]

    def software(self, name: str, version: str) -> Any:
        """A package by its package URL, or a program that is in no index."""
        kind = "generic" if name in NO_PACKAGES else "pypi"
        place = f"pkg:{kind}/{name}@{quote(version)}"
        return self.entity(place, "SoftwareApplication", name=name, softwareVersion=version)

    # ---- parts

    def describe(self, description: str) -> None:
        """The root: title, licence, authors, profiles."""
        root, about = self.crate.root_dataset, self.publication
        licence = f"https://spdx.org/licenses/{about.license}"
        root["name"], root["description"] = about.name, description
        root["license"] = self.entity(licence, "CreativeWork", name=about.license, identifier=licence)
        if about.authors:
            root["author"] = _one_or_all([self.author(each) for each in about.authors])
        else:
            self.notes.append("no author: publication.authors is empty")
        root["conformsTo"] = [
            self.entity(profile, "CreativeWork", name=name, version=profile.rpartition("/")[2])
            for profile, name in PROFILES.items()
        ]

    def author(self, author: Author) -> Any:
        name = f"https://orcid.org/{author.orcid}" if author.orcid else f"#person/{author.name}"
        about: dict[str, Any] = {"name": author.name}
        if author.affiliation:
            place = author.affiliation
            about["affiliation"] = {
                "@id": self.entity(f"#organization/{place}", "Organization", name=place).id
            }
        return self.entity(name, "Person", **about)

    def workflow(self) -> Any:
        """The Snakefile with the files, the language and the locked packages that it needs."""
        lock = tomllib.loads((PROJECT / "uv.lock").read_text(encoding="utf-8"))
        packages = [(each["name"], each["version"]) for each in lock["package"] if "version" in each]
        snakemake = dict(packages)["snakemake"]
        main = self.crate.add_workflow(
            PROJECT / "Snakefile",
            "Snakefile",
            main=True,
            lang="snakemake",
            lang_version=snakemake,
            record_size=True,
        )
        main["name"] = "REFERS, reproduced"
        main["sha256"] = file_digest(PROJECT / "Snakefile")
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        main["version"], main["description"] = project["version"], project["description"]
        licence = f"https://spdx.org/licenses/{project['license']}"
        main["license"] = self.entity(licence, "CreativeWork", name=project["license"], identifier=licence)
        main["softwareRequirements"] = [self.software(*each) for each in packages]
        parts = []
        for place in workflow_files():
            source = PROJECT / place
            if source.suffix == ".yaml" and _names_places(source):
                self.notes.append(f"{place} is left out: it names folders of this machine, or is no YAML")
            elif place != "Snakefile":
                about: dict[str, Any] = {"name": place}
                if source.suffix in (".py", ".smk"):
                    about |= {"@type": ["File", "SoftwareSourceCode"], "version": project["version"]}
                parts.append(self.pack(source, place, **about))
        main["hasPart"] = parts
        if readme := self.crate.get("README.md"):
            readme["about"] = self.crate.root_dataset
        return main

    def run(self, path: Path) -> None:
        """The run behind an encoder, a fine-tune or a probe, from its run.json.

        Raises:
            UserError: the file is not a run record.
        """
        record = read_object(path, "run record")
        if problem := problem_of(record):
            raise UserError(
                f"{path}: not a run record ({problem}); delete it and rerun the job that wrote it"
            )
        place = self.place(path.parent)
        processes = len(record["history"])
        work = "one process" if processes == 1 else f"{processes} processes, one after the other"
        about = {"name": f"{record['script']}: {place}", "description": f"{work}, on {record['device']}"}
        ended = datetime.fromisoformat(record["finished"])
        about["endTime"] = ended.isoformat()
        if processes == 1:
            started = ended - timedelta(seconds=round(record["wall_seconds"]))
            about["startTime"] = started.isoformat()
        facts = {"seed": record["seed"], "settings_sha256": record["settings_sha256"]}
        read = [self._fact(place, name, value) for name, value in facts.items()]
        for name, value in record["inputs"].items():
            if SHA256.fullmatch(value):
                read.append(self.known(value, f"{name}, read by {record['script']}"))
            else:
                read.append(self._fact(place, name, without_places(value)))
        made = []
        for name, sha256 in record["outputs"].items():
            reason = ABSENT.get(name, NOT_PACKED)
            made.append(self.known(sha256, f"{name} of {place}", reason))
        used = [self._fact(place, name, record[name]) for name in ("device", *UNITS) if name in record]
        action = self.entity(f"#{place}", "CreateAction", **about)
        action["instrument"], action["object"] = self._program(record), read
        action["result"] = _one_or_all(made)
        action["resourceUsage"] = used
        self.crate.root_dataset.append_to("mentions", action)

    def _fact(self, place: str, name: str, value: Any) -> Any:
        unit = {"unitText": UNITS[name]} if name in UNITS else {}
        return self.entity(f"#{place}/{name}", "PropertyValue", name=name, value=value, **unit)

    def _program(self, record: dict) -> Any:
        """A script in the version that ran: commit, digest of the library, packages."""
        version = record["commit"] or f"library {record['library_sha256']}"
        packages, script = record["versions"], record["script"]
        program = self.entity(
            f"#{script}-{digest([version, record['library_sha256'], packages])[:12]}",
            "SoftwareApplication",
            name=script,
            softwareVersion=version,
            identifier=f"library_sha256 {record['library_sha256']}",
        )
        program["softwareRequirements"] = [self.software(*each) for each in packages.items()]
        if source := self.crate.get(f"workflow/scripts/{script}"):
            program["isBasedOn"] = source
        return program

    def encoders(self) -> None:
        """The encoders that the config lets out.

        Raises:
            UserError: one of them does not exist or is not as its run wrote it.
        """
        for method in self.publication.encoders:
            path = self.study.resolve(paths.ENCODER, method=method)
            if not path.is_file():
                raise UserError(
                    f"config.publication.encoders: {path} does not exist; make it, or remove {method}"
                )
            record = read_object(path.with_name("run.json"), "run record", ("outputs",))
            packed = self.pack_result(path, name=f"encoder of {method}")
            if packed["sha256"] != record["outputs"].get("encoder"):
                raise UserError(f"{path}: is not as its run.json states; delete it and make it again")

    def results(self, results: Results) -> list[Any]:
        """Tables, figures, claims, page, cells and tests."""
        tables = {name: table.title for name, table in self.study.config.tables.items()}
        figures = {name: figure.title for name, figure in self.study.config.figures.items()}
        found = [self.pack_result(path, name=tables.get(path.stem, path.stem)) for path in results.tables]
        found += [self.pack_result(path, name=figures.get(path.stem, path.stem)) for path in results.figures]
        found += [self.pack_result(path, name="claims of the paper, checked") for path in results.claims]
        found += [self.pack_result(path, name="all results on one page") for path in results.page]
        found += [self.pack_result(path, name="paired comparison of two cells") for path in results.tests]
        for path in results.cells:
            cell = read_object(path, "cell", ("method", "dataset", "ratio"))
            title = "{method}, {dataset}, {ratio} % of the labels".format(**cell)
            packed = self.pack_result(path, name=title)
            packed["isBasedOn"] = _one_or_all(
                [
                    self.known(sha256, f"predictions of {title}", ABSENT["predictions"])
                    for sha256 in cell.get("predictions_sha256", [])
                ]
            )
            found.append(packed)
        return found


def workflow_files() -> list[str]:
    """Places below the project of what runs the study."""
    found = (path for pattern in (*WORKFLOW, *ABOUT) for path in PROJECT.glob(pattern) if path.is_file())
    places = (path.relative_to(PROJECT) for path in found)
    return sorted(
        {
            place.as_posix()
            for place in places
            if not any(part == "__pycache__" or part.startswith(".") for part in place.parts)
        }
    )


def _one_or_all(values: list[Any]) -> Any:
    """RO-Crate writes a list of one as its value."""
    return values[0] if len(values) == 1 else values


def _names_places(path: Path) -> bool:
    """Whether a YAML file holds an absolute path; one that cannot be read may."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        return True
    return without_places(values) != values


def _format(path: Path) -> str:
    kinds = {".smk": "text/plain", ".parquet": "application/vnd.apache.parquet", ".md": "text/markdown"}
    return kinds.get(path.suffix) or guess_type(path.name)[0] or "text/plain"


def write_crate(study: Study, results: Results, folder: Path) -> list[str]:
    """Write the crate of a study into an empty folder.

    Returns:
        What was left out, a line each.

    Raises:
        UserError: the config does not say what a crate needs, or a file is not what it should be.
    """
    publication = publication_of(study.config)
    made = StudyCrate(study, publication)
    note = f" {study.config.note}" if study.config.note else ""
    made.describe(
        f"Tables, figures, claims and the record of every run of a study with REFERS, reproduced.{note}"
    )
    main = made.workflow()
    made.encoders()
    for path in results.records:
        made.run(path)
    packed = made.results(results)
    values = without_places(config.to_dict(study.config))
    (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    settings = made.pack(folder / CONFIG, CONFIG, name="the study's config, every default filled in")
    newest = max((path.stat().st_mtime for path in _written(results)), default=None)
    action = made.entity("#study", "CreateAction", name="run of the study")
    action["instrument"], action["object"], action["result"] = main, settings, packed
    if newest is not None:
        action["endTime"] = datetime.fromtimestamp(int(newest), UTC).isoformat()
    made.crate.root_dataset.append_to("mentions", action)
    made.crate.write(folder)
    return made.notes


def _written(results: Results) -> Iterable[Path]:
    return [*results.tables, *results.figures, *results.claims, *results.cells, *results.tests, *results.page]
