"""Our own files, damaged, exchanged or copied to the wrong place: what is read, and what is refused with its line."""

import io
import json
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
from helpers import make_mimic, write_text
from made_measures import measures_of
from refers.claims.claims import read_verdicts
from refers.data.adapters import adapter
from refers.data.index import read_index
from refers.data.mimic_studies import MimicStudies
from refers.data.source_check import Download, check_reports
from refers.data.splits import read_split
from refers.data.store import INDEX_DIGEST, open_store
from refers.errors import UserError
from refers.evaluation.cell_file import odd_input, read_cell, read_measured, read_test
from refers.evaluation.localisation import Maps, read_maps, write_maps
from refers.evaluation.predictions import read_runs, read_seeds
from refers.files import file_digest, read_object, write_parquet
from refers.provenance.run_files import read_pilot
from refers.provenance.ties import check_runs, record_of
from refers.reporting.rule_graph import read_csv
from refers.reporting.table_formats import FIELDS
from refers.reporting.table_formats import read_csv as read_table
from refers.text.report_files import read_cleaned

from field import Case, refused

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def script(name: str, *arguments: object) -> str:
    """What a script prints; a UserError where it ends with one line."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        if error.code != 1:
            raise
        raise UserError(err.getvalue().rstrip("\n")) from None
    finally:
        sys.argv = before
    return out.getvalue()


def json_file(name: str, content: object) -> Callable[[Path], Path]:
    """A JSON file of some content; of a text, that text."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


# ---- index and split: the one reader


INDEX = {
    **{name: ["a", "b"] for name in ("image_id", "patient_id", "study_id")},
    **{"path": ["a.png", "b.png"], "view": "frontal", "split": "", "width": [3, 3], "height": [4, 4]},
    "label:A": np.float32([0, 1]),
}


def index_with(**columns) -> Callable[[Path], Path]:
    """An index with these columns; None takes one away."""

    def make(folder: Path) -> Path:
        frame = pd.DataFrame(INDEX).assign(**columns)
        frame = frame.drop(columns=[name for name, values in columns.items() if values is None])
        write_parquet(folder / "index.parquet", frame)
        return folder / "index.parquet"

    return make


def no_rows(folder: Path) -> Path:
    path = index_with()(folder)
    write_parquet(path, pd.read_parquet(path).head(0))
    return path


def has_rows(found: pd.DataFrame) -> None:
    assert len(found) == 2


def named(path: Path) -> pd.DataFrame:
    return read_index(path, ["path", "width"])


def pointer(name: str) -> Callable[[Path], Path]:
    return json_file(name, POINTER)


def packed(path: Path) -> str:
    """pack_images.py on an index, which must leave nothing."""
    try:
        return script(
            "pack_images",
            *("--index", path, "--folder", path.parent, "--size", 8),
            *("--out", path.parent / "out/images.npy", "--manifest", path.parent / "out/images.json"),
        )
    finally:
        assert not (path.parent / "out").exists()


def checked(path: Path) -> str:
    """check_split.py on an index."""
    files = [path.parent / name for name in ("split.parquet", "images.npy", "check.json")]
    options = zip(("--split", "--store", "--out"), files, strict=True)
    return script(
        "check_split", "--index", path, "--dataset", "d", *(word for pair in options for word in pair)
    )


def store_of_another_index(folder: Path) -> Path:
    """A split and a store without a manifest, of two indexes."""
    np.save(folder / "images.npy", np.zeros((4, 2, 2), np.uint8))
    names = [*"abcd"]
    frame = pd.DataFrame({"row": range(4), "image_id": names, "patient_id": names, "label:A": np.float32(0)})
    frame["split"] = ["train", "train", "val", "test"]
    frame.attrs[INDEX_DIGEST] = "0" * 64
    write_parquet(folder / "split.parquet", frame)
    index_with()(folder)
    return folder / "index.parquet"


