"""Reports that are hard to take apart, each with what a reader of it would call Findings and Impression."""

from typing import NamedTuple

import pytest
from refers.text.cleaning import clean_report


class Case(NamedTuple):
    """A report; its Findings and Impression, cleaned; and the rules of `refers.text.cleaning.RULES` that are counted."""

    report: str
    findings: str
    impression: str
    rules: set[str]


SEEN = "Large left pneumothorax with mediastinal shift. Heart normal."

CASES = {
    # ---- text without a header of its own
    "a paragraph under Technique": Case(
        "TECHNIQUE:  PA and lateral views of the chest.\n\n Large left pneumothorax with mediastinal shift.  Heart normal.",
        SEEN, "", {"other section", "paragraph as header"},
    ),
    "paragraphs under Reason": Case(
        " FINAL REPORT\n REASON FOR EXAMINATION:  Evaluation of the patient with fever.\n \n Portable AP radiograph was\n"
        " reviewed.\n \n Heart size is normal.  Lungs are clear.\n",
        "Portable AP radiograph was reviewed. Heart size is normal. Lungs are clear.", "",
        {"other section", "paragraph as header"},
    ),
    "a paragraph under a Comparison that is only a mark": Case(
        "INDICATION: Cough.\n\n COMPARISON:  ___.\n\n Single frontal view shows a new right lower lobe opacity.\n\n"
        " IMPRESSION:  Right lower lobe pneumonia.",
        "Single frontal view shows a new right lower lobe opacity.", "Right lower lobe pneumonia.",
        {"de-identification", "other section", "paragraph as header"},
    ),
    "headers alone on their lines": Case(
        "INDICATION:\n\n Cough.  Evaluate for pneumonia.\n\n COMPARISON:\n\n ___\n\n The lungs are clear.\n\n IMPRESSION:\n\n Normal.",
        "The lungs are clear.", "Normal.", {"de-identification", "other section", "paragraph as header"},
    ),
    "paragraphs of two sections": Case(
        "HISTORY: Fall.\n\n AP view shows no fracture.\n\n COMPARISON: None.\n\n No pneumothorax.",
        "AP view shows no fracture. No pneumothorax.", "", {"other section", "paragraph as header", "several"},
    ),
    "a paragraph beside a Findings header goes, and is counted": Case(
        "INDICATION: Cough.\n\n Evaluate for pneumonia.\n\n FINDINGS: Clear lungs.",
        "Clear lungs.", "", {"other section", "paragraph left out"},
    ),
    "an indication that goes on is no paragraph of its own": Case(
        "INDICATION: ___ year old man\n \n with cough and fever.\n \n IMPRESSION: No pneumonia.",
        "", "No pneumonia.", {"de-identification", "other section"},
    ),
    "a paragraph under Recommendation is none either": Case(
        "IMPRESSION: New nodule.\n\n RECOMMENDATION(S): CT of the chest.\n\n Discussed with Dr. ___ by phone.",
        "", "New nodule.", {"de-identification", "other section"},
    ),
    "no header at all": Case(
        " FINAL REPORT\n PORTABLE CHEST, ___ AT 05:12\n\n Large left pneumothorax with mediastinal shift.\n Heart normal.\n",
        SEEN, "", {"de-identification", "in front of the headers", "paragraph as header"},
    ),
    "text in front of the only header": Case(
        "Heart size is normal. Lungs are clear.\nIMPRESSION: Normal chest.",
        "Heart size is normal. Lungs are clear.", "Normal chest.", {"paragraph as header"},
    ),
    "a title in front of the only header": Case(
        "CHEST RADIOGRAPHS, PA AND LATERAL VIEWS.\n\nIMPRESSION: Normal chest.",
        "", "Normal chest.", {"in front of the headers"},
    ),
    "a paragraph of topics": Case(
        "COMPARISON: None.\n\n STERNOTOMY WIRES: Intact.\n EFFUSION: Moderate.\n\n IMPRESSION: Effusion.",
        "STERNOTOMY WIRES: Intact. EFFUSION: Moderate.", "Effusion.",
        {"other section", "paragraph as header", "title as text"},
    ),
    "findings under Report": Case(
        "CLINICAL HISTORY: Cough.\nREPORT: The lungs are clear.\nIMPRESSION: Normal.",
        "The lungs are clear.", "Normal.", {"other section", "report as header"},
    ),
    "a blank Findings header": Case(
        "FINDINGS:\n\n COMPARISON: None.\n\n The lungs are clear.\n\n IMPRESSION: Normal.",
        "The lungs are clear.", "Normal.", {"other section", "paragraph as header"},
    ),
    # ---- titles within Findings and Impression
    "an unlisted title opens the Impression": Case(
        "IMPRESSION:\n STERNOTOMY WIRES: intact.  Large left pneumothorax, new since prior.",
        "", "STERNOTOMY WIRES: intact. Large left pneumothorax, new since prior.", {"title as text"},
    ),
    "a list of topics": Case(
        "FINDINGS:\n LUNGS: Clear.\n EFFUSION: Moderate on the right.\n PNEUMOTHORAX: None.\n HEART: Enlarged.",
        "LUNGS: Clear. EFFUSION: Moderate on the right. PNEUMOTHORAX: None. HEART: Enlarged.", "", {"title as text"},
    ),
    "a topic under a header without a colon": Case(
        "IMPRESSION\n PNEUMONIA:  Right lower lobe.",
        "", "PNEUMONIA: Right lower lobe.", {"no colon", "title as text"},
    ),
    "known titles end them all the same": Case(
        "FINDINGS: Clear.\nREFERRING PHYSICIAN: Dr. ___\nIMPRESSION: Normal.\nDISPOSITION PLAN: Home.",
        "Clear.", "Normal.", {"de-identification", "other section"},
    ),
    "misspelt headers": Case(
        "INDCIATION: Cough.\nFINDNGS: Clear lungs.\nIMPRESSON: Normal.",
        "Clear lungs.", "Normal.", {"misspelt", "other section"},
    ),
    "misspelt headers in one line": Case(
        "COMPARISION: None. FINIDNGS: Clear lungs. IMPERSSION: Normal.",
        "Clear lungs.", "Normal.", {"inside a line", "misspelt", "other section"},
    ),
    "a word that resembles a header is text": Case(
        "FINDINGS:\n COMPRESSION: Of L1.\n DEPRESSION: Of the sternum.",
        "COMPRESSION: Of L1. DEPRESSION: Of the sternum.", "", {"title as text"},
    ),
    # ---- a view as header
    "other findings under a view": Case(
        "AP PORTABLE CHEST:  Large left pneumothorax.\n OTHER FINDINGS:  Old rib fractures.",
        "Large left pneumothorax. Old rib fractures.", "", {"several", "view as header"},
    ),
    "a time in the title": Case(
        "PORTABLE CHEST AT 05:12:  Large left pneumothorax.\n IMPRESSION:  Pneumothorax.",
        "Large left pneumothorax.", "Pneumothorax.", {"view as header"},
    ),
    "a date and a time of day in the title": Case(
        "AP CHEST, 5:09 A.M., ___:  New effusion.\n COMPARISON: ___",
        "New effusion.", "", {"de-identification", "view as header"},
    ),
    "two studies": Case(
        "FINDINGS:\n FIRST STUDY: Tube in the right main bronchus.\n SECOND STUDY: Tube withdrawn, new left pneumothorax.",
        "FIRST STUDY: Tube in the right main bronchus. SECOND STUDY: Tube withdrawn, new left pneumothorax.", "",
        {"title as text"},
    ),
    "two studies in one line": Case(
        "FINDINGS: Tube in place. SECOND STUDY: Tube withdrawn. STUDY: Portable.",
        "Tube in place. SECOND STUDY: Tube withdrawn.", "", {"inside a line", "other section"},
    ),
    "a header of two sections": Case(
        "IMPRESSION: Normal.\nCOMPARISON AND FINDINGS: Unchanged since ___.",
        "Unchanged since.", "Normal.", {"de-identification"},
    ),
    "headers as items of a list": Case(
        "- FINDINGS: Clear lungs.\n- IMPRESSION: Normal.\n* RECOMMENDATION: None.",
        "Clear lungs.", "Normal.", {"other section"},
    ),
    "numbered headers": Case(
        "1. COMPARISON: None.\n2. FINDINGS: Clear lungs.\n3. IMPRESSION: Normal.",
        "Clear lungs.", "Normal.", {"other section"},
    ),
    "in summary": Case(
        "FINDINGS: Clear lungs.\nIN SUMMARY: Normal.",
        "Clear lungs.", "Normal.", {"conclusion"},
    ),
    "a view in front of Findings": Case(
        "IMPRESSION: Normal.\nFRONTAL CHEST X-RAY FINDINGS: Clear lungs.",
        "Clear lungs.", "Normal.", set(),
    ),
    "findings by region": Case(
        "CHEST FINDINGS: Clear lungs.\nABDOMEN FINDINGS: Free gas.\nIMPRESSION: Perforation.",
        "Clear lungs. Free gas.", "Perforation.", {"several"},
    ),
    "titles with a limit": Case(
        "COMPARISON (OUTSIDE FILM): None.\nFINDINGS (PA AND LATERAL):\nClear lungs.\nIMPRESSION (PRELIMINARY): Normal.",
        "Clear lungs.", "Normal.", {"other section"},
    ),
    "one line in small letters": Case(
        "Comparison: none. Findings: the findings: are few. Impression: Normal.",
        "the findings: are few.", "Normal.", {"inside a line", "other section"},
    ),
    # ---- preliminary reports, marks
    "a wet read, an addendum and a paragraph": Case(
        " WET READ: ___ 8:15 PM\n Effusion.\n\n Perhaps pneumonia.\n______________\n FINAL REPORT\n INDICATION: Cough.\n\n"
        " The lungs are clear.\n\n ADDENDUM:  Discussed.\n\n Called in.\n",
        "The lungs are clear.", "", {"addendum", "de-identification", "other section", "paragraph as header", "wet read"},
    ),
    "half a mark in each section": Case(
        "FINDINGS: Seen [** by us.\nIMPRESSION: Normal **] chest.",
        "Seen by us.", "Normal chest.", {"de-identification"},
    ),
    # ---- small letters and no colon
    "small letters": Case(
        "indication: cough\nfindings: the lungs are clear\nimpression: no acute process",
        "the lungs are clear", "no acute process", {"other section", "small letters"},
    ),
    "small letters in one line": Case(
        "indication: cough. findings: the lungs are clear. impression: no acute process.",
        "the lungs are clear.", "no acute process.", {"inside a line", "other section", "small letters"},
    ),
    "titles alone on their lines": Case(
        "Indication\nCough.\n\nFindings\nThe lungs are clear.\n\nImpression\nNo acute process.\n\nRecommendation\nNone.",
        "The lungs are clear.", "No acute process.", {"no colon", "other section"},
    ),
    "titles alone without blank lines": Case(
        "Technique\nPA view.\nFindings\nThe lungs are clear.\nImpression\nNo acute process.",
        "The lungs are clear.", "No acute process.", {"no colon", "other section"},
    ),
    "small titles alone": Case(
        "history\ncough\n\nfindings\nthe lungs are clear.\n\nimpression\nno acute process.",
        "the lungs are clear.", "no acute process.", {"no colon", "other section"},
    ),
    "titles before a dash": Case(
        "Findings - the lungs are clear.\nImpression - no acute process.",
        "the lungs are clear.", "no acute process.", {"no colon"},
    ),
    "a word that wrapping put at the start of a line": Case(
        "FINDINGS: There is no change in the size of the opacity or in any of the other\nfindings: the tube is in the same"
        " place, and there are no new\nfindings\nin the lungs, in keeping with the earlier\nimpression of an edema.",
        "There is no change in the size of the opacity or in any of the other findings: the tube is in the same place, and there"
        " are no new findings in the lungs, in keeping with the earlier impression of an edema.", "", set(),
    ),
    "sections in capitals without colons": Case(
        "UNDERLYING MEDICAL CONDITION\n 50 year old man with cough\nREASON FOR THIS EXAMINATION\n Pneumonia\n"
        "IMPRESSION\n Normal chest today.",
        "", "Normal chest today.", {"no colon", "other section"},
    ),
    # ---- the patient and the request
    "a condition and a reason": Case(
        " Reason: ?pneumonia\n Admitting Diagnosis: SEPSIS\n UNDERLYING MEDICAL CONDITION:\n  59 year old man with fever.\n"
        " REASON FOR THIS EXAMINATION:\n  Please evaluate for pneumonia.\n ____\n FINAL REPORT\n INDICATION:  Fever.\n\n"
        " The lungs are clear.\n\n IMPRESSION:  No pneumonia.",
        "The lungs are clear.", "No pneumonia.", {"de-identification", "other section", "paragraph as header"},
    ),
    "a history that goes on": Case(
        "HISTORY: Cough.\n\n Patient is a smoker with chest pain.\n\n The lungs are clear.\n\n IMPRESSION: Normal chest.",
        "The lungs are clear.", "Normal chest.", {"other section", "paragraph as header", "paragraph left out"},
    ),
    "a reason that goes on": Case(
        "REASON:\n\n Cough.\n\n Fever for 3 days.\n\n Rule out pneumothorax.\n\n IMPRESSION: Normal chest today.",
        "", "Normal chest today.", {"other section", "paragraph left out"},
    ),
    "a condition that goes on": Case(
        "UNDERLYING MEDICAL CONDITION:\n\n 50 year old man with cough.\n\n History of lung cancer.\n\n IMPRESSION: Normal chest.",
        "", "Normal chest.", {"other section", "paragraph left out"},
    ),
    "findings that name the patient": Case(
        "REASON FOR EXAM: Dyspnea.\n\n Patient is status post sternotomy. The heart is enlarged.\n\n IMPRESSION: Cardiomegaly.",
        "Patient is status post sternotomy. The heart is enlarged.", "Cardiomegaly.", {"other section", "paragraph as header"},
    ),
    # ---- page breaks, numbers, markup
    "a page break": Case(
        "FINDINGS: The lungs are\n            (Over)\n\n [**2118-6-2**] 9:01 AM\n CHEST (PORTABLE AP)     Clip # [**12345**]\n"
        " Reason: cough\n                 FINAL REPORT\n (Cont)\n clear.\nIMPRESSION: Normal chest.",
        "The lungs are clear.", "Normal chest.", {"page break"},
    ),
    "marks of a page break side by side": Case(
        "INDICATION: Fever and a\n(Over)(Cont)\ncough.\nFINDINGS: Clear (over)(cont.) lungs.\nIMPRESSION: Normal.",
        "Clear lungs.", "Normal.", {"page break", "other section"},
    ),
    "numbers of impressions": Case(
        "FINDINGS: Clear lungs.\nIMPRESSION #1: Normal chest.\nImpression 2: No edema.",
        "Clear lungs.", "Normal chest. No edema.", {"several"},
    ),
    "Markdown": Case(
        "## Indication\nCough.\n\n**Findings** The **left** lung is clear.\n\n***\n__IMPRESSION__\n\nNormal chest.",
        "The left lung is clear.", "Normal chest.", {"markup", "other section"},
    ),
    "Markdown with underlined titles": Case(
        "History\n-------\nCough.\n\nFindings\n========\nClear lungs.\n\n*Impression:* Normal.",
        "Clear lungs.", "Normal.", {"markup", "other section"},
    ),
    "HTML": Case(
        "<h2>Indication</h2><p>Cough.</p><p><b>FINDINGS:</b> Heart &lt; 15&nbsp;cm &amp; clear lungs.<br/></p>"
        "<div><strong>Impression</strong> Normal <i>chest</i>.</div>",
        "Heart < 15 cm & clear lungs.", "Normal chest.", {"markup", "other section"},
    ),
    "what only looks like markup": Case(
        "FINDINGS: Nodule < 5 mm, effusion > 2 cm, R&D; 5 * 3 cm, #1 tube_tip, pleural <-> hilar.",
        "Nodule < 5 mm, effusion > 2 cm, R&D; 5 * 3 cm, #1 tube_tip, pleural <-> hilar.", "", set(),
    ),
    "blanks with spaces": Case(
        "FINDINGS: Compared with _ _ the tube by Dr. _ is unchanged.\nIMPRESSION: Seen _ _ _ before.",
        "Compared with the tube by Dr. is unchanged.", "Seen before.", {"de-identification"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_difficult_report(name):
    report, findings, impression, rules = CASES[name]
    cleaned = clean_report(report)
    assert (cleaned.findings, cleaned.impression) == (findings, impression)
    assert cleaned.rules == rules


# Spellings that the authors of MIMIC-CXR met in its reports (section_parser.py of MIT-LCP/mimic-cxr lists them)
MET = {
    "findings": "FINDINS FINDINDGS FINDGINGS FINDNGS FINDNINGS FINIDNGS FINDING",
    "impression": "IMPRESSON IMPRRESSION IMORESSION IMPRESSOIN IMPRSSION IMPRESION IMPERSSION MPRESSION IMPESSION",
    "other section": "NDICATION IDICATION COMPARISION COMPARSION COMPARRISON COMPARISIONS",
}


@pytest.mark.parametrize(
    ("section", "title"), [(name, title) for name, found in MET.items() for title in found.split()]
)
def test_spellings_met_in_the_reports(section, title):
    cleaned = clean_report(f"FINDINGS: Clear.\nIMPRESSION: Normal.\n{title}: Unlike others.")
    where = {"findings": cleaned.findings, "impression": cleaned.impression, "other section": ""}
    assert ("Unlike others." in where[section]) == (section != "other section")
    assert ("other section" in cleaned.rules) == (section == "other section")
    assert title not in cleaned.text
