import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import write_dicom
from PIL import Image
from refers import files
from refers.data import images, store
from refers.data.mimic_studies import MimicStudies
from refers.data.store import WORK_FILES, index_of, open_store, pack, read_images, read_quarantine, verify
from refers.errors import UserError
from refers.files import file_digest
from refers.workers import process_pool

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/pack_images.py"
NAMES = [f"{row:02d}.png" for row in range(70)]
BAD = (5, 40, 41, 69)


@pytest.fixture
def folder(tmp_path):
    """Seventy images of one grey level each, and their index."""
    for row, name in enumerate(NAMES):
        Image.new("L", (12, 10), row * 3).save(tmp_path / name)
    pd.DataFrame({"path": NAMES}).to_parquet(tmp_path / "index.parquet")
    return tmp_path


def command(folder: Path, *extra: str) -> list:
    outputs = ["--out", folder / "images.npy", "--manifest", folder / "images.json"]
    return [sys.executable, SCRIPT, "--index", folder / "index.parquet", "--folder", folder, *outputs, *extra]


# A worker that comes to wait.png waits there for ever; forked workers keep the change.
WAITING = """
import multiprocessing, runpy, sys, threading
from refers.data import images
load = images.load_square
def wait(path, *more):
    if path.endswith("wait.png"):
        threading.Event().wait()
    return load(path, *more)
images.load_square = wait
multiprocessing.set_start_method("fork")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def script(folder: Path, *extra: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *extra), capture_output=True, text=True, check=False)


def packed(folder: Path, **options) -> dict:
    paths = [folder / name for name in NAMES]
    return pack(paths, 8, folder / "images.npy", folder / "quarantine.csv", **options)


def spoil(folder: Path, rows=BAD) -> None:
    for row in rows:
        (folder / NAMES[row]).write_bytes(b"not an image")


def work_files(folder: Path) -> list[Path]:
    return [path for suffix in WORK_FILES if (path := folder / f"images.npy{suffix}").exists()]


def decoded(monkeypatch) -> list[str]:
    """Names of the images that are decoded from now on, in this process."""
    seen, load = [], images.load_square
    monkeypatch.setattr(
        images, "load_square", lambda path, *more: (seen.append(Path(path).name), load(path, *more))[1]
    )
    return seen


def test_the_store_holds_row_i_of_the_index_whatever_the_workers(folder):
    digests = set()
    for workers in ("1", "3"):
        done = script(folder, "--size", "16", "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert "] 100 %, 70 of 70 images" in done.stdout.splitlines()[-1]
        rows = open_store(folder / "images.npy")
        assert rows.shape == (70, 16, 16)
        assert (rows == (np.arange(70, dtype=np.uint8) * 3)[:, None, None]).all()
        manifest = json.loads((folder / "images.json").read_text())
        assert (manifest["count"], manifest["size"], manifest["quarantined"]) == (70, 16, [])
        assert manifest["sha256"] == hashlib.sha256((folder / "images.npy").read_bytes()).hexdigest()
        assert manifest["index_sha256"] == hashlib.sha256((folder / "index.parquet").read_bytes()).hexdigest()
        digests.add(manifest["sha256"])
        assert not work_files(folder)
        assert not (folder / "quarantine.csv").exists()
    assert len(digests) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unreadable_images_are_counted_and_the_old_store_stays(folder, workers):
    assert script(folder, "--size", "8").returncode == 0
    before = (folder / "images.npy").read_bytes()
    spoil(folder)
    done = script(folder, "--size", "8", "--workers", workers)
    assert done.returncode == 1
    assert "4 of 70 images are unreadable" in done.stderr
    assert done.stderr.index("05.png") < done.stderr.index("40.png") < done.stderr.index("41.png")
    assert "and 1 more" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (folder / "images.npy").read_bytes() == before
    with open(folder / "quarantine.csv", newline="") as opened:
        listed = list(csv.DictReader(opened))
    assert [int(line["row"]) for line in listed] == list(BAD)
    assert all(line["path"].endswith(NAMES[int(line["row"])]) and line["reason"] for line in listed)


def test_after_the_repair_of_an_image_only_its_chunk_is_decoded_again(folder, monkeypatch):
    whole = packed(folder)
    original = (folder / NAMES[40]).read_bytes()
    spoil(folder, [40])
    with pytest.raises(UserError, match=r"row 40: .*40\.png.*raise images\.tolerance"):
        packed(folder)
    (folder / NAMES[40]).write_bytes(original)
    seen = decoded(monkeypatch)
    assert packed(folder) == whole
    assert seen == NAMES[32:48]
    assert not (folder / "quarantine.csv").exists()


def test_a_killed_run_is_taken_up_where_it_was(folder, monkeypatch):
    whole = packed(folder)
    (folder / "images.npy").unlink()

    def kill(done):
        if done == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(folder, progress=kill)
    assert len(work_files(folder)) == 2
    assert not (folder / "images.npy").exists()
    seen, heard = decoded(monkeypatch), []
    assert packed(folder, progress=heard.append) == whole
    assert seen == NAMES[64:]
    assert heard == [64, 70]
    assert not work_files(folder)


def test_a_run_ended_by_sigkill_is_taken_up_by_the_next(folder):
    assert script(folder, "--size", "8").returncode == 0
    whole = (folder / "images.npy").read_bytes()
    (folder / "images.npy").unlink()
    Image.new("L", (12, 10), 69 * 3).save(folder / "wait.png")
    names = [*NAMES[:-1], "wait.png"]
    pd.DataFrame({"path": names}).to_parquet(folder / "index.parquet")
    python, *words = command(folder, "--size", "8", "--workers", "2")
    run = subprocess.Popen(
        [python, "-c", WAITING, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parent)},
    )
    while "64 of 70" not in run.stdout.readline():
        assert run.poll() is None
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGKILL)
    run.stdout.read()  # ends when the last worker has gone, for each holds the pipe
    run.wait()
    assert children
    assert not any(Path(f"/proc/{child}/exe").exists() for child in children)
    done = script(folder, "--size", "8", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "64 of 70" in done.stdout.splitlines()[0]
    assert (folder / "images.npy").read_bytes() == whole


@pytest.mark.parametrize(
    "spoilt", ["rows", "last line", "short file", "other images", "other size", "no journal"]
)
def test_work_files_that_do_not_fit_are_not_believed(folder, monkeypatch, spoilt):
    whole = packed(folder)
    spoil(folder, [69])
    with pytest.raises(UserError):
        packed(folder)
    Image.new("L", (12, 10), 69 * 3).save(folder / NAMES[69])
    part, journal = work_files(folder)
    expected = NAMES
    if spoilt == "rows":
        np.load(part, mmap_mode="r+")[3] = 1
        expected = NAMES[:16] + NAMES[64:]
    elif spoilt == "last line":
        lines = journal.read_text().splitlines()
        journal.write_text("\n".join([*lines[:2], lines[2][:9]]))
        expected = NAMES[16:]
    elif spoilt == "short file":
        os.truncate(part, 500)
    elif spoilt == "other images":
        journal.write_text(json.dumps(store._key([str(folder / name) for name in NAMES[::-1]], 8)))
    elif spoilt == "other size":
        journal.write_text(json.dumps(store._key([str(folder / name) for name in NAMES], 16)))
    else:
        journal.unlink()
    seen = decoded(monkeypatch)
    assert packed(folder) == whole
    assert seen == expected


def test_bytes_that_the_disk_changed_are_noticed(folder, monkeypatch):
    check = store._check_quarantine

    def rot(*arguments):
        np.load(folder / "images.npy.part", mmap_mode="r+")[33] = 1
        check(*arguments)

    monkeypatch.setattr(store, "_check_quarantine", rot)
    with pytest.raises(UserError, match=r"images\.npy: rows 32 to 47 differ from what was written"):
        packed(folder)
    assert not (folder / "images.npy").exists()


def test_a_tolerated_image_is_black_named_and_left_out_by_split_and_pretraining(folder):
    spoil(folder)
    patients = write_index(folder)
    assert script(folder, "--size", "8", "--tolerance", "0.05").returncode == 1
    done = script(folder, "--size", "8", "--tolerance", "0.06", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "warning: 4 unreadable images are left out" in done.stdout
    assert read_quarantine(folder / "images.json") == list(BAD)
    assert (folder / "quarantine.csv").exists()
    rows = open_store(folder / "images.npy")
    assert not rows[list(BAD)].any()
    assert (rows[6] == 18).all()

    said = split(folder)
    assert said.returncode == 0, said.stderr
    assert "4 left out: unreadable image" in said.stdout
    assert json.loads((folder / "split.json").read_text())["left_out"] == {"unreadable image": 4}
    assert not set(pd.read_parquet(folder / "split.parquet")["row"]) & set(BAD)

    data = studies(folder, patients)
    assert data.quarantined == list(BAD)
    assert sorted(data.rows) == [row for row in range(70) if row not in BAD]
    assert {name: len(members) for name, members in data.splits.items()} == {"train": 57, "val": 9}


def write_index(folder: Path, reverse: bool = False) -> list[str]:
    """A whole index of the images, the last ten for validation; the patients, one per image."""
    patients = [f"p{row:02d}" for row in range(70)]
    columns = {
        "image_id": NAMES,
        "patient_id": patients,
        "study_id": patients,
        "path": NAMES,
        "view": "frontal",
    }
    frame = pd.DataFrame(columns).assign(split="train", **{"label:A": np.float32([0, 1] * 35)})
    frame.loc[60:, "split"] = "val"
    frame[:: -1 if reverse else 1].to_parquet(folder / "index.parquet", index=False)
    return patients


def split(folder: Path, script: str = "split_dataset.py") -> subprocess.CompletedProcess:
    """Draw a split of the index, or check the one that was drawn."""
    settings = json.dumps({"dataset": "toy", "kind": "random", "classes": ["A"], "views": ["frontal"]})
    files = ["--index", folder / "index.parquet"]
    if script == "split_dataset.py":
        files += ["--config", settings, "--manifest", folder / "images.json"]
        files += ["--out", folder / "split.parquet", "--report", folder / "split.json"]
    else:
        files += ["--split", folder / "split.parquet", "--store", folder / "images.npy"]
        files += ["--dataset", "toy", "--accept", "duplicates", "--out", folder / "check.json"]
    return subprocess.run(
        [sys.executable, SCRIPT.with_name(script), *files], capture_output=True, text=True, check=False
    )


def studies(folder: Path, patients: list[str]) -> MimicStudies:
    table = np.zeros((70, 4), np.uint16)
    arrays = {"study_id": np.array(patients), "tokens": table, "swapped": table}
    np.savez(folder / "tokens.npz", lengths=np.full(70, 4), vocabulary=9, **arrays)
    names = ("index.parquet", "images.npy", "tokens.npz", "images.json")
    return MimicStudies(*(folder / name for name in names))


def test_rows_of_another_index_are_refused_wherever_a_store_is_read(folder):
    patients = write_index(folder)
    assert script(folder, "--size", "8").returncode == 0
    assert split(folder).returncode == 0
    assert split(folder, "check_split.py").returncode == 0
    assert index_of(folder / "split.parquet") == file_digest(folder / "index.parquet")
    studies(folder, patients)
    # The images now have each other's labels.
    write_index(folder, reverse=True)
    for name in ("split_dataset.py", "check_split.py"):
        done = split(folder, name)
        assert done.returncode == 1
        assert "another index" in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(UserError, match=r"images\.npy: .*another index"):
        studies(folder, patients)
    # Nor is the index needed to see that a split was drawn from another one than the store's.
    (folder / "images.npy").unlink()
    assert script(folder, "--size", "8").returncode == 0
    with pytest.raises(UserError, match=r"images\.npy: .*another index"):
        open_store(folder / "images.npy", index_of(folder / "split.parquet"))


@pytest.mark.parametrize("byte", [40, 200, 4000, -1])
def test_a_damaged_store_is_noticed_even_under_its_old_date(folder, byte):
    assert script(folder, "--size", "8").returncode == 0
    path = folder / "images.npy"
    whole, before = bytearray(path.read_bytes()), path.stat()
    open_store(path)
    whole[byte] ^= 4
    with open(path, "rb+") as opened:
        opened.write(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"images\.npy: "):
        open_store(path)


def test_a_store_is_hashed_once(folder, monkeypatch):
    assert script(folder, "--size", "8").returncode == 0
    hashed, digest = [], files.file_digest
    monkeypatch.setattr(files, "file_digest", lambda path: (hashed.append(path), digest(path))[1])
    path = folder / "images.npy"
    # Packing knows the digest already.
    open_store(path)
    assert hashed == []
    os.utime(path)
    for _ in range(2):
        open_store(path)
    assert hashed == [path]


def test_remarks_of_the_decoder_are_counted_in_the_manifest(folder):
    paths = [
        write_dicom(folder / f"{row}.dcm", np.eye(8, dtype=np.uint16), WindowWidth=row) for row in range(3)
    ]
    for row, path in enumerate(paths):
        (folder / NAMES[row]).unlink()
        path.rename(folder / f"{row:02d}.dcm")
    names = [f"{row:02d}.dcm" for row in range(3)] + NAMES[3:]
    pd.DataFrame({"path": names}).to_parquet(folder / "index.parquet")
    done = script(folder, "--size", "8", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "images.json").read_text())["remarks"] == {images.WINDOW_IGNORED: 3}
    assert f"3 images: {images.WINDOW_IGNORED}" in done.stdout


@pytest.mark.parametrize("change", ["pixel", "count", "size", "index"])
def test_verification_finds_what_differs(folder, change):
    assert script(folder, "--size", "8").returncode == 0
    assert verify(folder / "images.npy", folder / "images.json")["count"] == 70
    assert script(folder, "--verify").stdout.count("70 images of 8 pixels") == 1
    if change == "pixel":
        np.load(folder / "images.npy", mmap_mode="r+")[3, 3, 3] ^= 1
    elif change == "index":
        pd.DataFrame({"path": NAMES[::-1]}).to_parquet(folder / "index.parquet")
    else:
        content = json.loads((folder / "images.json").read_text())
        (folder / "images.json").write_text(json.dumps(content | {change: 9}))
    done = script(folder, "--verify")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {folder / 'images.npy'}: ")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_is_one_line_and_no_store(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        packed(folder)
    assert not list(folder.glob("*.npy*"))


def wait_at(gate):
    with open(gate, "rb", buffering=0) as opened:
        opened.read(1)


def test_an_error_drops_the_jobs_that_have_not_begun(tmp_path):
    os.mkfifo(tmp_path / "gate")
    with open(tmp_path / "gate", "r+b", buffering=0) as gate:
        let_all_pass = partial(gate.write, b"x" * 9)
        rescue = threading.Timer(60, let_all_pass)  # where none is dropped, the test fails and does not hang
        rescue.start()
        with suppress(ZeroDivisionError), process_pool(1) as pool:
            jobs = [pool.submit(wait_at, gate.name) for _ in range(9)]
            jobs[-1].add_done_callback(lambda _: let_all_pass())
            raise ZeroDivisionError
        rescue.cancel()
    assert jobs[0].done()
    assert jobs[-1].cancelled()


def test_a_worker_that_was_killed_is_one_line():
    with pytest.raises(UserError, match=r"a worker was killed.*use fewer workers"), process_pool(1) as pool:
        pool.submit(os._exit, 9).result()


def test_a_file_that_is_no_store_is_refused(tmp_path):
    np.save(tmp_path / "floats.npy", np.zeros((2, 8, 8)))
    (tmp_path / "text.npy").write_text("hello")
    for name in ("floats.npy", "text.npy", "absent.npy"):
        with pytest.raises(UserError, match="pack_images"):
            open_store(tmp_path / name)


@pytest.mark.parametrize("damage", ["absent", "truncated", "text", "no lengths", "one array"])
def test_tokens_that_cannot_be_read_are_one_line(mimic, tmp_path, damage):
    tokens, path = mimic[2], tmp_path / "tokens.npz"
    if damage == "truncated":
        path.write_bytes(tokens.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "no lengths":
        with np.load(tokens) as arrays:
            np.savez(path, **{name: arrays[name] for name in arrays.files if name != "lengths"})
    elif damage == "one array":
        with open(path, "wb") as opened:
            np.save(opened, np.zeros(3))
    with pytest.raises(UserError, match=r"tokens\.npz: .*rerun tokenize_reports\.py"):
        MimicStudies(*mimic[:2], path)


@pytest.mark.parametrize("size", [1, 6, 64, 224])
def test_rows_are_read_as_they_are_in_any_order_and_number(tmp_path, size):
    written = np.random.default_rng(size).integers(0, 256, (40, size, size), np.uint8)
    np.save(tmp_path / "images.npy", written)
    mapped = open_store(tmp_path / "images.npy")
    for rows in ([39, 0, 7, 7], [*range(40)], [], [5]):
        for images_of in (mapped, written, mapped.copy(), mapped[:]):
            found = read_images(images_of, np.array(rows, np.int64))
            assert np.array_equal(found, written[np.array(rows, np.int64)])
            assert found.flags.writeable, "torch takes no other"