LISTS = [
    Case("an index", index_with(), named, has_rows),
    Case("an index without rows", no_rows, named, refused("index.parquet", "without rows")),
    *(
        Case(f"an index with {name}", index_with(**columns), named, refused("index.parquet", *words))
        for name, columns, words in (
            ("a label of 2", {"label:A": np.float32([0, 2])}, ("row 1", "label:A", "2.0")),
            ("dates for labels", {"label:A": pd.to_datetime(["2020-01-01", "2020-01-02"])}, ("row 0", "label:A")),
            ("text for labels", {"label:A": ["0", "1"]}, ("row 0", "label:A")),
            ("no path", {"path": None}, ("no column 'path'",)),
            ("a path that is NaN", {"path": ["a.png", None]}, ("row 1", "path")),
            ("a path twice", {"path": ["a.png", "a.png"]}, ("row 1", "path", "duplicated")),
            ("a path that leads out", {"path": ["a.png", "../b.png"]}, ("row 1", "path")),
            ("an image twice", {"image_id": ["a", "a"]}, ("row 1", "image_id", "duplicated")),
            ("numbers for patients", {"patient_id": [1, 2]}, ("row 0", "patient_id")),
            ("a width with a fraction", {"width": [3.5, 4.0]}, ("row 0", "width")),
            ("text for widths", {"width": ["3", "4"]}, ("row 0", "width")),
            ("an unknown view", {"view": "oblique"}, ("row 0", "view")),
        )
    ),
    Case("an index that is a git-lfs pointer", pointer("index.parquet"), named, refused("index.parquet", "git-lfs", "index_source.py")),
    Case("a split that is a git-lfs pointer", pointer("split.parquet"), read_split, refused("git-lfs", "split_dataset.py")),
    Case("an index with a path twice is not packed", index_with(path=["a.png", "a.png"]), packed, refused("row 1", "path")),
    Case("an index with a label of 2 is not packed", index_with(**{"label:A": [0, 2]}), packed, refused("row 1", "label:A")),
    Case("an index with dates is not checked", index_with(**{"label:A": pd.to_datetime([0, 1])}), checked, refused("row 0", "label:A")),
    Case("a split of another index, no manifest", store_of_another_index, checked, refused("images.npy", "another index")),
    Case("stores without a manifest", store_of_another_index, lambda path: len(open_store(path.with_name("images.npy"))), 4),
]  # fmt: skip


# ---- reports and tokens


def reports_with(**columns) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        frame = pd.DataFrame({"study_id": ["s1", "s2"], "patient_id": "p1", "text": "a b"}).assign(**columns)
        write_parquet(folder / "reports.parquet", frame)
        return folder / "reports.parquet"

    return make


SECRET = "bibasilar opacities"


def without_text(path: Path) -> None:
    """The cleaned reports; an error that shows the text of a report is not one that may be shown."""
    try:
        read_cleaned(path)
    except UserError as error:
        if SECRET in str(error):
            raise ValueError("the text of a report is shown") from error
        raise


def misfiled(folder: Path) -> Path:
    """A report below the folder of another patient than the images of its study."""
    make_mimic(folder)
    write_text(folder / "mimic-cxr-reports/files/p10/p10000099/s50000001.txt", "FINDINGS: a b c")
    return folder


def preflight(full: bool) -> Callable[[Path], tuple[str, bool]]:
    """State of the reports, and whether the next step names the report."""

    def look(folder: Path) -> tuple[str, bool]:
        from refers.config.study import Source

        entry = Source.model_construct(reports="*/*/*/*.txt", expected=None, origin="", layout="mimic")
        source = Download("mimic", entry, folder, [], [])
        line = check_reports(source, adapter("mimic")(folder)[0], full)
        return line["state"], "p10000099/s50000001.txt" in line["next"]

    return look


TOKENS = {
    "study_id": np.array(["s1", "s2"]),
    "tokens": np.array([[2, 5, 3], [2, 3, 0]], np.uint16),
    "swapped": np.array([[2, 6, 3], [2, 3, 0]], np.uint16),
    "lengths": np.array([3, 2], np.int16),
    "vocabulary": 9,
}


