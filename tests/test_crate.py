"""The crate of a finished study: valid by the library that reads crates, complete, and without anything that is not to be shared."""

import hashlib
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from made_study import SECRET, make_study
from refers.config.read import read_files
from refers.errors import UserError
from refers.sharing import crate as crate_module
from refers.study.check import check
from rocrate.rocrate import ROCrate

ROOT = Path(__file__).parents[1]
AUTHOR = {"name": "Josiah Carberry", "orcid": "0000-0002-1825-0097", "affiliation": "Brown University"}
PUBLICATION = {"name": "A made-up study", "license": "CC-BY-4.0", "authors": [AUTHOR]}
PATIENT = "CHNCXR_0001_0.png"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The made-up study, with tables and figures and with image ids in its predictions; write a crate of it.

    study(publication) -> the finished process, the folder of the crate.
    """
    values, folder = make_study(tmp_path, monkeypatch)
    results = folder / "results"
    files = {
        "--tables": ["tables/table1.csv", "tables/table1.md"],
        "--figures": ["figures/figure2a.png"],
        "--claims": ["claims.csv"],
        "--page": ["index.html"],
    }
    for path in (name for names in files.values() for name in names):
        (results / path).parent.mkdir(exist_ok=True)
        (results / path).write_text(f"content of {path}")
    records = sorted(results.rglob("run.json"))
    files |= {"--cells": sorted(results.rglob("auc.json")), "--records": records}
    for path in results.rglob("predictions.parquet"):
        path.write_text(path.read_text() + PATIENT)

    def write(publication):
        command = [sys.executable, ROOT / "workflow/scripts/crate.py", "--out", results / "crate"]
        given = values | {"data_root": str(folder / "downloads"), "publication": publication}
        command += ["--config", json.dumps(given)]
        for option, paths in files.items():
            command += [option, *(results / path for path in paths)]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        return done, results / "crate"

    return write


@pytest.fixture
def crate(study):
    done, folder = study(PUBLICATION)
    assert done.returncode == 0, done.stderr
    return folder


def entities(folder, kind):
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    return [each for each in graph if kind in (each["@type"], *each["@type"]) and each["@id"] != "./"]


def test_every_file_is_there_with_its_digest_or_said_to_be_elsewhere(crate):
    found = entities(crate, "File")
    for each in found:
        path = crate / each["@id"].replace("%20", " ")
        if each["@id"].startswith("ni:///sha-256;"):
            assert "not in the crate" in each["conditionsOfAccess"]
            assert len(bytes.fromhex(each["sha256"])) == 32
        else:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == each["sha256"], each["@id"]
            assert int(each["contentSize"]) == path.stat().st_size
    described = {each["@id"] for each in found} | {"ro-crate-metadata.json"}
    packed = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert packed == {name for name in described if not name.startswith("ni:")}
    assert {
        "Snakefile",
        "uv.lock",
        "config.json",
        "results/tables/table1.csv",
        "results/index.html",
    } <= packed


def test_the_library_reads_the_crate_and_finds_what_the_profiles_ask_for(crate):
    read = ROCrate(crate)
    root = read.root_dataset
    assert (read.version, root["name"]) == ("1.1", PUBLICATION["name"])
    assert root["license"].id == "https://spdx.org/licenses/CC-BY-4.0"
    assert root["datePublished"]
    assert root["author"].id == "https://orcid.org/0000-0002-1825-0097"
    assert root["author"]["affiliation"]["name"] == "Brown University"
    assert root["mainEntity"].id == "Snakefile"
    assert "ComputationalWorkflow" in root["mainEntity"].type
    assert root["mainEntity"]["programmingLanguage"]["name"] == "Snakemake"
    needed = {each["name"] for each in root["mainEntity"]["softwareRequirements"]}
    assert {"torch", "snakemake", "numpy"} <= needed
    assert {each.rpartition("/")[0].rpartition("/")[2] for each in (p.id for p in root["conformsTo"])} == {
        *("process", "workflow", "workflow-ro-crate")
    }
    known = {each.id for each in read.get_entities()}

    def references(value):
        values = value if isinstance(value, list) else [value]
        return {each["@id"] for each in values if isinstance(each, dict)}

    for each in read.get_entities():
        for key in ("object", "result", "instrument", "isBasedOn", "hasPart", "resourceUsage", "mentions"):
            assert references(each.properties().get(key)) <= known, (each.id, key)


def test_a_run_has_the_facts_of_its_record(crate):
    read = ROCrate(crate)
    place = "runs/refers/shenzhen/100pct/split1/seed0"
    record = json.loads((crate.parent / place / "run.json").read_text())
    action = read.get(f"#{place}")
    ended = datetime.fromisoformat(record["finished"])
    assert datetime.fromisoformat(action["endTime"]) == ended
    started = ended - datetime.fromisoformat(action["startTime"])
    assert abs(started.total_seconds() - record["wall_seconds"]) <= 1
    assert action["instrument"]["name"] == "finetune.py"
    assert action["instrument"]["softwareVersion"] == record["commit"]
    facts = {each["name"]: each["value"] for each in action["object"] if each.type == "PropertyValue"}
    assert facts == {"seed": 0, "settings_sha256": record["settings_sha256"]}
    assert {each["sha256"] for each in action["object"] if "sha256" in each} == {*record["inputs"].values()}
    assert action["result"]["sha256"] == record["outputs"]["predictions"]
    used = {each["name"]: each["value"] for each in action["resourceUsage"]}
    assert used["device"] == "cpu"
    assert used["wall_seconds"] == record["wall_seconds"]
    # what one run wrote and the next one read is one entity
    made = read.get("#encoders/refers")["result"]
    assert made.id in {each.id for each in action["object"] if hasattr(each, "id")}
    cell = read.get("results/cells/refers/shenzhen/100pct/auc.json")
    assert action["result"].id in {each.id for each in cell["isBasedOn"]}


def test_nothing_of_mimic_no_image_id_and_no_folder_of_this_machine_is_in_it(crate):
    for path in (each for each in crate.rglob("*") if each.is_file()):
        content = path.read_bytes()
        for kept in (SECRET, PATIENT, str(crate.parents[1])):
            assert kept.encode() not in content, (path, kept)
        place = path.relative_to(crate).as_posix()
        assert place.startswith("workflow/") or "mimic" not in place, "the code may name it"
    ids = {each["@id"] for each in entities(crate, "File")}
    assert not any("store/" in each or "interim/" in each for each in ids)
    assert not list(crate.rglob("*.safetensors"))
    assert not list(crate.rglob("*.parquet"))


def test_an_encoder_is_packed_only_where_the_config_names_it(study):
    done, folder = study(PUBLICATION | {"encoders": ["refers"]})
    assert done.returncode == 0, done.stderr
    packed = ROCrate(folder).get("results/encoders/refers/encoder.safetensors")
    assert packed["sha256"] == hashlib.sha256(b"an encoder").hexdigest()
    assert ROCrate(folder).get("#encoders/refers")["result"].id == packed.id


def test_without_authors_a_line_says_so_and_without_a_licence_nothing_is_written(study):
    done, folder = study({"name": "A study", "license": "MIT"})
    assert done.returncode == 0, done.stderr
    assert "publication.authors" in done.stdout
    assert "author" not in ROCrate(folder).root_dataset
    before = (folder / "ro-crate-metadata.json").read_bytes()
    done, folder = study(None)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "licence" in done.stderr
    assert (folder / "ro-crate-metadata.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"license": "Apache 2"}, "SPDX"),
        ({"license": "MIT OR Apache-2.0"}, "SPDX"),
        ({"authors": [AUTHOR | {"orcid": "0000-0002-1825-0098"}]}, "ends with 7"),
        ({"authors": [AUTHOR | {"orcid": "Carberry"}]}, "ORCID"),
        ({"encoders": ["refer"]}, "did you mean 'refers'"),
        ({"name": " "}, "blank"),
    ],
)
def test_a_publication_that_cannot_be_is_refused_before_any_work(change, word):
    values = read_files([ROOT / "config/config.yaml"]) | {"publication": PUBLICATION | change}
    with pytest.raises(UserError, match=word):
        check(values)


def test_without_its_library_a_line_says_what_to_install(study, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfound = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'rocrate' else found(name, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done, folder = study(PUBLICATION)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "uv sync --group crate" in done.stderr
    assert not folder.exists()


def test_a_config_file_that_names_folders_of_this_machine_is_left_out_and_said_so(
    tmp_path, monkeypatch, copy_project
):
    values, folder = make_study(tmp_path, monkeypatch)
    project = copy_project(tmp_path / "project")
    for name in ("uv.lock", "pyproject.toml"):
        (project / name).write_text((ROOT / name).read_text())
    (project / "config/mine.yaml").write_text("sources: {nih: {folder: /scratch/someone/nih}}\n")
    (project / "config/broken.yaml").write_text("a: [\n")
    (project / "config/notes.txt").write_text("mine")
    monkeypatch.setattr(crate_module, "PROJECT", project)
    (tmp_path / "crate").mkdir()
    study = check(values | {"publication": PUBLICATION})
    notes = crate_module.write_crate(study, crate_module.Results(), tmp_path / "crate")
    assert [note.split()[0] for note in notes] == ["config/broken.yaml", "config/mine.yaml"]
    packed = {path.name for path in (tmp_path / "crate/config").iterdir()}
    assert "config.yaml" in packed
    assert not {"mine.yaml", "broken.yaml", "notes.txt"} & packed
    settings = json.loads((tmp_path / "crate/config.json").read_text())
    assert settings["pathvars"]["results"] == "results"
    assert settings["text"]["encoder"] == "bert"
    assert str(folder) not in json.dumps(settings)


def test_files_of_another_study_are_refused(tmp_path, monkeypatch):
    values, _ = make_study(tmp_path, monkeypatch)
    study = check(values | {"publication": PUBLICATION})
    (tmp_path / "table1.csv").write_text("of another study")
    (tmp_path / "crate").mkdir()
    with pytest.raises(UserError, match="not below"):
        crate_module.write_crate(
            study, crate_module.Results(tables=[tmp_path / "table1.csv"]), tmp_path / "crate"
        )


def test_a_run_of_several_processes_has_no_start(tmp_path, monkeypatch):
    values, folder = make_study(tmp_path, monkeypatch)
    path = folder / "results/encoders/refers/run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"history": [*record["history"], *record["history"]]}))
    (tmp_path / "crate").mkdir()
    study = check(values | {"publication": PUBLICATION})
    crate_module.write_crate(study, crate_module.Results(records=[path]), tmp_path / "crate")
    action = ROCrate(tmp_path / "crate").get("#encoders/refers")
    assert "startTime" not in action
    assert "2 processes" in action["description"]
