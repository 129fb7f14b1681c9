"""Tables, lists and results that were damaged or re-saved on the way: what is read, and what is refused with its line."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from helpers import COVID, COVID_ROWS, DOWNLOADS, NIH_ROWS, write_text
from refers.data.adapters import adapter, read_boxes
from refers.data.index import read_index
from refers.data.released_lists import read_list
from refers.data.splits import read_split, read_subset
from refers.evaluation.predictions import read_seeds
from refers.evaluation.statistics import Bootstrap
from refers.provenance.run_files import read_metrics
from refers.text.report_files import read_reports

from field import Case, refused

NIH, BOXES = "Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"
JPG = "mimic-cxr-jpg/mimic-cxr-2.0.0-"
CHEXPERT, METADATA = f"{JPG}chexpert.csv.gz", f"{JPG}metadata.csv.gz"


# ---- official tables


def edited(layout: str, file: str, change: Callable[[str], str]) -> Callable[[Path], Path]:
    """A small download of a layout with one of its tables changed."""

    def make(folder: Path) -> Path:
        path = DOWNLOADS[layout](folder) / file
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        write_text(path, change(text.decode()))
        return folder

    return make


def line(number: int, change: Callable[[str], str]) -> Callable[[str], str]:
    """A change of one line of a text, counted from 1."""

    def all_lines(text: str) -> str:
        lines = text.split("\n")
        return "\n".join([*lines[: number - 1], change(lines[number - 1]), *lines[number:]])

    return all_lines


def less(text: str) -> str:
    return text.replace(",", "", 1)


def more(text: str) -> str:
    return text.replace(",", ",,", 1)


def flipped(folder: Path) -> Path:
    """One byte in the middle of a gzipped table is another one."""
    path = DOWNLOADS["mimic"](folder) / METADATA
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    return folder


def unpacked(folder: Path) -> Path:
    """The tables were unpacked on the way and kept their names."""
    for path in DOWNLOADS["mimic"](folder).glob("*/*.csv.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))
    return folder


def swap(row: str) -> str:
    values = row.split(",")
    values[3], values[4] = values[4], values[3]
    return ",".join(values)


def exchanged(folder: Path) -> Path:
    """The values of NIH's columns of patient and age are exchanged in every row."""
    path = DOWNLOADS["nih"](folder) / NIH
    head, *rows = path.read_text().splitlines()
    write_text(path, "\n".join([head, *map(swap, rows)]))
    return folder