def tokens_with(cut: int = 0, **arrays) -> Callable[[Path], Path]:
    """A folder with an index, a store and these tokens; None takes an array away, `cut` the end of the file."""

    def make(folder: Path) -> Path:
        index = pd.DataFrame(INDEX).assign(study_id=["s1", "s2"], split=["train", "val"])
        write_parquet(folder / "index.parquet", index)
        np.save(folder / "images.npy", np.zeros((2, 4, 4), np.uint8))
        kept = {name: value for name, value in (TOKENS | arrays).items() if value is not None}
        np.savez(folder / "tokens.npz", **kept)
        content = (folder / "tokens.npz").read_bytes()
        (folder / "tokens.npz").write_bytes(content[: len(content) - cut])
        return folder

    return make


def studies(folder: Path) -> list[int]:
    return MimicStudies(
        *(folder / name for name in ("index.parquet", "images.npy", "tokens.npz"))
    ).lengths.tolist()


def pointed(folder: Path) -> Path:
    return pointer("tokens.npz")(tokens_with()(folder)).parent


BLANK = np.zeros((2, 3), np.uint16)
TEXTS = [
    Case("a study twice in the reports", reports_with(study_id="s1"), read_cleaned, refused("reports.parquet", "row 1", "study_id", "clean_reports.py")),
    Case("a report that is no text", reports_with(text=[SECRET, None]), without_text, refused("reports.parquet", "row 1", "text")),
    Case("reports of another patient, full preflight", misfiled, preflight(True), ("broken", True)),
    Case("reports of another patient, quick preflight", misfiled, preflight(False), ("partial", False)),
    Case("tokens", tokens_with(), studies, [3, 2]),
    *(
        Case(f"tokens {name}", tokens_with(**given), studies, refused("tokens.npz", "tokenize_reports.py", *words))
        for name, given, words in (
            ("that are cut", {"cut": 60}, ()),
            ("without lengths", {"lengths": None}, ("lengths",)),
            ("outside the vocabulary", {"vocabulary": 4}, ("tokens", "vocabulary")),
            ("swapped outside the vocabulary", {"swapped": BLANK + np.uint16(9)}, ("swapped", "vocabulary")),
            ("below 0", {"tokens": np.array([[2, -5, 3], [2, 3, 0]])}, ("-5",)),
            ("with fractions", {"tokens": BLANK.astype(np.float32)}, ("float32",)),
            ("of fewer studies", {"tokens": BLANK[:1]}, ("2 studies",)),
            ("swapped of another width", {"swapped": BLANK[:, :2]}, ("swapped",)),
            ("longer than the table", {"lengths": np.array([4, 2])}, ("lengths",)),
            ("behind their length", {"lengths": np.array([2, 2])}, ("s1",)),
            ("of a study twice", {"study_id": np.array(["s1", "s1"])}, ("twice",)),
            ("as objects", {"study_id": np.array(["s1", None], object)}, ()),
        )
    ),
    Case("tokens that are a git-lfs pointer", pointed, studies, refused("tokens.npz", "git-lfs")),
]  # fmt: skip


# ---- predictions and their records


def predicted(seed: int, **columns) -> pd.DataFrame:
    names = [*"abcdef"]
    frame = pd.DataFrame({"split": ["test"] * 4 + ["val"] * 2, "image_id": names, "patient_id": names})
    scores = np.random.default_rng(seed).random(6)
    return frame.assign(**{"label:A": [0, 1, 0, 1, 0, 1], "score:A": scores} | columns)


def runs_with(change: Callable[[dict], object] = lambda records: None, records: bool = True, **columns):
    """Predictions of two seeds; `change` edits the records by seed before they are written."""

    def make(folder: Path) -> list[Path]:
        paths, found = [], {}
        for seed in (0, 1):
            path = folder / f"seed{seed}/predictions.parquet"
            write_parquet(path, predicted(seed, **columns))
            paths.append(path)
            found[seed] = {
                "script": "finetune.py",
                "settings": {"training": {"seed": seed, "steps": 5}},
                "seed": seed,
                "inputs": {"encoder": "e", "split": "s", "subset": "u"},
                "outputs": {"predictions": file_digest(path)},
                "cell": {"method": "refers", "dataset": "nih", "ratio": 1, "split": 0},
            }
        change(found)
        for path, record in zip(paths, found.values(), strict=True):
            if records:
                write_text(
                    path.with_name("run.json"), record if isinstance(record, str) else json.dumps(record)
                )
        return paths

    return make


