"""What a touched file reruns (nothing), what a changed one does, and that two rules of one job are asked as one."""

import json
import os
import re

import pytest
import yaml
from refers import config
from refers.config.read import read_files
from refers.demo.generate import generate
from test_names import ROOT

STORE = "build/store/nih/images.npy"
ENCODER = "results/encoders/imagenet/encoder.safetensors"
FEATURES = "build/interim/features/imagenet/nih.npy"
CHECK = "build/interim/nih/split0/check.json"
OVERLAY = {
    "data_root": "data",
    "device": "cpu",
    "datasets": {"nih": {"split": {"kind": "official"}, "accept": ["patients", "duplicates"]}},
    "methods": {"imagenet": {"checkpoint": "random"}},
    "pretrain": {"model": {"image_size": 32, "patch_size": 8, "width": 128, "depth": 3, "heads": 2}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, copy_project, snakemake):
    """A project whose store, encoder and features are above the size up to which Snakemake compares content by itself."""
    folder = copy_project(tmp_path_factory.mktemp("reruns"))
    values = config.merge(read_files([ROOT / "config/config.yaml"]), OVERLAY)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    generate(folder / "data", 0, 0.03)
    done = snakemake(FEATURES, CHECK, "--cores", 2, folder=folder)
    assert done.code == 0, done.output[-3000:]
    assert min((folder / path).stat().st_size for path in (STORE, ENCODER)) > 1_100_000
    return folder


def to_do(snakemake, folder, *arguments):
    found = snakemake("-n", FEATURES, CHECK, "--cores", 2, *arguments, folder=folder)
    assert found.code == 0, found.output
    return set(found.jobs) - {"total"}


def test_touched_files_rerun_nothing(snakemake, finished):
    for top in ("build", "results", "data"):
        for path in (finished / top).rglob("*"):
            os.utime(path)
    (finished / STORE).with_name(".images.npy.sha256.json").unlink(missing_ok=True)
    assert to_do(snakemake, finished) == set()


def test_every_profile_compares_the_content_of_an_encoder():
    found = {
        path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/profile.yaml")
    }
    assert len(found) == 6
    assert min(profile["max-checksum-file-size"] for profile in found.values()) > 4 * 86_000_000


@pytest.mark.parametrize(
    ("path", "rules"), [(STORE, {"check_split", "extract_features"}), (ENCODER, {"extract_features"})]
)
def test_a_changed_file_reruns_what_reads_it(snakemake, finished, path, rules):
    before = (finished / path).read_bytes()
    (finished / path).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        assert to_do(snakemake, finished) == rules
    finally:
        (finished / path).write_bytes(before)
    assert to_do(snakemake, finished) == set()


def test_a_repacked_store_of_other_images_reruns_what_reads_it(snakemake, finished):
    manifest = finished / "build/store/nih/images.json"
    before = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(before) | {"quarantined": [0]}))
    try:
        assert to_do(snakemake, finished) == {"split_dataset", "check_split", "extract_features"}
    finally:
        manifest.write_text(before)


KEPT = "results/runs/refers/nih/100pct/split0/seed0/classifier.safetensors"
PLAIN = "results/runs/refers/nih/1pct/split0/seed0/predictions.parquet"


def asked(output):
    """(threads, memory) of the fine-tunes in a dry run, by rule."""
    jobs = re.findall(r"^rule (finetune\w*):\n((?: {4}.*\n)+)", output, re.MULTILINE)
    of = {name: (re.search(r"threads: (\d+)", text), re.search(r"mem_mb=(\d+)", text)) for name, text in jobs}
    return {name: tuple(int(each[1]) if each else 1 for each in found) for name, found in of.items()}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], {"finetune": (4, 8000), "finetune_kept": (4, 8000)}),
        (
            ["--set-threads", "finetune=2", "--set-resources", "finetune:mem_mb=77"],
            {"finetune": (2, 77), "finetune_kept": (2, 77)},
        ),
        (
            ["--set-threads", "finetune=2", "finetune_kept=3"],
            {"finetune": (2, 8000), "finetune_kept": (3, 8000)},
        ),
    ],
)
def test_what_is_asked_of_a_fine_tune_holds_where_it_keeps_its_classifier(
    snakemake, downloads, options, wanted
):
    found = snakemake("-n", KEPT, PLAIN, "--cores", 8, "--verbose", *options, *downloads)
    assert found.code == 0, found.output
    assert asked(found.output) == wanted