def boxes_of_fewer_values(folder: Path) -> Path:
    """The official table of boxes: blank names at the end of the header only."""
    DOWNLOADS["nih"](folder)
    row = f"{NIH_ROWS[2][0]},Mass,0,0,512,512\n"
    write_text(folder / BOXES, "Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + row)
    return folder


def with_boxes(patient: str, twice: bool = False) -> Callable[[Path], Path]:
    """A box of an image that is there, perhaps twice, and one of an image of another patient."""

    def make(folder: Path) -> Path:
        DOWNLOADS["nih"](folder)
        row = f"{NIH_ROWS[2][0]},Mass,0,0,512,512,,,\n"
        rows = row * 2 if twice else f"{row}{patient}_000.png,Mass,0,0,512,512,,,\n"
        write_text(folder / BOXES, "Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + rows)
        return folder

    return make


def covid_with_notes(folder: Path) -> Path:
    """A wrong finding behind notes of several lines and a blank line."""
    DOWNLOADS["covid"](folder)
    rows = ['1,0,M,6,SARS,PA,X-ray,,a.jpg,"notes of\n\nthree lines",', "", "2,0,M,6,COVD,PA,X-ray,,b.png,,"]
    write_text(folder / "metadata.csv", COVID + "\n".join(rows) + "\n")
    return folder


def pipe(make: Callable[[Path], Path], file: str) -> Callable[[Path], Path]:
    """A pipe, which nothing ends, in the place of a file."""

    def replaced(folder: Path) -> Path:
        made = make(folder)
        (folder / file).unlink()
        os.mkfifo(folder / file)
        return made

    return replaced


def nih(folder: Path):
    return adapter("nih")(folder)


def mimic(folder: Path):
    return adapter("mimic")(folder)


def boxes(folder: Path) -> int:
    return len(read_boxes("nih", folder, nih(folder)[0]))


def vinbigdata(folder: Path):
    return adapter("vinbigdata")(folder)


def boxes_of_vinbigdata(folder: Path) -> int:
    return len(read_boxes("vinbigdata", folder, vinbigdata(folder)[0]))


def texts(folder: Path) -> list[str]:
    return [report.text for report in read_reports(folder)]


def a_report(folder: Path) -> Path:
    write_text(folder / "files/p10/p10000032/s50000001.txt", "IMPRESSION: No effusion.")
    return folder


def a_list(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_text(folder / "test.txt", "".join(f"{name} 0 1\n" for name in names))
        return folder / "test.txt"

    return make


def names_of(path: Path) -> list[str]:
    return read_list(path, 2)[0]


def has(place: str, number: int) -> Callable[[tuple], None]:
    """A count of an adapter, or among what it passed over."""

    def expect(found: tuple) -> None:
        assert (found[1]["skipped"] | found[1]).get(place, 0) == number

    return expect


def in_line(number: int, old: str, new: str) -> Callable[[str], str]:
    return line(number, lambda row: row.replace(old, new))


def has_unlabelled(number: int) -> Callable[[tuple], None]:
    def expect(found: tuple) -> None:
        assert found[1].get("studies_without_labels", 0) == number

    return expect


def has_images(number: int) -> Callable[[tuple], None]:
    def expect(found: tuple) -> None:
        assert len(found[0]) == number

    return expect


OFFICIAL = [
    *(
        Case(f"{name} of {layout}", edited(layout, file, line(2, change)), adapter(layout), refused(Path(file).name, "row 2"))
        for layout, file in (
            ("nih", NIH), ("vinbigdata", "train.csv"), ("shenzhen", "shenzhen_metadata.csv"), ("covid", "metadata.csv"),
            ("mimic", METADATA), ("mimic", f"{JPG}split.csv.gz"),
        )
        for name, change in ((f"a comma less in {Path(file).stem}", less), (f"a comma more in {Path(file).stem}", more))
    ),
    Case("a comma less between labels", edited("mimic", CHEXPERT, line(2, lambda row: row.replace("1.0,0.0", "1.00.0"))), mimic, refused("chexpert", "row 2")),
    Case("the table of labels ends early", edited("mimic", CHEXPERT, lambda text: "\n".join(text.split("\n")[:2])), mimic, has_unlabelled(1)),
    Case("the whole table of labels", DOWNLOADS["mimic"], mimic, has_unlabelled(0)),
    Case("labels of another subject", edited("mimic", CHEXPERT, line(2, lambda row: row.replace("10000032", "10000033"))), mimic, refused("chexpert", "row 2", "50000001")),
    Case("patient and age exchanged", exchanged, nih, refused(NIH, "row 2", "00000001_000.png")),
    Case("a damaged byte in a gzipped table", flipped, mimic, refused("metadata.csv.gz")),
    Case("gzipped tables that are unpacked", unpacked, mimic, has_images(3)),
    Case("a column twice", edited("nih", NIH, lambda text: text.replace("Follow-up #", "Patient ID", 1)), nih, refused("row 1", "Patient ID")),
    Case("an open quotation mark", edited("nih", NIH, line(3, lambda row: row.replace(",", ',"', 1))), nih, refused(NIH)),
    Case("boxes without the header's last commas", boxes_of_fewer_values, boxes, 1),
    Case("a row of boxes twice", with_boxes("", twice=True), boxes, 1),
    Case("a box of an unknown image", with_boxes("00000003"), nih, has(f"box of an image not in {NIH}", 1)),
    Case("a view that NIH does not have", edited("nih", NIH, in_line(3, ",AP,", ",A,")), nih, refused(NIH, "row 3", "'A'")),
    Case("no finding beside a class", edited("nih", NIH, in_line(2, "Cardiomegaly|Hernia", "No Finding|Cardiomegaly")), nih, refused(NIH, "row 2", "No Finding|Cardiomegaly")),
    *(
        Case(f"a COVID finding that is {finding!r}", edited("covid", "metadata.csv", in_line(2, "COVID-19", finding)), adapter("covid"), refused("metadata.csv", "row 2", finding.strip('"')))
        for finding in ("No COVID-19", '"Pneumonia, no COVID-19"', "no viral pneumonia", "No Finding/COVID-19", "/")
    ),
    Case("a COVID finding in capitals", edited("covid", "metadata.csv", lambda text: text.replace("No Finding", "NO FINDING")), adapter("covid"), has_images(len(COVID_ROWS))),
    Case("view and modality exchanged", edited("covid", "metadata.csv", in_line(2, "PA,X-ray", "X-ray,PA")), adapter("covid"), refused("metadata.csv", "row 2", "PA")),
    Case("a view that the collection does not have", edited("covid", "metadata.csv", in_line(2, "PA,", "AB,")), adapter("covid"), refused("metadata.csv", "row 2", "AB")),
    Case("a row of a radiologist twice", edited("vinbigdata", "train.csv", line(3, lambda row: f"{row}\n{row}")), boxes_of_vinbigdata, 1),
    Case("images of one and two radiologists", DOWNLOADS["vinbigdata"], vinbigdata, has("images_of_other_than_three_readers", 2)),
    Case("a control character", edited("mimic", METADATA, in_line(2, "LATERAL", "LATE\0AL")), mimic, refused("metadata", "row 2", "control")),
    *(
        Case(f"a pipe as {file}", pipe(DOWNLOADS[layout], file), adapter(layout), refused(Path(file).name, "regular"))
        for layout, file in (("nih", NIH), ("nih", "test_list.txt"), ("mimic", METADATA), ("covid", "metadata.csv"))
    ),
    Case("a pipe as a report", pipe(a_report, "files/p10/p10000032/s50000001.txt"), texts, refused("s50000001.txt")),
    Case("a list", a_list("a.png", "b.png"), names_of, ["a.png", "b.png"]),
    Case("a list with a control character", a_list("a.png", "b\0.png"), names_of, refused("test.txt", "row 2")),
    Case("a pipe as a list", pipe(a_list("a.png"), "test.txt"), names_of, refused("test.txt", "regular")),
    Case("a row behind notes of several lines", covid_with_notes, adapter("covid"), refused("row 6", "COVD")),
]  # fmt: skip


# ---- index, split, subset


def an_index(folder: Path, labels) -> Path:
    frame = pd.DataFrame({"image_id": ["a", "b"], "view": "frontal", "label:A": labels})
    frame.to_parquet(folder / "index.parquet")
    return folder / "index.parquet"


def a_split(folder: Path, **columns) -> Path:
    names = ["a", "b", "c", "d"]
    frame = pd.DataFrame(
        {"row": range(4), "image_id": names, "patient_id": names, "split": ["train", "train", "val", "test"]}
    )
    frame.assign(**columns).to_parquet(folder / "split.parquet")
    return folder / "split.parquet"


def subset(text: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "subset.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        a_split(folder, **{"label:A": np.float32([0, 1, 0, 1])})
        return folder

    return make


def labels_of(path: Path) -> list:
    return read_index(path, ["image_id"])["label:A"].tolist()


def images_of(folder: Path) -> list:
    split = folder / "split.parquet"
    return read_subset(folder / "subset.csv", read_split(split), split)["image_id"].tolist()


DATES = pd.to_datetime(["2020-01-01", "2020-01-02"])
LISTS = [
    Case("labels of an index", lambda folder: an_index(folder, np.float32([1, -1])), labels_of, [1, -1]),
    Case("a label of 2", lambda folder: an_index(folder, np.float32([1, 2])), labels_of, refused("index.parquet", "row 1", "2.0")),
    Case("dates for labels", lambda folder: an_index(folder, DATES), labels_of, refused("index.parquet", "row 0")),
    Case("text for labels", lambda folder: an_index(folder, ["0", "1"]), labels_of, refused("index.parquet", "row 0")),
    Case("a split without labels", a_split, read_split, refused("split.parquet", "label:")),
    Case("a split with a label of 2", lambda folder: a_split(folder, **{"label:A": [0, 1, 2, 1]}), read_split, refused("row 2", "label:A")),
    Case("a split with dates", lambda folder: a_split(folder, **{"label:A": pd.to_datetime([0, 1, 0, 1])}), read_split, refused("row 0", "label:A")),
    Case("a pipe as an index", pipe(lambda folder: an_index(folder, [1, 0]), "index.parquet"), labels_of, refused("index.parquet")),
    Case("a subset", subset("row,image_id\n1,b\n"), images_of, ["b"]),
    Case("a subset without its column", subset("row,name\n1,b\n"), images_of, refused("subset.csv", "image_id")),
    Case("a subset without rows", subset("row,image_id\n"), images_of, refused("subset.csv")),
    Case("a subset of seeds without rows", subset("row,image_id,seed\n"), images_of, refused("subset.csv")),
    Case("an empty subset", subset(""), images_of, refused("subset.csv")),
    Case("a subset that is no text", subset(b"\xff\xfe\x00\x9d"), images_of, refused("subset.csv")),
    Case("an image twice in a subset", subset("row,image_id\n1,b\n1,b\n"), images_of, refused("subset.csv", "b")),
    Case("a blank image in a subset", subset("row,image_id\n1,\n"), images_of, refused("subset.csv")),
]  # fmt: skip


# ---- results


def predicted(**columns) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        about = {"split": ["test", "test", "val", "val"], "image_id": [*"abcd"], "patient_id": [*"abcd"]}
        frame = pd.DataFrame({**about, "label:A": [0, 1, 0, 1], "score:A": [0.1, 0.9, 0.2, 0.8]}).assign(
            **columns
        )
        frame.to_parquet(folder / "predictions.parquet")
        return folder / "predictions.parquet"

    return make


def doubled(folder: Path) -> Path:
    import pyarrow.parquet as pq

    path = predicted()(folder)
    table = pq.read_table(path)
    pq.write_table(table.append_column("score:A", table["score:A"]), path)
    return path


def scores_of(path: Path) -> list:
    return read_seeds([path]).test.scores[0].tolist()


def metrics(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "metrics.jsonl").write_text(text)
        return folder / "metrics.jsonl"

    return make


def steps_of(path: Path) -> list:
    return [record["step"] for record in read_metrics(path)]


def bootstrap(given: tuple) -> None:
    Bootstrap(*given)


GOOD = json.dumps({"step": 1, "train": {"loss": 0.5}}) + "\n"
RESULTS = [
    Case("predictions", predicted(), scores_of, [[0.1], [0.9]]),
    Case("scores that are text", predicted(**{"score:A": [*"1010"]}), scores_of, refused("predictions.parquet", "score:A")),
    Case("labels that are dates", predicted(**{"label:A": pd.to_datetime([0, 1, 0, 1])}), scores_of, refused("predictions.parquet", "label:A")),
    Case("a column of predictions twice", doubled, scores_of, refused("predictions.parquet", "score:A")),
    Case("metrics", metrics(GOOD), steps_of, [1]),
    Case("metrics cut within a line", metrics(GOOD + GOOD[:-9]), steps_of, refused("metrics.jsonl", "row 2")),
    Case("metrics of another kind", metrics("[1]\n"), steps_of, refused("metrics.jsonl", "row 1")),
    Case("metrics without a step", metrics('{"train": {"loss": 1}}\n'), steps_of, refused("metrics.jsonl", "row 1")),
    Case("metrics without a loss", metrics('{"step": 1, "train": {}}\n'), steps_of, refused("metrics.jsonl", "row 1")),
    Case("no metrics", metrics(""), steps_of, refused("metrics.jsonl")),
    Case("no resample", lambda folder: ([np.arange(3)], 0, 0), bootstrap, refused("0 resamples")),
    Case("a negative seed", lambda folder: ([np.arange(3)], 9, -1), bootstrap, refused("seed -1")),
]  # fmt: skip

CASES = [*OFFICIAL, *LISTS, *RESULTS]
