import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import (
    CHEXPERT,
    COVID_ROWS,
    DOWNLOADS,
    METADATA,
    NIH_2017,
    NIH_2020,
    VBD,
    make_covid,
    make_mimic,
    make_nih,
    make_shenzhen,
    make_vinbigdata,
    write_image,
    write_text,
)
from hypothesis import given
from hypothesis import strategies as st
from refers.data import read_tables
from refers.data.adapters import adapter, read_boxes
from refers.data.index import summarise, validate_index
from refers.errors import UserError

SHARED = Path(__file__).parents[2] / "shared/data"
SCRIPT = Path(__file__).parents[1] / "workflow/scripts/index_source.py"
real = pytest.mark.skipif(not SHARED.exists(), reason="real data are not here")


@pytest.mark.parametrize("header", [NIH_2020, NIH_2017])
def test_nih_of_both_table_versions(tmp_path, header):
    frame, counts = adapter("nih")(make_nih(tmp_path, header, present=(2, 0)))
    assert frame["image_id"].tolist() == ["00000001_000.png", "00000002_000.png"]
    assert frame["patient_id"].tolist() == ["1", "2"]
    assert frame["split"].tolist() == ["train_val", "test"]
    assert frame["view"].tolist() == ["frontal", "frontal"]
    assert frame["path"][1] == "images_003/images/00000002_000.png"
    # the published files are squares, whatever sizes the table has
    assert (frame[["width", "height"]] == 1024).all(axis=None)
    positive = frame.filter(like="label:").T.idxmax()
    assert positive.tolist() == ["label:Cardiomegaly", "label:Pleural_Thickening"]
    assert frame.filter(like="label:").sum(axis=1).tolist() == [2, 1]
    assert counts == {"missing_images": 1, "skipped": {}}


