"""Reports that are written in ways that a reader understands: what is kept of each as Findings and Impression."""

from collections.abc import Callable
from pathlib import Path

from refers.text.cleaning import Cleaned, clean_report
from refers.text.laterality import swap_sides
from refers.text.report_files import read_reports

from field import Case

CLEAR = ("The lungs are clear.", "No acute process.")
SMALL = ("the lungs are clear.", "no acute process.")


def written(text: str) -> Callable[[Path], str]:
    return lambda folder: text


def stored(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = folder / "files/p10/p10000001/s50000001.txt"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        return folder

    return make


def read_only_one(folder: Path) -> tuple[str, bool]:
    (report,) = read_reports(folder)
    return report.text, report.is_utf8


def has(findings: str, impression: str) -> Callable[[Cleaned], None]:
    def expect(cleaned: Cleaned) -> None:
        assert (cleaned.findings, cleaned.impression) == (findings, impression)

    return expect


REPORTS = {
    "headers in small letters": ("findings: {0}\nimpression: {1}", SMALL),
    "small letters after an indication without a full stop": ("indication: cough\nfindings: {0}\nimpression: {1}", SMALL),
    "titles alone on their lines": ("Findings\n\n{0}\n\nImpression\n\n{1}", CLEAR),
    "small titles alone": ("findings\n{0}\nimpression\n{1}", SMALL),
    "every section alone": ("Exam\nChest\n\nHistory\nCough\n\nFindings\n{0}\n\nImpression\n{1}\n\nPlan\nNone.", CLEAR),
    "titles before a dash": ("Findings - {0}\nImpression -- {1}", CLEAR),
    "Markdown's bold": ("**FINDINGS**\n{0}\n\n**Impression:** {1}", CLEAR),
    "Markdown's headings": ("# Findings\n{0}\n### IMPRESSION ###\n{1}", CLEAR),
    "HTML": ("<p><b>FINDINGS:</b> {0}</p><p><strong>Impression</strong><br/>{1}</p>", CLEAR),
    "HTML headings": ("<h1>Findings</h1>{0}<h1>Impression</h1>{1}", CLEAR),
    "titles alone, no full stops": ("Indication\nCough\nFindings\nThe lungs are clear\nImpression\nNo acute process", ("The lungs are clear", "No acute process")),
    "bold titles within a line": ("**FINDINGS** {0} **Impression** {1}", CLEAR),
    "titles in brackets": ("[FINDINGS]\n{0}\n[IMPRESSION]: {1}", CLEAR),
    "titles behind bullets": ("\u2022 Findings: {0}\n\u2022 Impression: {1}", CLEAR),
    "a page break": ("FINDINGS: {0}\n      (Over)\n\n(Cont)\nIMPRESSION: {1}", CLEAR),
    "a number behind the title": ("FINDINGS #1: {0}\nIMPRESSION #1: {1}", CLEAR),
    "blanks with spaces": ("FINDINGS: _ _ {0}\nIMPRESSION: _ _ _ {1}", CLEAR),
    "a condition and a reason": ("UNDERLYING MEDICAL CONDITION:\n man with cough\nREASON FOR THIS EXAMINATION:\n r/o edema\n\nFINDINGS: {0}\nIMPRESSION: {1}", CLEAR),
    "a condition, a reason, and findings without a header": ("UNDERLYING MEDICAL CONDITION:\n\n Known COPD.\n\nREASON:\n\n Rule out pneumothorax.\n\n{0}\n\nIMPRESSION: {1}", CLEAR),
    "a history of two paragraphs": ("HISTORY: Cough.\n\nHeart failure and chest pain since May.\n\nFINDINGS: {0}\nIMPRESSION: {1}", CLEAR),
    "two colons": ("FINDINGS:: {0}\nIMPRESSION : : {1}", CLEAR),
    "no blanks": ("FINDINGS:{0}IMPRESSION:{1}", CLEAR),
    "no blanks, small letters": ("Findings:{0}Impression:{1}", CLEAR),
    "titles in quotation marks": ('"FINDINGS" {0}\n"Impression": {1}', CLEAR),
    "quoted titles in one line": ('"FINDINGS:" {0} "IMPRESSION:" {1}', CLEAR),
    "titles in curly quotation marks": ("\u201cFindings\u201d\n{0}\n\u201cIMPRESSION:\u201d {1}", CLEAR),
    "titles between signs": ("=== FINDINGS ===\n{0}\n-- Impression: -- {1}", CLEAR),
    "titles before an arrow": ("FINDINGS -> {0}\nIMPRESSION => {1}", CLEAR),
    "titles before a bar": ("FINDINGS | {0}\nImpression | {1}", CLEAR),
    "line separators": ("FINDINGS\u2028{0}\u2028IMPRESSION\u2028{1}", CLEAR),
    "next lines": ("FINDINGS\x85{0}\x85IMPRESSION\x85{1}", CLEAR),
    "paragraph separators": ("HISTORY\u2029Cough.\u2029FINDINGS\u2029{0}\u2029IMPRESSION\u2029{1}", CLEAR),
    "titles as tags": ("<CLINICAL_HISTORY>Mass.</CLINICAL_HISTORY><FINDINGS>{0}</FINDINGS>\n<impression>{1}</impression>", CLEAR),
    "a mark of a date": ("FINDINGS: {0}\nIMPRESSION: {1}", ("Unlike <DATE> clear lungs.", "As on <DATE>.")),
    "a comparison that looks like a tag": ("FINDINGS: {0}\nIMPRESSION: {1}", ("The nodule is <s 5 mm, which is > 3 mm.", "Nodule <b or >c.")),
    "tags with attributes": ("<p class=x id='y'>FINDINGS: {0}</p><hr noshade/><font size=\"2\" color = red >IMPRESSION: {1}</font >", CLEAR),
}  # fmt: skip

KEPT = {
    "a title's word that wrapping put before a full stop": (
        "FINDINGS: THE LUNGS ARE CLEAR AND THERE IS NO EFFUSION, AS EXPECTED FOR THE\nHISTORY. HEART NORMAL.",
        "THE LUNGS ARE CLEAR AND THERE IS NO EFFUSION, AS EXPECTED FOR THE HISTORY. HEART NORMAL.",
    ),
    "a quoted word": (
        'FINDINGS: Clear.\n"Findings" of the CT are old.',
        'Clear. "Findings" of the CT are old.',
    ),
    "PMH within Findings": (
        "FINDINGS: Travelled. PMH: AF. Opacities in both lungs.",
        "Travelled. PMH: AF. Opacities in both lungs.",
    ),
    "a differential diagnosis": (
        "FINDINGS: Nodule. DIFFERENTIAL DIAGNOSIS: cancer.",
        "Nodule. DIFFERENTIAL DIAGNOSIS: cancer.",
    ),
}

HISTORIES = {
    "a history that goes on": "HISTORY: Cough.\n\nThe patient has had chest pain since May.\n\nIMPRESSION: No acute process.",
    "a reason that goes on": "REASON:\n\nCough.\n\nPlease evaluate for effusion.\n\nIMPRESSION: No acute process.",
    "a condition that goes on": "UNDERLYING CONDITION:\n\nSepsis.\n\nFever for three days.\n\nIMPRESSION: No acute process.",
}

# Each before a paragraph that reads as an observation.
TITLES = (
    *(
        "CC:",
        "HPI:",
        "PMH:",
        "RSN:",
        "DX:",
        "Diagnosis:",
        "ORDERING DIAGNOSIS:",
        "PREOPERATIVE DIAGNOSIS:",
        "CLINICAL INFO:",
    ),
    *(
        "BACKGROUND:",
        "SIGNS AND SYMPTOMS:",
        "EXAM REASON:",
        "REASONS FOR EXAM:",
        "HISTROY:",
        "UNDERLYNG MEDICAL CONDITION:",
    ),
    *(
        "HISTORY -",
        "REASON -",
        "INDICATION -",
        "UNDERLYING MEDICAL CONDITION -",
        "HISTORY.",
        "CLINICAL HISTORY --",
        "DX -",
    ),
)

SIDES = {
    "leftward": ("shift leftward", "shift rightward"),
    "lobes": ("RUL nodule, LLL collapse", "LUL nodule, RLL collapse"),
    "letters": ("effusions L>R", "effusions R>L"),
    "Rt and Lt": (
        "Rt pleural effusion, Lt. lung clear, RT base, lt apex",
        "Lt pleural effusion, Rt. lung clear, LT base, rt apex",
    ),
    "radiotherapy and technologists": (
        "post RT changes, s/p RT, RT(R), RT-PCR, alert, &lt;",
        "post RT changes, s/p RT, RT(R), RT-PCR, alert, &lt;",
    ),
    "lobes in small letters": ("rul nodule, lll collapse, Rml", "lul nodule, rll collapse, Lml"),
    "small letters compared": ("l > r effusions, l>r, r=l, r<l", "r > l effusions, r>l, l=r, l<r"),
    "capital and small letters compared": ("R > l effusion, 2 l > r", "L > r effusion, 2 l > r"),
    "small letters alone": ("l effusion, r lung, r > 3 mm", "l effusion, r lung, r > 3 mm"),
    "L for lateral": (
        "PA and L views, AP & L, PA/L, PA + L chest, PA, L views",
        "PA and L views, AP & L, PA/L, PA + L chest, PA, L views",
    ),
    "a side behind a view": (
        "AP, L effusion; AP and L decubitus; PA and R base",
        "AP, R effusion; AP and R decubitus; PA and L base",
    ),
    "an initial": (
        "L. Smith MD. Read by R. Jones, L. A. Brown-Low, M.D.",
        "L. Smith MD. Read by R. Jones, L. A. Brown-Low, M.D.",
    ),
    "a side at the end of a sentence": (
        "Effusion on R. Stable. Worse on L. Smaller nodule. R. Clear.",
        "Effusion on L. Stable. Worse on R. Smaller nodule. L. Clear.",
    ),
    "a level of the spine": ("L1 fracture, L spine", "L1 fracture, L spine"),
}

ENCODED = "FINDINGS: 38 \u00b0C, clear lungs."
ENCODINGS = {
    "UTF-8 with a byte order mark": (ENCODED.encode("utf-8-sig"), (ENCODED, True)),
    "UTF-16, little-endian": (b"\xff\xfe" + ENCODED.encode("utf-16-le"), (ENCODED, False)),
    "UTF-16, big-endian": (b"\xfe\xff" + ENCODED.encode("utf-16-be"), (ENCODED, False)),
    "UTF-32, little-endian": (b"\xff\xfe\0\0" + ENCODED.encode("utf-32-le"), (ENCODED, False)),
    "UTF-32, big-endian": (b"\0\0\xfe\xff" + ENCODED.encode("utf-32-be"), (ENCODED, False)),
    "UTF-16 with half a character at its end": (
        b"\xff\xfe" + ENCODED.encode("utf-16-le") + b"a",
        (ENCODED + "\ufffd", False),
    ),
    "Windows-1252": (ENCODED.encode("cp1252"), (ENCODED, False)),
}

CASES = [
    *(Case(name, written(text.format(*parts)), clean_report, has(*parts)) for name, (text, parts) in REPORTS.items()),
    *(Case(name, written(text), clean_report, has(findings, "")) for name, (text, findings) in KEPT.items()),
    *(Case(name, written(text), clean_report, has("", CLEAR[1])) for name, text in HISTORIES.items()),
    *(Case(f"after {title}", written(f"{title} Lung mass with effusion.\nIMPRESSION: {CLEAR[1]}"), clean_report, has("", CLEAR[1])) for title in TITLES),
    *(Case(f"after {title} and before Findings", written(f"{title} Lung mass. FINDINGS: {CLEAR[0]}"), clean_report, has(CLEAR[0], "")) for title in TITLES),
    *(Case(name, stored(content), read_only_one, expected) for name, (content, expected) in ENCODINGS.items()),
    *(Case(name, written(text), swap_sides, mirrored) for name, (text, mirrored) in SIDES.items()),
]  # fmt: skip
