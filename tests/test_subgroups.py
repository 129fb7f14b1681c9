"""Sex, age and projection out of official tables, and the AUC of such groups of a made-up test set."""

import json

import numpy as np
import pandas as pd
import pytest
from refers.data.adapters import read_characteristics as of_download
from refers.errors import UserError
from refers.evaluation.predictions import SplitPredictions, frame_of
from refers.evaluation.statistics import Bootstrap
from refers.evaluation.subgroups import (
    Settings,
    groups_of,
    read_characteristics,
    read_value,
    read_values,
    summarise_groups,
)
from refers.measure_names import group_names
from sklearn.metrics import roc_auc_score

FEW = Settings([40], 2)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        *(("sex", text, "female") for text in ("F", "f", " Female ")),
        *(("sex", text, "male") for text in ("M", "male")),
        *(("sex", text, None) for text in ("", "O", "unknown", "MF")),
        *(("age", text, 58) for text in ("58", "058Y", "58.0", "58yrs", "58 years old")),
        *(("age", text, 0.5) for text in ("6 months", "006M", "6m")),
        ("age", "3 weeks", 21 / 365.25),
        ("age", "010D", 10 / 365.25),
        ("age", "0", 0),
        ("age", "120", 120),
        *(("age", text, None) for text in ("411", "", "-3", "40s", "20-30", "nan", "58 kg")),
        ("projection", "PA", "PA"),
        *(("projection", text, "AP") for text in ("AP", "AP Supine", "AP erect")),
        *(("projection", text, None) for text in ("L", "Axial", "?", "")),
    ],
)
def test_one_rule_reads_every_table(name, text, expected):
    assert read_value(name, text) == expected


def test_what_is_not_read_is_counted_and_never_guessed():
    values, report = read_values("age", ["30", "411", "", "411", "x"])
    assert values == [30, None, None, None, None]
    assert report == {"known": 1, "blank": 1, "not_read": {"411": 2, "x": 1}}
    values, report = read_values("sex", ["M", "F", "M", "?"])
    assert report == {"known": 3, "values": {"female": 1, "male": 2}, "blank": 0, "not_read": {"?": 1}}


def test_bands_of_age_touch_and_do_not_overlap():
    assert group_names("age", [18, 40]) == ["0-17", "18-39", "40+"]
    assert groups_of("age", [0, 17.9, 18, 39.5, 40, 90, None], [18, 40]).tolist() == [
        *("0-17", "0-17", "18-39", "18-39", "40+", "40+", "")
    ]
    assert groups_of("age", [5, None], []).tolist() == ["0+", ""]
    assert groups_of("sex", ["male", None, "female"], []).tolist() == ["male", "", "female"]


def test_official_tables_are_read(tmp_path):
    header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"
    rows = ["00000001_000.png,Hernia,1,058Y,M,PA", "00000002_000.png,Mass,2,411,F,AP"]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]))
    found = of_download("nih", tmp_path).set_index("image_id")
    assert found.loc["00000001_000.png", ["sex", "age", "projection"]].tolist() == ["M", "058Y", "PA"]
    (tmp_path / "metadata.csv").write_text("filename,age,view\na.png,70,AP Supine\na.png,70,AP Supine\n")
    found = of_download("covid", tmp_path)
    assert found.to_dict("list") == {"image_id": ["a.png"], "age": ["70"], "projection": ["AP Supine"]}
    (tmp_path / "ClinicalReadings").mkdir()
    for name, text in (("CHNCXR_0001_0", "Male 45yrs\nnormal"), ("CHNCXR_0002_1", "\nFemale, 8 months\nPTB")):
        (tmp_path / f"ClinicalReadings/{name}.txt").write_text(text)
    found = of_download("shenzhen", tmp_path)
    assert found["image_id"].tolist() == ["CHNCXR_0001_0.png", "CHNCXR_0002_1.png"]
    assert read_values("sex", found["sex"])[0] == ["male", "female"]
    assert read_values("age", found["age"])[0] == pytest.approx([45, 8 / 12])
    (tmp_path / "shenzhen_metadata.csv").write_text(
        "study_id,sex,age,findings\nCHNCXR_0001_0.png,Male,45,normal"
    )
    assert of_download("shenzhen", tmp_path)["sex"].tolist() == ["Male"]
    with pytest.raises(UserError, match=r"pneumonia.*remove characteristics"):
        of_download("pneumonia", tmp_path)