def copied(*names: str, records: bool = True) -> Callable[[Path], list[Path]]:
    """Files of the first seed also stand under the second one."""

    def make(folder: Path) -> list[Path]:
        paths = runs_with(records=records)(folder)
        for name in names:
            (folder / "seed1" / name).write_bytes((folder / "seed0" / name).read_bytes())
        return paths

    return make


def cell(paths: list[Path]) -> str:
    """cell.py on two seeds, which must leave nothing where it refuses them."""
    folder = paths[0].parents[1]
    about = ["--method", "refers", "--dataset", "nih", "--ratio", 1, "--resamples", 9]
    about += ["--splits", 0, 0, "--seeds", 0, 1, "--out", folder / "cell/auc.json"]
    try:
        script("cell", "--predictions", *paths, *about)
    except UserError:
        assert not (folder / "cell").exists()
        raise
    return json.loads((folder / "cell/auc.json").read_text())["made_from"]


def tied(paths: list[Path]) -> dict:
    return check_runs(paths, [0, 0], [0, 1], {"method": "refers", "dataset": "nih", "ratio": 1})


def scores_of(paths: list[Path]) -> list:
    return [len(each.ids) for each in (read_seeds(paths).test, read_seeds(paths).val)]


def other(key: str, value: object, of: str = "cell") -> Callable[[dict], None]:
    """The record of the second seed has another value."""

    def change(records: dict) -> None:
        (records[1][of] if of else records[1])[key] = value

    return change


def cut(records: dict) -> None:
    records[1] = json.dumps(records[1])[:-20]


def listed(records: dict) -> None:
    records[1] = "[]"


MADE = {"encoder": ["e", "e"], "split": ["s", "s"], "subset": ["u", "u"]}
RUNS = [
    Case("two seeds", runs_with(), cell, MADE),
    Case("two seeds without records", runs_with(records=False), tied, {name: [None, None] for name in MADE}),
    Case("one file under two seeds", copied("predictions.parquet"), cell, refused("seed1/predictions.parquet", "another seed")),
    Case("one file under two seeds, no records", copied("predictions.parquet", records=False), cell, refused("seed1/predictions.parquet")),
    Case("one file and its record under two seeds", copied("predictions.parquet", "run.json"), tied, refused("seed1/predictions.parquet", "seed 0, not 1")),
    Case("one record under two seeds", copied("run.json"), tied, refused("seed1/predictions.parquet", "run.json", "finetune.py")),
    Case("equal scores of two seeds", runs_with(**{"score:A": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}), cell, refused("another seed")),
    Case("one constant score of two seeds", runs_with(**{"score:A": 0.5}), scores_of, [4, 2]),
    *(
        Case(f"predictions of another {key}", runs_with(other(key, value)), cell, refused("seed1", key, repr(value)))
        for key, value in (("dataset", "shenzhen"), ("ratio", 10), ("method", "c2l"), ("split", 1))
    ),
    Case("predictions of another seed", runs_with(other("seed", 7, "")), cell, refused("seed1", "seed 7")),
    *(
        Case(f"predictions with another {name}", runs_with(other(name, "x", "inputs")), cell, refused("seed1", name, "finetune.py"))
        for name in ("encoder", "split", "subset")
    ),
    Case("predictions with other settings", runs_with(other("steps", 9, "settings")), cell, refused("seed1", "settings")),
    Case("a record that is cut", runs_with(cut), cell, refused("seed1/run.json")),
    Case("a record that is a list", runs_with(listed), cell, refused("seed1/run.json", "list")),
    Case("a record without outputs", runs_with(lambda records: records[1].pop("outputs")), cell, refused("seed1/run.json", "outputs")),
    *(
        Case(f"predictions with {name}", runs_with(**{column: values}), cell, refused("predictions.parquet", *words))
        for name, column, values, words in (
            ("text for scores", "score:A", [*"101010"], ("score:A",)),
            ("a score that is NaN", "score:A", [0.1, np.nan, 0.3, 0.4, 0.5, 0.6], ("row 1", "score")),
            ("a score above 1", "score:A", [0.1, 0.2, 0.3, 0.4, 0.5, 1.5], ("row 5", "1.5")),
            ("a label of 2", "label:A", [0, 1, 2, 1, 0, 1], ("row 2", "label")),
            ("an image without a name", "image_id", ["a", None, *"cdef"], ("row 1", "image_id")),
            ("an image twice", "image_id", [*"aacdef"], ("a is duplicated",)),
            ("an unknown set", "split", ["train"] * 6, ("train",)),
        )
    ),
    Case("predictions that are a git-lfs pointer", lambda folder: [pointer("predictions.parquet")(folder)], scores_of, refused("git-lfs")),
]  # fmt: skip