def test_nih_reads_the_older_table_alone_and_counts_unlisted_images(tmp_path):
    make_nih(tmp_path)
    (tmp_path / "Data_Entry_2017_v2020.csv").rename(tmp_path / "Data_Entry_2017.csv")
    write_image(tmp_path / "images_001/images/99999999_000.png")
    write_image(tmp_path / "images_012/images/00000001_000.png")
    frame, counts = adapter("nih")(tmp_path)
    assert len(frame) == 3
    assert frame["path"][0] == "images_001/images/00000001_000.png"
    assert counts["skipped"] == {"image not in Data_Entry_2017.csv": 1, "same image in a later folder": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Cardiomegaly|Hernia",
            "Cardiomegaly|Cold",
            r"v2020.csv: row 2: 'Cardiomegaly\|Cold' is not a finding",
        ),
        ("00000001_001.png", "00000001_000.png", "row 3: '00000001_000.png' is listed twice"),
        ("2500,2048", "2500,wide", "row 4: 'wide' is not a valid height"),
        ("Patient ID", "Patient", "row 1: no column 'Patient ID'"),
        (",0,2,80,F", ",0,,80,F", "row 4: '00000002_000.png' has no Patient ID"),
    ],
)
def test_nih_names_file_and_row(tmp_path, old, new, message):
    make_nih(tmp_path)
    path = tmp_path / "Data_Entry_2017_v2020.csv"
    write_text(path, path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        adapter("nih")(tmp_path)


def test_nih_archives_beside_what_was_unpacked_from_them_do_no_harm(tmp_path):
    plain = adapter("nih")(make_nih(tmp_path))
    (tmp_path / "images_001.tar.gz").write_bytes(b"archive")
    again = adapter("nih")(tmp_path)
    assert again[0].equals(plain[0])
    assert again[1] == plain[1]


@pytest.mark.parametrize(
    ("layout", "table", "old", "new"),
    [
        ("nih", "Data_Entry_2017_v2020.csv", "1.png,No Finding,1,1,", "1.png ,No Finding,1,01,"),
        ("vinbigdata", "train.csv", "b,Nodule/Mass", "b ,Nodule/Mass"),
        ("shenzhen", "shenzhen_metadata.csv", "CHNCXR_0662_1.png,", " CHNCXR_0662_1.png ,"),
        ("covid", "metadata.csv", "\n2,3,M,65,", "\n2.0,3 ,M,65,"),
        ("mimic", "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "d1,10000032,", "d1 ,010000032,"),
    ],
)
def test_an_id_in_another_spelling_is_the_same_id(tmp_path, layout, table, old, new):
    """Blanks around it, zeros before a number, and a number saved as a float where ids need not be numbers."""
    folder = DOWNLOADS[layout](tmp_path)
    plain = adapter(layout)(folder)[0]
    path = folder / table
    content = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    assert old in content
    write_text(path, content.replace(old, new))
    pd.testing.assert_frame_equal(adapter(layout)(folder)[0], plain)


VALUES = [
    "",
    "a",
    "b c",
    " a ",
    "1.0",
    '"a, b"',
    '" a"',
    '""',
    '"a""b"',
    '"a\nb"',
    'a"',
    '"a" ',
    "é",
    "\ufffd",
    "\0",
    "\t",
]
BROKEN = ["\n", "\r", ",", '"', " ", "\ufeff", "\x7f"]


@given(
    st.lists(st.lists(st.sampled_from([*VALUES[:8] * 4, *VALUES[8:]]), min_size=3, max_size=3), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(BROKEN)), max_size=2),
)
def test_a_plain_table_is_read_as_every_other(tmp_path_factory, rows, end, is_ended, broken):
    """pyarrow reads what is plain, the csv module everything: the same values, rows' numbers and messages."""
    text = end.join(",".join(row) for row in [["x", " y ", "z"], *rows]) + end * is_ended
    for place, what in broken:
        text = text[:place] + what + text[place:]
    path = tmp_path_factory.getbasetemp() / "plain.csv"
    path.write_bytes(text.encode())

    def outcome(plain):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(read_tables, "_read_plain", plain)
            try:
                return read_tables.read_table(path, ["z", "y"])
            except UserError as error:
                return pd.DataFrame({"error": [str(error)]})

    expected = outcome(lambda *given: None)
    pd.testing.assert_frame_equal(outcome(read_tables._read_plain), expected, check_exact=True)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_official_tables_hold_is_plain(end):
    text = end.join(["x,y", "1,a b", '2,"a, b"', "3,", ""])
    found = read_tables._read_plain(Path("x.csv"), text.encode(), ["y"])
    assert found is not None
    assert found["y"].to_dict() == {2: "a b", 3: "a, b", 4: ""}


def test_nih_lists_must_exist_and_must_not_overlap(tmp_path):
    make_nih(tmp_path)
    write_text(tmp_path / "test_list.txt", "00000001_001.png")
    with pytest.raises(UserError, match=r"00000001_001\.png is also in train_val_list\.txt"):
        adapter("nih")(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(UserError, match=r"test_list\.txt: cannot be read"):
        adapter("nih")(tmp_path)


def test_vinbigdata_takes_any_reader_and_images_converted_beforehand(tmp_path):
    frame, counts = adapter("vinbigdata")(make_vinbigdata(tmp_path))
    assert frame["image_id"].tolist() == frame["patient_id"].tolist() == ["a", "b"]
    assert frame["path"].tolist() == ["train/a.png", "train/b.png"]
    assert frame["label:Nodule-Mass"].tolist() == [0, 1]
    assert frame.filter(like="label:").sum(axis=1).tolist() == [0, 1]
    assert frame[["width", "height"]].to_numpy().tolist() == [[20, 30], [20, 30]]
    assert counts == {
        "missing_images": 1,
        "skipped": {"image not in train.csv": 1},
        "images_of_other_than_three_readers": 2,
    }
    write_text(tmp_path / "train.csv", VBD + "a,Cold,14,R1,,,,")
    with pytest.raises(UserError, match="row 2: 'Cold' is not a class"):
        adapter("vinbigdata")(tmp_path)


def test_shenzhen_labels_are_the_file_suffix(tmp_path):
    frame, counts = adapter("shenzhen")(make_shenzhen(tmp_path))
    assert frame["label:Tuberculosis"].tolist() == [0, 1]
    assert frame["patient_id"].tolist() == ["CHNCXR_0001", "CHNCXR_0662"]
    assert counts["missing_images"] == 1
    write_text(tmp_path / "shenzhen_metadata.csv", "study_id,sex,age,findings\nCHNCXR_0001_2.png,,,")
    with pytest.raises(UserError, match=r"row 2: 'CHNCXR_0001_2.png' is not CHNCXR"):
        adapter("shenzhen")(tmp_path)


def test_covid_labels_and_views_in_both_spellings(tmp_path):
    frame, counts = adapter("covid")(make_covid(tmp_path))
    wanted = pd.DataFrame(COVID_ROWS).sort_values(0)
    assert frame["image_id"].tolist() == wanted[0].tolist()
    assert frame["view"].tolist() == wanted[6].tolist()
    for column, name in ((7, "COVID-19"), (8, "Viral")):
        np.testing.assert_array_equal(frame[f"label:{name}"], wanted[column].astype(np.float32))
    assert frame["study_id"].tolist()[:3] == ["2_0", "2_3", "3_"]
    assert counts == {"missing_images": 0, "skipped": {"volume (.nii.gz)": 1}}


def test_covid_patients_that_share_images_in_a_chain_or_a_ring_are_one(tmp_path):
    rows = [
        ("30", "s.jpg"),
        ("31", "s.jpg"),
        ("32", "t.jpg"),
        ("31", "t.jpg"),
        ("31", "u.jpg"),
        ("30", "u.jpg"),
        ("33", "v.jpg"),
    ]
    make_covid(tmp_path, "".join(f"\n{patient},,M,65,SARS,PA,X-ray,,{name},," for patient, name in rows))
    for name in "stuv":
        write_image(tmp_path / f"images/{name}.jpg")
    patients = adapter("covid")(tmp_path)[0].set_index("image_id")["patient_id"]
    assert patients[["s.jpg", "t.jpg", "u.jpg"]].nunique() == 1
    assert patients["v.jpg"] == "33"


def test_covid_image_of_two_patient_ids_is_one_patient(tmp_path):
    extra = "\n40,9,M,65,COVID-19,PA,X-ray,,a.jpg,,\n40,11,M,65,COVID-19,PA,X-ray,,p.jpg,,"
    make_covid(tmp_path, extra)
    write_image(tmp_path / "images/p.png")
    (tmp_path / "images/p.png").rename(tmp_path / "images/p.jpg")
    frame, counts = adapter("covid")(tmp_path)
    assert frame.set_index("image_id")["patient_id"][["a.jpg", "p.jpg"]].tolist() == ["2", "2"]
    assert counts["skipped"]["row of an image listed before"] == 1
    make_covid(tmp_path, extra.replace("COVID-19,PA", "SARS,PA"))
    with pytest.raises(UserError, match=r"row 33: 'a.jpg' is listed twice with different findings"):
        adapter("covid")(tmp_path)


def test_mimic_joins_its_three_tables(tmp_path):
    frame, counts = adapter("mimic")(make_mimic(tmp_path))
    assert frame["image_id"].tolist() == ["d1", "d2", "d3"]
    assert frame["view"].tolist() == ["frontal", "lateral", "lateral"]
    assert frame["split"].tolist() == ["train", "val", "train"]
    assert frame["patient_id"].tolist() == ["p10000032", "p10000033", "p10000032"]
    assert frame["path"][0] == "mimic-cxr-jpg/files/p10/p10000032/s50000001/d1.jpg"
    assert frame[["width", "height"]].to_numpy().tolist() == [[20, 30], [21, 31], [20, 30]]
    np.testing.assert_array_equal(
        frame[["label:Atelectasis", "label:Cardiomegaly", "label:Consolidation", "label:Edema"]],
        [[1, 0, -1, np.nan], [np.nan] * 4, [1, 0, -1, np.nan]],
    )
    assert counts == {"missing_images": 1, "skipped": {"image not in the metadata": 1}}
    labels = summarise(frame, "mimic", counts)["labels"]
    assert labels["Consolidation"] == {"positive": 0, "negative": 0, "uncertain": 2, "blank": 1}


def test_mimic_tables_may_be_unpacked(tmp_path):
    packed = adapter("mimic")(make_mimic(tmp_path))[0]
    for path in sorted((tmp_path / "mimic-cxr-jpg").glob("*.csv.gz")):
        write_text(path.with_suffix(""), gzip.decompress(path.read_bytes()).decode())
        path.unlink()
    assert adapter("mimic")(tmp_path)[0].equals(packed)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("split", "dicom_id,study_id,subject_id,split\nd1,50000001,10000032,train", "2 images of the metadata have no row, first d3"),
        ("split", "dicom_id,split\nd1,holdout", "row 2: 'holdout' must be one of train, validate, test"),
        ("chexpert", CHEXPERT + "1,50000001,7" + "," * 13, "row 2: '7' is not a label of Atelectasis"),
        ("metadata", METADATA + "d1,x,50000001,,PA,1,1,", "row 2: 'x' is not a valid subject_id"),
        ("metadata", METADATA + "d1,10000032,50000001,,PA,1,0,", "row 2: '0' is not a valid width"),
    ],
)  # fmt: skip
def test_mimic_names_file_and_row(tmp_path, file, content, message):
    make_mimic(tmp_path)
    write_text(tmp_path / f"mimic-cxr-jpg/mimic-cxr-2.0.0-{file}.csv.gz", content)
    with pytest.raises(UserError, match=f"{file}.csv.gz: .*{message}"):
        adapter("mimic")(tmp_path)