def made_up(images=120, classes=2, seeds=2):
    """A test set in which scores are better for women; two images a patient, of one sex."""
    rng = np.random.default_rng(0)
    ids = np.array([f"i{n:03d}" for n in range(images)])
    patients = np.array([f"p{n // 2:03d}" for n in range(images)])
    sexes = np.where(np.arange(images) // 2 % 2, "female", "male")
    labels = rng.integers(0, 2, (images, classes))
    signal = np.where(sexes == "female", 0.4, 0.05)[:, None] * labels
    scores = [np.clip(signal + 0.6 * rng.random(labels.shape), 0, 1) for _ in range(seeds)]
    return SplitPredictions(ids, patients, labels, scores), dict(
        zip(ids.tolist(), sexes.tolist(), strict=True)
    )


def summary(sets, values, settings=FEW, classes=("a", "b")):
    bootstrap = Bootstrap([each.patients for each in sets], 300, 0)
    return summarise_groups(sets, [*classes], values, settings, bootstrap)


def test_groups_have_their_own_auc_and_the_gap_between_them():
    test, sexes = made_up()
    found = summary([test], {"sex": sexes})["sex"]
    expected = {}
    for name in ("female", "male"):
        of = np.array([sexes[image] == name for image in test.ids])
        runs = [roc_auc_score(test.labels[of], one[of], average="macro") for one in test.scores]
        group = found["groups"][name]
        assert group["values"] == pytest.approx(runs)
        assert (group["images"], group["patients"]) == (60, 30)
        assert group["positives"] + group["negatives"] == 120
        assert group["interval"][0] < group["mean"] < group["interval"][1]
        expected[name] = np.mean(runs)
    gap = found["gap"]
    assert (gap["largest"], gap["smallest"]) == ("female", "male")
    assert gap["difference"] == pytest.approx(expected["female"] - expected["male"])
    assert 0 < gap["interval"][0] < gap["difference"] < gap["interval"][1]
    assert found["unknown"] == 0


def test_groups_share_the_resamples_of_the_cell():
    test, sexes = made_up()
    of = np.array([sexes[image] == "male" for image in test.ids])
    bootstrap = Bootstrap([test.patients], 50, 0)
    counts = next(bootstrap.counts())[0]
    part = SplitPredictions(
        test.ids[of], test.patients[of], test.labels[of], [one[of] for one in test.scores]
    )
    drawn = bootstrap.within([of]).resample([part]).auc
    for row in (0, 17):
        again = np.repeat(np.flatnonzero(of), counts[of, row])
        expected = roc_auc_score(test.labels[again, 1], test.scores[0][again, 1])
        assert drawn[row, 0, 0, 1] == pytest.approx(expected)


def test_small_groups_and_missing_values_have_no_auc():
    test, sexes = made_up()
    few = {image: sex for image, sex in sexes.items() if sex == "female" or image < "i006"}
    found = summary([test], {"sex": few}, Settings([], 5))["sex"]
    assert found["unknown"] == 120 - len(few)
    assert found["groups"]["male"]["undefined"].startswith("undefined: too few classes have 5 patients")
    assert "mean" not in found["groups"]["male"]
    assert found["groups"]["female"]["undefined"] is None
    assert found["gap"] == {"undefined": "undefined: fewer than two groups have an AUC"}
    nobody = summary([test], {"age": {}}, FEW)["age"]
    assert {each["undefined"] for each in nobody["groups"].values()} == {"undefined: no test image"}
    assert nobody["unknown"] == 120


def test_groups_are_compared_on_the_classes_that_all_have():
    test, sexes = made_up(classes=4)
    of = np.array([sexes[image] == "male" for image in test.ids])
    test.labels[of, 2] = 0
    found = summary([test], {"sex": sexes}, classes="abcd")["sex"]
    assert found["classes"] == ["a", "b", "d"]
    assert [*found["groups"]["female"]["per_class"]] == ["a", "b", "d"]
    women = ~of
    runs = [roc_auc_score(test.labels[women][:, [0, 1, 3]], one[women][:, [0, 1, 3]]) for one in test.scores]
    assert found["groups"]["female"]["values"] == pytest.approx(runs)
    # with fewer than half of the classes a group is too small, and leaves the others theirs
    test.labels[of, 1:] = 0
    found = summary([test], {"sex": sexes}, classes="abcd")["sex"]
    assert found["groups"]["male"]["undefined"].startswith("undefined: too few")
    assert found["classes"] == ["a", "b", "c", "d"]


def test_a_group_needs_its_patients_in_every_split():
    first, sexes = made_up()
    second, _ = made_up()
    second.labels[[sexes[image] == "male" for image in second.ids], 0] = 1
    found = summary([first, second], {"sex": sexes}, classes="ab")["sex"]
    assert found["classes"] == ["b"]
    assert len(found["groups"]["male"]["values"]) == 4


def test_scripts(tmp_path, call):
    test, sexes = made_up()
    rows = pd.DataFrame({"image_id": test.ids, "patient_id": test.patients})
    rows[["label:a", "label:b"]] = test.labels
    path, out = tmp_path / "predictions.parquet", tmp_path / "subgroups.json"
    frames = [frame_of(rows, ["a", "b"], test.scores[0], part) for part in ("val", "test")]
    pd.concat(frames).to_parquet(path, index=False)
    lines = [f"{image},{sex},?" for image, sex in sexes.items()]
    (tmp_path / "metadata.csv").write_text("\n".join(["filename,sex,view", *lines]))
    made, report = tmp_path / "covid.parquet", tmp_path / "covid.json"
    names = ["--names", "sex", "age", "projection"]
    done = call(
        "characteristics", "--layout", "covid", "--source", "covid", "--folder", tmp_path, *names, "--out", made, "--report", report
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "age of 120 images: the table has no such column" in done.stdout
    counts = json.loads(report.read_text())["characteristics"]
    assert counts["projection"] == {"known": 0, "values": {}, "blank": 0, "not_read": {"?": 120}}
    given = ["--method", "refers", "--dataset", "covid_t1", "--ratio", 100, "--splits", 0, "--seeds", 0]
    given += ["--predictions", path, "--characteristics", made, *names, "--ages", 40, "--out", out]
    done = call("subgroups", *given, "--patients", 2)
    assert done.returncode == 0, done.stderr
    assert "age absent" in done.stdout
    found = json.loads(out.read_text())
    assert found["absent"] == ["age"]
    assert found["characteristics"]["projection"]["unknown"] == 120
    alone = SplitPredictions(test.ids, test.patients, test.labels, test.scores[:1])
    bootstrap = Bootstrap([test.patients], 1000, 0)
    expected = summarise_groups([alone], ["a", "b"], {"sex": sexes}, Settings([40], 2), bootstrap)
    assert found["characteristics"]["sex"] == json.loads(json.dumps(expected["sex"]))
    pd.DataFrame({"image_id": ["other"], "sex": ["male"]}).to_parquet(made, index=False)
    done = call("subgroups", *given, "--patients", 2)
    assert (done.returncode, "no sex of any test image" in done.stderr) == (1, True)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "nih.parquet"
    pd.DataFrame({"image_id": ["a"], "age": ["old"]}).to_parquet(path)
    with pytest.raises(UserError, match=r"'old' is no age; delete it and rerun characteristics.py"):
        read_characteristics(path, ["age"])
    path.write_text("no")
    with pytest.raises(UserError, match=r"rerun|create it with characteristics.py"):
        read_characteristics(path, ["age"])
