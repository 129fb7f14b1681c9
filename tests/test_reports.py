import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refers.errors import UserError
from refers.text.cleaning import (
    clean_report,
    clean_section,
    count_tokens,
    normalise,
)
from refers.text.laterality import swap_sides
from refers.text.report_files import read_reports

MINI = Path(__file__).parents[2] / "shared/data/mini-mimic/mimic-cxr-reports"
SCRIPT = Path(__file__).parents[1] / "workflow/scripts/clean_reports.py"

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 \n INDICATION:  ___ year old man with cough
 \n COMPARISON:  ___
 \n FINDINGS: \n
 Compared with ___, the left lung
 is clear (___) .
 HEART: normal.
 \n IMPRESSION: \n
 1. No acute process.
 \n RECOMMENDATION(S):  Repeat in two weeks.
"""


def test_a_report_as_written_keeps_findings_and_impression_only():
    cleaned = clean_report(REPORT)
    assert cleaned.findings == "Compared with, the left lung is clear. HEART: normal."
    assert cleaned.impression == "No acute process."
    assert cleaned.text == f"{cleaned.findings} {cleaned.impression}"


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        ("Findings: clear.\nImpression: normal", "clear.", "normal"),
        ("FINDINGS AND IMPRESSION:\n clear lungs", "clear lungs", ""),
        ("IMPRESSION/FINDINGS: clear lungs", "clear lungs", ""),
        ("CONCLUSION:\nno change\nHISTORY: pain", "", "no change"),
        ("IMPRESSION AND RECOMMENDATIONS: fine", "", "fine"),
        ("IMPRESSION\n no colon above", "", "no colon above"),
        ("FINDING(S): one\nIMPRESSIONS: two", "one", "two"),
        ("INDICATION: pain FINDINGS: clear IMPRESSION: normal", "clear", "normal"),
        ("PORTABLE CHEST FINDINGS:\n clear", "clear", ""),
        ("FINDINGS: a.\nIMPRESSION: b.\nADDENDUM: c.\nIMPRESSION: d.", "a.", "b. d."),
        ("FINDINGS: same\nIMPRESSION: old\nFINDINGS: same\nIMPRESSION: new", "same", "old new"),
        ("FINDINGS: CLEAR\nHISTORY: of smoking", "CLEAR", ""),
        ("FINDINGS: clear\nDISPOSITION PLAN: go home", "clear", ""),
        ("FINDINGS: the findings: are few", "the findings: are few", ""),
        ("FINDINGS: clear\nSEE FINDINGS\nabove", "clear SEE FINDINGS above", ""),
        ("FINDINGS: wide\nfindings\nspan", "wide findings span", ""),
        ("CHEST, PORTABLE\n\nThe lungs are clear.", "The lungs are clear.", ""),
        ("", "", ""),
        ("IMPRESSION -- no change", "", "no change"),
        ("FINDINGS. Clear lungs\n IMPRESSION. Normal", "Clear lungs", "Normal"),
        ("SUMMARY: fine", "", "fine"),
        ("COMPARISON: none\nPA AND LATERAL VIEWS OF THE CHEST: clear\nIMPRESSION: AP CHEST: fine", "clear", "AP CHEST: fine"),
        ("COMPARISON: none\nLUNGS: clear\nHEART: normal\nIMPRESSION: fine", "LUNGS: clear HEART: normal", "fine"),
        ("FINAL REPORT\n AP CHEST, 5:09 A.M., ___\n HISTORY: bleed\n IMPRESSION: AP chest at 5:09: fine", "", "AP chest at 5:09: fine"),
        ("PROVISIONAL FINDINGS IMPRESSION (PFI): 10:52 AM\n FINDINGS: early\n FINAL REPORT\nFINDINGS: late", "late", ""),
        ("PA AND LATERAL CHEST: at 5:09\nFINDINGS: clear", "clear", ""),
        ("CHEST PAIN: yes\nIMPRESSION: fine", "", "fine"),
        ("FINDINGS: lungs are clear HISTORY: pain IMPRESSION: fine", "lungs are clear", "fine"),
        ("FINDINGS: seen at 10:20 in\nthese findings: few", "seen at 10:20 in these findings: few", ""),
        ("WET READ: 8:15 PM\nIMPRESSION: early\nFINAL REPORT\nIMPRESSION: late", "", "late"),
        ("WET READ: 8:15 PM\nIMPRESSION: early", "", "early"),
        ("FINAL ADDENDUM\nread again\nFINAL REPORT\nFINDINGS: clear", "clear", ""),
        ("IMPRESSION:\n 1. No edema\n 2. Fluid, 2. and\n 3) rib 4 healed", "", "No edema Fluid, 2. and rib 4 healed"),
        ("IMPRESSION: T1. Nodule of 2. unknown", "", "T1. Nodule of 2. unknown"),
        ("FINDINGS: [**Name (NI) 5**] lungs [___] clear", "lungs clear", ""),
    ],
)  # fmt: skip
def test_headers_in_their_varied_forms(report, findings, impression):
    cleaned = clean_report(report)
    assert (cleaned.findings, cleaned.impression) == (findings, impression)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (" \n\ufeff___ .\n", "empty file"),
        ("FINAL REPORT\nCHEST, PORTABLE", "no header"),
        ("FINAL REPORT\nThe lungs are clear.", ""),
        ("INDICATION: pain\nin the chest, the lungs are clear.", "no findings or impression"),
        ("INDICATION: pain\n\nThe lungs are clear.", ""),
        ("FINDINGS: ___\nIMPRESSION:", "blank sections"),
        ("IMPRESSION: 1. Normal chest.", "fewer than 3 tokens"),
        ("IMPRESSION: no change seen", ""),
    ],
)
def test_a_dropped_report_has_one_reason(report, reason):
    assert clean_report(report).dropped == reason


@pytest.mark.parametrize(
    ("report", "rules"),
    [
        ("FINDINGS: clear lungs", set()),
        ("FINDINGS: a 5\u00a0cm mass [**Name**]", {"Unicode", "de-identification"}),
        ("WET READ: early\nFINAL REPORT\nFINDINGS: clear\nADDENDUM: called", {"wet read", "addendum"}),
        ("FINDINGS\nclear IMPRESSION: fine", {"no colon", "inside a line"}),
        ("IMPRESSION/FINDINGS: clear\nCONCLUSION: fine", {"findings and impression", "conclusion"}),
        ("PORTABLE CHEST: clear\nPLAN OF CARE: home\nLUNGS: clear", {"view as header", "other section", "topic as header", "title as text", "several"}),
        ("IMPRESSION: 1. fine\nIMPRESSION: fine", {"list numbers", "repeated"}),
        ("CHEST\nINDICATION: ___\nREPORT: clear\nIMPRESSON: fine", {"in front of the headers", "de-identification", "report as header", "misspelt"}),
        ("HISTORY: pain\n\nLungs clear.", {"other section", "paragraph as header"}),
        ("HISTORY: pain\n\nWorse today.\n\nFINDINGS: clear", {"other section", "paragraph left out"}),
    ],
)  # fmt: skip
def test_every_rule_is_counted_where_it_is_used(report, rules):
    assert clean_report(report).rules == rules


def test_unicode_is_unified_and_blanks_are_dropped():
    assert normalise("No\u00a0ef\ufb01cient “air”\u200b – ___ .") == 'No efficient "air" -.'


@pytest.mark.parametrize(
    "text",
    [
        " " * 200_000 + "x",
        "a" * 200_000,
        "HISTORY A " * 20_000,
        "a 1. " * 40_000,
        "CHEST " * 40_000,
        "SECOND STUDY: " * 20_000,
        "OTHER AND " * 20_000,
        "( " * 50_000,
        ". " * 50_000,
    ],
)
def test_long_lines_do_not_stall_the_rules(text):
    assert clean_report(f"FINDINGS: {text}").findings == clean_section(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("No acute process.", 3), (". - !", 0), ("1.5 cm", 2), ("post-operative", 1), ("", 0)],
)
def test_a_token_is_a_word_or_a_number(text, tokens):
    assert count_tokens(text) == tokens


def test_swapping_whole_words_keeps_case():
    text = "Left, right; LEFT-sided. bright upright Right"
    assert swap_sides(text) == "Right, left; RIGHT-sided. bright upright Left"


@pytest.mark.parametrize(
    ("written", "mirrored"),
    [
        ("shift leftward, LEFTWARDS, the rightmost lead", "shift rightward, RIGHTWARDS, the leftmost lead"),
        ("RUL, LLL and RML; LIJ and RSC lines, RUQ, LUE", "LUL, RLL and LML; RIJ and LSC lines, LUQ, RUE"),
        ("effusions L>R, R > L, L=R, L/R", "effusions R>L, L > R, R=L, R/L"),
        ("R lung, (L) base, L-sided PICC, R 5th rib, on L. Clear", "L lung, (R) base, R-sided PICC, L 5th rib, on R. Clear"),
        ("Dextroscoliosis, levo-curvature, levoconvex", "Levoscoliosis, dextro-curvature, dextroconvex"),
    ],
)  # fmt: skip
def test_other_words_for_sides_are_exchanged_too(written, mirrored):
    assert swap_sides(written) == mirrored
    assert swap_sides(mirrored) == written


def test_what_only_looks_like_a_side_stays():
    text = "L1 and L 4, L-spine, L spine, 2 L of fluid, R/O edema, Dr. R. Smith, bright, upright, levothyroxine, URL, mL, RL"
    assert swap_sides(text) == text


def test_the_substring_rule_is_the_released_code_s():
    assert swap_sides("Left bright left upright", "substring") == "Left bleft right upleft"
    with pytest.raises(ValueError, match="neither"):
        swap_sides("left", "letter")


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(["left", "Right", "LEFT", "right", "-", " "]), st.text(max_size=4)))
)
def test_swapping_whole_words_twice_gives_the_text_back(parts):
    text = " ".join(
        part
        for part in parts
        if part.lower() not in {"left", "right"} or part in {"left", "Right", "LEFT", "right"}
    )
    assert swap_sides(swap_sides(text)) == text
    assert len(swap_sides(text).split()) == len(text.split())


def write(folder: Path, name: str, text: bytes) -> None:
    path = folder / "files/p10" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


def index(folder: Path, studies: list[str]) -> Path:
    """An index with two images of each study; the patient is the one that files its report, if there is one."""
    owners = {path.stem: path.parent.name for path in folder.glob("files/p*/p*/s*.txt")}
    columns = {"study_id": studies * 2, "split": ["train", "val", *["test"] * (len(studies) - 2)] * 2}
    patients = [owners.get(study, "p10000001") for study in studies] * 2
    columns["patient_id"] = [name if name[1:].isascii() else "p10000001" for name in patients]
    pq.write_table(pa.table(columns), folder / "index.parquet")
    return folder / "index.parquet"


def clean_folder(folder: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--reports", folder, "--out", out / "reports.parquet", *options]
    command += ["--index", index(folder, ["s50000001", "s50000002", "s50000009", "s5"])]
    return subprocess.run(
        [*command, "--funnel", out / "reports.json"], capture_output=True, text=True, check=False
    )


def test_the_funnel_counts_every_report_and_prints_no_text(tmp_path):
    write(tmp_path, "p10000001/s50000002.txt", REPORT.encode())
    write(tmp_path, "p10000001/s50000001.txt", b"FINDINGS: clear lungs")
    write(tmp_path, "p10000002/s50000003.txt", b"The lungs are clear")
    write(tmp_path, "p10000002/s50000004.txt", "IMPRESSION: 38 \xb0C, no change".encode("cp1252"))
    done = clean_folder(tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    funnel = json.loads((tmp_path / "out/reports.json").read_text())
    assert funnel["reports"] == 4
    assert funnel["with_findings_or_impression"] == 3
    assert funnel["at_least_3_tokens"] == 2
    assert funnel["studies_with_images"] == funnel["held_out"] == 1
    assert {reason: number for reason, number in funnel["dropped"].items() if number} == {
        "no header": 1,
        "fewer than 3 tokens": 1,
    }
    assert {rule: number for rule, number in funnel["rules"].items() if number} == {
        "not UTF-8": 1,
        "Unicode": 1,
        "de-identification": 1,
        "in front of the headers": 1,
        "other section": 1,
        "title as text": 1,
        "list numbers": 1,
    }
    assert funnel["images"] == {"studies": 4, "without a report": 2, "with a dropped report": 1}
    table = pq.read_table(tmp_path / "out/reports.parquet").to_pylist()
    assert [(row["study_id"], row["patient_id"]) for row in table] == [
        ("s50000002", "p10000001"),
        ("s50000004", "p10000002"),
    ]
    assert table[1]["text"] == "38 °C, no change"
    assert "4 reports -> 3 with findings or impression -> 2 of at least 3 tokens -> 1 studies" in done.stdout
    assert "clear" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no such folder"),
        ({"p10000001/s5.txt": b"no header"}, "none of 1 reports has Findings"),
        ({"p10000001/s6.txt": b"FINDINGS: a b c"}, "none of 1 reports belongs to a study in"),
        ({"p11000001/s5.txt": b"FINDINGS: a b c"}, "p11000001: not a patient folder of p10"),
        (
            {"p10000001/s5.txt": b"FINDINGS: a b c", "p10000002/s5.txt": b"FINDINGS: a b c"},
            "s5 has two reports",
        ),
        ({"p10000001/notes.doc": b"FINDINGS: a b c"}, "notes.doc: not a report"),
        ({f"p10000001/s{'9' * 20}.txt": b"FINDINGS: a b c"}, f"s{'9' * 20}.txt: not a report"),
        ({"p10000001/s5000000\u0663.txt": b"FINDINGS: a b c"}, "s5000000\u0663.txt: not a report"),
        ({"p1000000\u0663/s5.txt": b"FINDINGS: a b c"}, "p1000000\u0663: not a patient folder of p10"),
        ({"s50000001.txt": b"FINDINGS: a b c"}, "s50000001.txt: not a patient folder of p10"),
        ({"../10/p10000001/s5.txt": b"FINDINGS: a b c"}, "10: not a group of patients"),
    ],
)
def test_bad_folders_are_one_line(tmp_path, files, message):
    for name, text in files.items():
        write(tmp_path, name, text)
    done = clean_folder(tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out/reports.parquet").exists()


def test_a_report_under_another_patient_than_its_images_is_refused(tmp_path):
    write(tmp_path, "p10000001/s50000001.txt", b"FINDINGS: clear lungs seen")
    write(tmp_path, "p10000002/s50000002.txt", b"FINDINGS: clear lungs seen")
    write(tmp_path, "p10000002/s50000003.txt", b"FINDINGS: of no image here")
    done = clean_folder(tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (tmp_path / "out/reports.parquet").unlink()
    command = [sys.executable, SCRIPT, "--reports", tmp_path, "--index", tmp_path / "index.parquet"]
    command += ["--out", tmp_path / "out/reports.parquet", "--funnel", tmp_path / "out/reports.json"]
    (tmp_path / "files/p10/p10000002/s50000002.txt").rename(tmp_path / "files/p10/p10000001/s50000002.txt")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert all(word in done.stderr for word in ("p10000001/s50000002.txt", "patient p10000002", "1 such"))
    assert not (tmp_path / "out/reports.parquet").exists()


def test_more_workers_write_the_same_files(tmp_path):
    for number in range(600):
        text = f"IMPRESSION: report {number} of many" if number % 3 else "none"
        write(tmp_path, f"p10{number:06d}/s5{number % 7}{number:06d}.txt", text.encode())
    write(tmp_path, "p10900000/s5.txt", b"FINDINGS: a b c")
    for workers in ("1", "3"):
        done = clean_folder(tmp_path, tmp_path / workers, "--workers", workers)
        assert done.returncode == 0, done.stderr
    for name in ("reports.parquet", "reports.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    (tmp_path / "files/p10/p10000599/notes.txt").write_text("x")
    done = clean_folder(tmp_path, tmp_path / "bad", "--workers", "3")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "notes.txt: not a report" in done.stderr


def test_reports_come_in_the_order_of_their_paths(tmp_path):
    for name in (
        "p10000002/s1.txt",
        "p10000001/s9.txt",
        "p10000001/s3.txt",
        "p10000001/index.html",
        "p10000001/._s3.txt",
        "index.html?C=N;O=D",
        "../.DS_Store",
    ):
        write(tmp_path, name, b"x")
    assert [report.study_id for report in read_reports(tmp_path)] == ["s3", "s9", "s1"]
    with pytest.raises(UserError, match="unpack"):
        next(read_reports(tmp_path / "absent"))


@pytest.mark.skipif(not MINI.exists(), reason="real reports are not here")
def test_every_real_report_has_text_and_no_header_words_leak():
    texts = [clean_report(report.text).text for report in read_reports(MINI)]
    assert len(texts) == 152
    assert all(count_tokens(text) >= 3 for text in texts)
    assert not any(re.search(r"FINAL REPORT|EXAMINATION:|INDICATION:|___", text) for text in texts)