def one_row_less(folder: Path) -> list[Path]:
    """The second seed lacks an image of the first."""
    paths = runs_with()(folder)
    write_parquet(paths[1], predicted(1).drop(index=3))
    return paths


def sorted_runs(paths: list[Path]) -> list:
    return read_runs(paths, [0, 0], [0, 1])


RUNS.append(Case("predictions with a row less", one_row_less, sorted_runs, refused("seed1", "image d")))


# ---- cells, tests, claims, rules


AUC = {
    **{"method": "refers", "dataset": "nih", "ratio": 1, "classes": ["A"], "splits": [0, 0], "seeds": [0, 1]},
    "test": {
        **{"images": 4, "mean_auc": [0.5, 0.75], "mean": 0.625, "sd": 0.1, "undefined": []},
        "per_class": {"A": {"positives": 2, "negatives": 2}},
    },
    "validation": {"mean": 0.5},
}
TEST = {
    **{"reference": "refers", "baseline": "c2l", "dataset": "nih", "ratio": 1, "difference": 0.1},
    **{"reference_auc": [0.5], "baseline_auc": [0.4], "student": {"p": 0.5}},
}


def auc_with(**test) -> dict:
    return AUC | {"test": {name: value for name, value in (AUC["test"] | test).items() if value != "absent"}}


def outcome(content: dict) -> None:
    assert content


def measures_with(**brier) -> dict:
    found = measures_of("refers", 0.5, 0.1, 0.2, 0.6)
    return found | {"measures": found["measures"] | {"brier": found["measures"]["brier"] | brier}}