@pytest.mark.parametrize("layout", ["nih", "vinbigdata", "shenzhen", "covid", "mimic"])
def test_an_empty_folder_and_a_broken_table_are_one_line(tmp_path, layout):
    maker = DOWNLOADS[layout]
    with pytest.raises(UserError, match="no such file"):
        adapter(layout)(tmp_path)
    for table in [*maker(tmp_path).glob("*.csv"), *maker(tmp_path).glob("*/*.csv.gz")]:
        table.write_bytes(b"\x1f\x8b\x00\xff\x00")
    with pytest.raises(UserError, match="csv") as raised:
        adapter(layout)(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("layout", ["vinbigdata", "shenzhen", "covid"])
def test_an_image_with_a_broken_header_is_counted_and_left_to_the_store_to_report(tmp_path, layout):
    folder = DOWNLOADS[layout](tmp_path)
    path = next(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg"))
    path.write_bytes(b"hello")
    frame, counts = adapter(layout)(folder)
    assert counts["unreadable_headers"] == 1
    broken = frame[frame["width"] == 0]
    assert broken["path"].tolist() == [path.relative_to(folder).as_posix()]
    assert broken["height"].tolist() == [0]


def make_boxes(folder: Path, rows: str) -> Path:
    make_nih(folder)
    write_text(folder / "BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + rows)
    return folder


def test_nih_boxes_are_in_pixels_of_the_published_files_under_the_names_of_the_classes(tmp_path):
    make_boxes(
        tmp_path, "00000002_000.png,Infiltrate,512,256,102.4,51.2,,,\n00000009_000.png,Mass,1,2,3,4,,,\n"
    )
    boxes = read_boxes("nih", tmp_path, adapter("nih")(tmp_path)[0])
    assert boxes.columns.tolist() == ["image_id", "class", "x", "y", "w", "h"]
    assert boxes[["image_id", "class"]].to_numpy().tolist() == [["00000002_000.png", "Infiltration"]]
    np.testing.assert_allclose(boxes[["x", "y", "w", "h"]], [[512, 256, 102.4, 51.2]])


def test_vinbigdata_boxes_of_every_reader(tmp_path):
    index = adapter("vinbigdata")(make_vinbigdata(tmp_path))[0]
    boxes = read_boxes("vinbigdata", tmp_path, index)
    assert boxes.to_numpy().tolist() == [["b", "Nodule-Mass", 1, 2, 2, 2]]
    write_image(tmp_path / "train/b.png", 2, 2)  # shrunk: fit for training, not for the boxes
    small = adapter("vinbigdata")(tmp_path)[0]
    with pytest.raises(UserError, match=r"train\.csv: row 3: '1 2 2 2' extends beyond its image"):
        read_boxes("vinbigdata", tmp_path, small)
    with pytest.raises(UserError, match="no boxes; choose nih or vinbigdata"):
        read_boxes("covid", tmp_path, small)


@pytest.mark.parametrize("images", ["CXR_png", "images/images"])
def test_shenzhen_as_the_nlm_and_as_kaggle_lay_it_out(tmp_path, images):
    names = ("CHNCXR_0001_0", "CHNCXR_0327_1")
    for name in names:
        write_image(tmp_path / images / f"{name}.png")
    if images == "CXR_png":
        for name in (*names, "CHNCXR_0002_0"):
            write_text(tmp_path / f"ClinicalReadings/{name}.txt", "male 45yrs\nnormal")
        write_text(tmp_path / "ClinicalReadings/Thumbs.db", "")
    else:
        rows = "CHNCXR_0001_0.png,,,normal\nCHNCXR_0327_1.png,,,PTB\nCHNCXR_0002_0.png,,,normal\n"
        write_text(tmp_path / "shenzhen_metadata.csv", "study_id,sex,age,findings\n" + rows)
    frame, counts = adapter("shenzhen")(tmp_path)
    assert frame["path"].tolist() == [f"{images}/{name}.png" for name in names]
    assert frame["label:Tuberculosis"].tolist() == [0, 1]
    assert counts == {"missing_images": 1, "skipped": {}}


def test_covid_in_its_final_form(tmp_path):
    header = "patientid,offset,sex,age,finding,RT_PCR_positive,survival,view,modality,date,location,folder,filename,doi,\n"
    rows = (
        "2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,PA,X-ray,,,images,a.jpg,,\n"
        "3,0,M,65,Pneumonia/Viral/Herpes ,,Y,AP erect,X-ray,,,images,b.jpg,,\n"
        "4,0,M,65,Pneumonia/Bacterial/Staphylococcus/MRSA,,Y,AP semi erect,X-ray,,,images,c.jpg,,\n"
        "5,0,M,65,Pneumonia/Viral/Influenza/H1N1,Unclear,Y,L,X-ray,,,images,d.jpg,,\n"
        "6,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,Axial,CT,,,volumes,e.nii.gz,,\n"
    )
    write_text(tmp_path / "metadata.csv", header + rows)
    for name in "abcd":
        write_image(tmp_path / f"images/{name}.jpg")
    frame, counts = adapter("covid")(tmp_path)
    assert frame["view"].tolist() == ["frontal", "frontal", "frontal", "lateral"]
    assert frame["label:COVID-19"].tolist() == [1, 0, 0, 0]
    assert frame["label:Viral"].tolist() == [1, 1, 0, 1]
    assert counts == {"missing_images": 0, "skipped": {"volume (.nii.gz)": 1}}


def good_index(tmp_path: Path) -> pd.DataFrame:
    return adapter("nih")(make_nih(tmp_path))[0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("image_id", "00000001_001.png", "duplicated"),
        ("image_id", "9", "not sorted"),
        ("image_id", 7, "not text"),
        ("patient_id", "", "blank"),
        ("view", "oblique", "view 'oblique'"),
        ("split", "validate", "official set"),
        ("width", -1, "int32 of at least 0"),
        ("path", "/root/a.png", "not a path below"),
        ("path", "images/../../a.png", "not a path below"),
        ("label:Mass", 0.5, "not a float32 label"),
    ],
)
def test_the_schema_is_checked(tmp_path, column, value, message):
    frame = good_index(tmp_path)
    validate_index(frame, "x.parquet")
    frame.loc[0, column] = value
    with pytest.raises(UserError, match=rf"x\.parquet: .*{message}"):
        validate_index(frame, "x.parquet")


def test_the_schema_has_no_other_columns(tmp_path):
    frame = good_index(tmp_path)
    for bad in (frame.drop(columns="path"), frame.assign(extra=1), frame.iloc[:, ::-1]):
        with pytest.raises(UserError, match="columns are"):
            validate_index(bad, "x.parquet")


def script(layout: str, folder: Path, out: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--layout", layout, "--folder", folder, "--source", layout]
    command += ["--out", out / "index.parquet", "--report", out / "index.json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_unknown_layout_names_the_known_ones(tmp_path):
    done = script("chexpert", tmp_path, tmp_path)
    assert done.returncode == 1
    assert "available are covid, mimic, nih, pneumonia, shenzhen, vinbigdata" in done.stderr


@real
@pytest.mark.parametrize(
    ("layout", "folder", "rows", "patients", "missing", "views"),
    [
        ("nih", "nih", 1055, 838, 111065, {"frontal": 1055}),
        ("covid", "covid", 445, 204, 280, {"frontal": 315, "ct": 49, "lateral": 42, "other": 39}),
        ("mimic", "mini-mimic", 198, 93, 0, {"frontal": 130, "lateral": 29, "other": 39}),
    ],
)
def test_real_downloads(tmp_path, layout, folder, rows, patients, missing, views):
    done = script(layout, SHARED / folder, tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "index.json").read_text())
    assert (report["rows"], report["patients"], report["missing_images"]) == (rows, patients, missing)
    assert report["views"] == views
    frame = pd.read_parquet(tmp_path / "index.parquet")
    validate_index(frame, "index.parquet")
    assert all((SHARED / folder / path).exists() for path in frame["path"])


@real
def test_the_real_shenzhen_table_without_images_is_one_line(tmp_path):
    done = script("shenzhen", SHARED / "shenzhen", tmp_path)
    assert done.returncode == 1
    assert "none of its 662 images" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
