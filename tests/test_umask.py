"""Who may read a file is for the umask to say, whichever library writes it: as for a file that `open` makes."""

import json
import os
import stat

import build_text_encoder
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_nih
from refers.data.store import pack
from refers.files import atomic_path, large_file_digest, write_json, write_parquet, write_text
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.reporting.figures import save
from refers.training.resume import save_state

MASKS = [0o077, 0o027, 0o022, 0o002]


@pytest.fixture(params=MASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder):
    """Permissions of every file and folder below a folder, by kind."""
    paths = list(folder.rglob("*"))
    assert paths
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths}


def replaced(folder):
    """A writer that puts a file of its own, which all may read, in the place of the temporary one."""
    with atomic_path(folder / "a.txt") as path:
        path.unlink()
        path.touch()
        path.chmod(0o777)


def packed(folder):
    download = make_nih(folder / "download")
    pack(sorted(download.glob("*/*/*.png")), 8, folder / "images.npy", folder / "quarantine.csv")


def with_quarantine(folder):
    (folder / "a.png").write_bytes(b"no image")
    pack([folder / "a.png"], 8, folder / "images.npy", folder / "quarantine.csv", tolerance=1.0)


def digested(folder):
    (folder / "a.npy").write_bytes(b"0")
    large_file_digest(folder / "a.npy")


def over_an_old_one(folder):
    write_text(folder / "a.txt", "before")
    (folder / "a.txt").chmod(0o666)
    write_text(folder / "a.txt", "after")


def drawn(folder):
    save(plt.figure(), folder / "figure.pdf", "")


WRITERS = {
    "text": lambda folder: write_text(folder / "sub/a.txt", "x"),
    "json": lambda folder: write_json(folder / "a.json", {}),
    "parquet": lambda folder: write_parquet(folder / "a.parquet", pd.DataFrame({"a": [1]})),
    "over an old file": over_an_old_one,
    "a library's own file": replaced,
    "image store": packed,
    "quarantine": with_quarantine,
    "digest": digested,
    "figure": drawn,
    "state": lambda folder: save_state(folder / "resume.pt", "a", {"x": torch.zeros(2)}),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_file_has_the_permissions_that_open_would_give(tmp_path, umask, write):
    folder = tmp_path / "new"
    folder.mkdir()
    write(folder)
    assert modes(folder) <= {(False, 0o666 & ~umask), (True, 0o777 & ~umask)}


def test_an_encoder_and_a_built_bert_have_them_too(tmp_path, umask, small_model):
    folder = tmp_path / "new"
    folder.mkdir()
    save_encoder(folder / "encoder.safetensors", build_encoder(small_model), {})
    build_text_encoder.write_vocabulary(["no pneumothorax"], 30, folder)
    assert modes(folder) == {(False, 0o666 & ~umask)}


def test_scripts_of_credentialed_text_respect_it(tmp_path, call, monkeypatch):
    """Index, reports and tokens of MIMIC-CXR are for the eyes of who signed its agreement."""
    reports = tmp_path / "mimic-cxr-reports/files/p10/p10000032"
    reports.mkdir(parents=True)
    (reports / "s50000001.txt").write_text("FINDINGS: The lungs are clear today.")
    frame = pd.DataFrame({"image_id": ["d1"], "study_id": ["s50000001"], "patient_id": ["p10000032"]})
    frame = frame.assign(view="frontal", split="train", path="a.jpg", width=np.int32(1), height=np.int32(1))
    frame.to_parquet(tmp_path / "index.parquet")
    out, sizes = tmp_path / "out", {"vocabulary": 100, "width": 8, "depth": 1, "heads": 1, "max_length": 8}
    cleaning = ("--reports", tmp_path / "mimic-cxr-reports", "--index", tmp_path / "index.parquet")
    building = (
        "--reports",
        out / "reports.parquet",
        "--config",
        json.dumps(sizes | {"dropout": 0, "seed": 0}),
    )
    before = os.umask(0o077)
    try:
        done = call("clean_reports", *cleaning, "--out", out / "reports.parquet", "--funnel", out / "a.json")
        assert done.returncode == 0, done.stderr
        monkeypatch.setattr("sys.argv", ["", *map(str, building), "--out", str(out / "bert")])
        build_text_encoder.main()
    finally:
        os.umask(before)
    assert modes(tmp_path / "out") == {(False, 0o600), (True, 0o700)}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