FILES = [
    Case("measures.json", json_file("measures.json", measures_with()), lambda path: read_measured(path, "measures"), outcome),
    Case("measures.json with an empty interval", json_file("measures.json", measures_with(interval=[])), lambda path: read_measured(path, "measures"), refused("measures.json", "interval", "measures.py")),
    Case("auc.json", json_file("auc.json", AUC), read_cell, outcome),
    *(
        Case(f"auc.json {name}", json_file("auc.json", content), read_cell, refused("auc.json", "cell.py", *words))
        for name, content, words in (
            ("that is cut", json.dumps(AUC)[:-9], ()),
            ("that is a list", [], ("list",)),
            ("that is deeply nested", "[" * 100_000, ()),
            ("without its test set", {name: AUC[name] for name in AUC if name != "test"}, ("test",)),
            ("without mean_auc", auc_with(mean_auc="absent"), ("mean_auc",)),
            ("with fewer AUCs than seeds", auc_with(mean_auc=[0.5]), ("mean_auc",)),
            ("with text for AUCs", auc_with(mean_auc=["a", "b"]), ("mean_auc",)),
            ("with an AUC above 1", auc_with(mean_auc=[0.5, 50.0]), ("mean_auc",)),
            ("with NaN", json.dumps(auc_with(mean=float("nan"))), ("NaN",)),
            ("without counts", auc_with(per_class={"A": {}}), ("positives",)),
            ("of classes that it lacks", auc_with(per_class={}), ("A",)),
            ("of one split only", AUC | {"splits": [0]}, ("splits",)),
        )
    ),
    Case("a t-test", json_file("test.json", TEST), read_test, outcome),
    Case("a t-test without AUCs", json_file("test.json", TEST | {"reference_auc": None}), read_test, refused("test.json", "ttest.py")),
    Case("a t-test that is cut", json_file("test.json", json.dumps(TEST)[:-4]), read_test, refused("test.json", "ttest.py")),
    Case("a t-test without p", json_file("test.json", TEST | {"student": {}}), read_test, refused("test.json", "p")),
    Case("a plan that is a list", json_file("plan.json", []), lambda path: read_object(path, "plan"), refused("plan.json", "plan.py")),
    Case("claims with another header", json_file("claims.csv", "a,b\n1,2\n"), read_verdicts, refused("claims.csv", "claims.py")),
    Case("claims that are no text", lambda folder: (folder / "claims.csv").write_bytes(b"\xff\xfe") and folder / "claims.csv", read_verdicts, refused("claims.csv", "claims.py")),
    Case("rules with another header", json_file("rules.csv", "a,b\n1,2\n"), read_csv, refused("rules.csv", "rule_graph.py")),
    Case("rules in a circle", json_file("rules.csv", "rule,stage,needs\na,s,b\nb,s,a\n"), read_csv, refused("rules.csv")),
    Case("rules that need another", json_file("rules.csv", "rule,stage,needs\na,s,b\n"), read_csv, refused("rules.csv")),
]  # fmt: skip


# ---- metrics, pilots, maps, features


def curve(folder: Path) -> Path:
    """metrics.jsonl beside the record of another training."""
    line = json.dumps({"step": 1, "train": {"loss": 0.5}}) + "\n"
    record = {
        "script": "pretrain.py",
        "settings": {},
        "seed": 0,
        "inputs": {},
        "outputs": {"metrics": "0" * 64},
    }
    write_text(folder / "run.json", json.dumps(record | {"method": "c2l"}))
    write_text(folder / "metrics.jsonl", line)
    return folder / "metrics.jsonl"


def drawn(path: Path) -> str:
    """figure.py on one training curve, which must leave no figure."""
    method = {"id": "refers", "title": "REFERS", "status": ""}
    spec = {"kind": "curves", "title": "t", "note": "", "methods": [method], "sources": ["refers"]}
    try:
        return script(
            "figure", "--spec", json.dumps(spec), "--inputs", path, "--out", path.parent / "out/f.pdf"
        )
    finally:
        assert not (path.parent / "out").exists()


def record_of_curve(path: Path) -> dict:
    os.replace(path.with_name("run.json"), path.with_name("other.json"))
    return record_of(path, "metrics")


PILOT = {
    **{"method": "c2l", "steps": 4, "batch_size": 2, "trivial": 1.0, "ties": [], "edge": False},
    "candidates": [{"name": "adam", "lr": 0.001, "loss": 0.5, "diverged": None}],
    **{"chosen": {"name": "adam", "lr": 0.001}, "settings": {"pretrain": {}}, "inputs": {}},
}


def maps_with(
    overlap: str = "", cut: int = 0, drop: str = "", **changes
) -> Callable[[Path], tuple[Path, Path]]:
    def make(folder: Path) -> tuple[Path, Path]:
        path, beside = folder / "maps.npz", folder / "iou.csv"
        beside.write_text("image_id,class,score,iou,area\na,Mass,0.5,0.5,0.5\n")
        box = [[1.0, 1.0, 2.0, 2.0]]
        fact = {"image_id": "a", "class": "Mass", "score": 0.5, "iou": 0.5, "red": box, "green": box}
        found = Maps(np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.float16), [fact], {})
        write_maps(path, found._replace(about={"overlap": file_digest(beside)})._replace(**changes))
        if drop:
            with np.load(path) as opened:
                np.savez(path, **{name: opened[name] for name in opened.files if name != drop})
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - cut])
        if overlap:
            beside.write_text(beside.read_text() + overlap)
        return path, beside

    return make


def maps_of(files: tuple[Path, Path]) -> tuple:
    return read_maps(*files).images.shape


NOTED = [
    Case("metrics of another training", curve, drawn, refused("metrics.jsonl", "run.json", "pretrain.py")),
    Case("metrics without a record", curve, record_of_curve, {}),
    Case("a pilot", json_file("c2l.json", PILOT), read_pilot, outcome),
    Case("a pilot that is cut", json_file("c2l.json", json.dumps(PILOT)[:-9]), read_pilot, refused("c2l.json", "pilot.py")),
    Case("a pilot that is a list", json_file("c2l.json", [PILOT]), read_pilot, refused("c2l.json", "pilot.py")),
    Case("a pilot that chose nothing it tried", json_file("c2l.json", PILOT | {"candidates": []}), read_pilot, refused("c2l.json", "pilot.py")),
    Case("a pilot with text for a loss", json_file("c2l.json", PILOT | {"candidates": [PILOT["candidates"][0] | {"loss": "x"}]}), read_pilot, refused("c2l.json", "pilot.py")),
    Case("maps", maps_with(), maps_of, (1, 8, 8)),
    *(
        Case(f"maps {name}", maps_with(**given), maps_of, refused("maps.npz", "attend.py", *words))
        for name, given, words in (
            ("that are cut", {"cut": 90}, ()),
            ("without facts", {"drop": "facts"}, ("facts",)),
            ("without their origin", {"drop": "about"}, ("about",)),
            ("of other overlaps", {"overlap": "b,Mass,0.5,0.5,0.5\n"}, ("iou.csv",)),
            ("above 1", {"maps": np.full((1, 8, 8), 2, np.float16)}, ("[0, 1]",)),
            ("of another size", {"maps": np.zeros((1, 4, 4), np.float16)}, ("(1, 4, 4)",)),
            ("with fewer facts", {"facts": []}, ("0 descriptions",)),
            ("with facts of another kind", {"facts": [{}]}, ()),
        )
    ),
]  # fmt: skip


def features_with(change: Callable[[dict], object] = lambda record: None, bias: float = 0) -> Callable:
    """Features of 12 images with their record, and a split and a subset; `bias` is added to the features afterwards."""

    def make(folder: Path) -> Path:
        values = np.random.default_rng(0).random((12, 3), np.float32)
        np.save(folder / "f.npy", values)
        record = {"script": "extract_features.py", "settings": {}, "seed": 0}
        record |= {
            "inputs": {"encoder": "e" * 64, "index": "1" * 64},
            "outputs": {"features": file_digest(folder / "f.npy")},
        }
        change(record)
        (folder / "f.json").write_text(json.dumps(record))
        np.save(folder / "f.npy", values + np.float32(bias))
        names = [f"i{row:02d}" for row in range(12)]
        frame = pd.DataFrame({"row": range(12), "image_id": names, "patient_id": names})
        frame = frame.assign(
            split=["train", "val", "test"] * 4, **{"label:A": np.float32([0, 0, 0, 1, 1, 1] * 2)}
        )
        frame.attrs[INDEX_DIGEST] = "1" * 64
        write_parquet(folder / "split.parquet", frame)
        frame[frame["split"] == "train"][["row", "image_id"]].to_csv(folder / "subset.csv", index=False)
        return folder

    return make


def probed(folder: Path) -> dict:
    """Inputs in the record of a probe, which must leave nothing where it is refused."""
    files = [
        "--features",
        folder / "f.npy",
        "--split",
        folder / "split.parquet",
        "--subset",
        folder / "subset.csv",
    ]
    files += ["--cell", "refers", "nih", 1, 0, "--out", folder / "out"]
    try:
        script("probe", "--config", json.dumps({"labels": "own"}), *files)
    except UserError:
        assert not (folder / "out").exists()
        raise
    record = json.loads((folder / "out/run.json").read_text())
    return {"cell": record["cell"], "encoder": record["inputs"]["encoder"]}


def of_another_index(record: dict) -> None:
    record["inputs"]["index"] = "2" * 64


def subset(text: str) -> Callable[[Path], Path]:
    """Features and split beside another subset."""

    def make(folder: Path) -> Path:
        features_with()(folder)
        (folder / "subset.csv").write_text(text)
        return folder

    return make


OF_CELL = {"method": "refers", "dataset": "nih", "ratio": 1, "split": 0}
PROBES = [
    Case("features", features_with(), probed, {"cell": OF_CELL, "encoder": "e" * 64}),
    Case("features of another index than the split", features_with(of_another_index), probed, refused("f.npy", "another index", "extract_features.py")),
    Case("features beside another record", features_with(bias=1), probed, refused("f.npy", "f.json", "extract_features.py")),
    Case("a record of features that is a list", lambda folder: json_file("f.json", [])(features_with()(folder)).parent, probed, refused("f.json", "list")),
    Case("features that are a git-lfs pointer", lambda folder: pointer("f.npy")(features_with()(folder)).parent, probed, refused("f.npy", "extract_features.py")),
    Case("a subset with the rows of other images", subset("row,image_id\n3,i00\n0,i03\n"), probed, refused("subset.csv", "i00", "split.parquet")),
    Case("a subset whose seeds have another name", subset("row,image_id,sead\n0,i00,0\n3,i03,1\n"), probed, refused("subset.csv", "row 1", "sead", "label_subset.py")),
    Case("a subset with a value less", subset("row,image_id,seed\n0,i00,0\n3,i03\n"), probed, refused("subset.csv", "row 3", "label_subset.py")),
    Case("a subset with a value more", subset("row,image_id\n0,i00,0\n3,i03\n"), probed, refused("subset.csv", "row 2", "label_subset.py")),
    Case("a subset with half a seed", subset("row,image_id,seed\n0,i00,0\n3,i03,0.5\n"), probed, refused("subset.csv", "row 3", "0.5", "label_subset.py")),
]  # fmt: skip


# ---- what tables, plans and the page read


def table_of_split(digest: str) -> Callable[[Path], Path]:
    """auc.json of two methods, the second one's runs of another split or of the same."""

    def make(folder: Path) -> Path:
        for method, split in (("refers", "s"), ("c2l", digest)):
            made = {"made_from": {"split": [split] * 2, "subset": ["u", None]}}
            json_file(f"{method}.json", AUC | made | {"method": method})(folder)
        return folder

    return make


def odd(folder: Path) -> str:
    return odd_input(*(read_cell(folder / f"{method}.json") for method in ("refers", "c2l")))


def planned(path: Path) -> str:
    return script("plan", "--config", "{}", "--steps", path, "--out", path.parent / "plan/plan.json")


READ = [
    Case("cells of one split", table_of_split("s"), odd, ""),
    Case("cells of two splits", table_of_split("t"), odd, "split 0"),
    Case("a table with another header", json_file("table.csv", "a,b\n"), read_table, refused("table.csv", "row 1", "table.py")),
    Case("a table that is cut", json_file("table.csv", ",".join(FIELDS) + "\na,b\n"), read_table, refused("table.csv", "row 2", "table.py")),
    Case("a table that is no text", lambda folder: (folder / "table.csv").write_bytes(b"\xff") and folder / "table.csv", read_table, refused("table.csv", "table.py")),
    Case("step costs that are cut", json_file("steps.json", '{"steps": {'), planned, refused("steps.json", "calibrate.py")),
    Case("step costs without speeds", json_file("steps.json", {"steps": {}}), planned, refused("steps.json", "speeds", "calibrate.py")),
    Case("step costs that are numbers", json_file("steps.json", {"steps": {"a": 1}, "speeds": {}}), planned, refused("steps.json", "calibrate.py")),
]  # fmt: skip

CASES = [*LISTS, *TEXTS, *RUNS, *FILES, *NOTED, *PROBES, *READ]
