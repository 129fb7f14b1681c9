"""Free-text reports in the style of MIMIC-CXR, and CheXpert-style labels that agree with them.

A report names every finding that was drawn with its side and zone, denies some that were not, and mentions normal
structures. Its impression sums up one acute finding, and calls what is dense in a lung an opacity. Labels follow the words of
the impression, as MIMIC-CXR-JPG's do: 1.0 stated, -1.0 hedged, 0.0 denied, blank not mentioned. So reports carry what
labels do not: which opacity it is, side and size, and what is not acute.
"""

import textwrap
from dataclasses import dataclass

import numpy as np

from refers.demo.findings import CATALOGUE, Place

CHEXPERT = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip

# Every sentence about a finding contains one of its words.
WORDS = {
    "cardiomegaly": (
        "cardiomegaly",
        "heart is enlarged",
        "cardiac enlargement",
        "cardiac silhouette is enlarged",
    ),
    "effusion": ("effusion",),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation",),
    "mass": ("mass",),
    "nodule": ("nodule", "nodular"),
    "atelectasis": ("atelectasis", "atelectatic"),
    "edema": ("edema",),
    "emphysema": ("emphysema", "emphysematous"),
    "fibrosis": ("fibrosis", "fibrotic"),
    "pleural_thickening": ("pleural thickening", "thickening of the pleura"),
    "hernia": ("hernia",),
    "infiltration": ("infiltrate", "infiltration"),
    "pneumonia": ("pneumonia",),
    "calcification": ("calcification", "calcified"),
    "aortic_enlargement": ("aorta", "aortic"),
    "interstitial": ("interstitial",),
    "support_device": ("tube", "catheter"),
    "fracture": ("fracture",),
    "lung_opacity": ("opacity",),
    "other_lesion": ("bronchiectasis", "bronchiectatic"),
    "covid": ("peripheral",),
    "viral": ("viral",),
    "tuberculosis": ("tuberculosis", "tuberculous"),
}

# {side} {zone} {size}: {zone} is "upper", "mid" or "lower"; {Side} begins a sentence.
SENTENCES = {
    "cardiomegaly": (
        "There is {degree} cardiomegaly.",
        "The heart is enlarged to a {degree} degree.",
        "{Degree} cardiac enlargement is present.",
        "The cardiac silhouette is enlarged.",
    ),
    "effusion": (
        "There is a {size} {side} pleural effusion.",
        "Blunting of the {side} costophrenic angle is consistent with a {size} pleural effusion.",
        "A {size} layering effusion is seen at the {side} lung base.",
        "{Size} {side}-sided pleural effusion is present.",
    ),
    "pneumothorax": (
        "There is a {size} {side} apical pneumothorax.",
        "A pleural line at the {side} apex is in keeping with a {size} pneumothorax.",
        "{Size} {side} pneumothorax without tension.",
    ),
    "consolidation": (
        "There is focal consolidation in the {side} {zone} lung.",
        "Patchy {side} {zone} zone consolidation is present.",
        "{Size} area of consolidation in the {side} {zone} zone.",
    ),
    "mass": (
        "There is a {size} rounded mass in the {side} {zone} lung.",
        "A well-defined mass projects over the {side} {zone} zone.",
        "{Side} {zone} lung mass is noted.",
    ),
    "nodule": (
        "There is a {size} nodule in the {side} {zone} lung.",
        "A nodular density projects over the {side} {zone} zone.",
        "{Side} {zone} zone pulmonary nodule is seen.",
    ),
    "atelectasis": (
        "Linear atelectasis is present at the {side} lung base.",
        "{Side} basilar plate-like atelectasis is seen.",
        "There are atelectatic changes at the {side} base.",
    ),
    "edema": (
        "There is {degree} pulmonary edema.",
        "Bilateral perihilar haze is compatible with {degree} pulmonary edema.",
        "Vascular congestion with {degree} edema.",
    ),
    "emphysema": (
        "The lungs are hyperinflated with flattened diaphragms, consistent with emphysema.",
        "Hyperlucent lungs compatible with emphysema.",
        "Emphysematous changes are seen in both lungs with flattening of the diaphragms.",
    ),
    "fibrosis": (
        "Coarse reticular markings in both {zone} zones are consistent with pulmonary fibrosis.",
        "Fibrotic changes are present in the {zone} lungs bilaterally.",
        "There is bilateral {zone} zone fibrosis.",
    ),
    "pleural_thickening": (
        "There is {side} {zone} pleural thickening.",
        "Thickening of the pleura along the {side} {zone} lateral chest wall.",
        "{Side} {zone} pleural thickening is noted.",
    ),
    "hernia": (
        "A {size} hiatal hernia is seen behind the heart.",
        "Retrocardiac air-fluid level is consistent with a {size} hiatal hernia.",
        "There is a {size} hiatus hernia.",
    ),
    "infiltration": (
        "Ill-defined patchy infiltrate is seen in the {side} lung.",
        "There is patchy infiltration throughout the {side} lung.",
        "{Side} lung infiltrate is present.",
    ),
    "pneumonia": (
        "There is a {side} {zone} lobe opacity with air bronchograms, consistent with bacterial pneumonia.",
        "Dense {side} {zone} lobar opacity with air bronchograms, in keeping with pneumonia.",
        "{Side} {zone} lobe pneumonia with a sharply bounded lobar opacity.",
    ),
    "calcification": (
        "Several punctate calcifications project over the {side} {zone} zone.",
        "Small calcified granulomas are seen in the {side} {zone} lung.",
        "There are tiny calcifications in the {side} {zone} lung.",
    ),
    "aortic_enlargement": (
        "The mediastinum is widened with an enlarged aortic arch.",
        "Widening of the mediastinum due to a dilated aorta.",
        "There is aortic enlargement with a widened upper mediastinum.",
    ),
    "interstitial": (
        "A fine interstitial pattern is present throughout both lungs.",
        "Diffuse fine interstitial markings suggest interstitial lung disease.",
        "There is a bilateral net-like interstitial pattern.",
    ),
    "fracture": (
        "There is a displaced fracture of a {side} lateral rib.",
        "{Side} rib fracture is seen along the lateral chest wall.",
    ),
    "lung_opacity": (
        "There is a hazy opacity in the {side} {zone} lung.",
        "A smooth ground-glass opacity projects over the {side} {zone} zone.",
        "{Side} {zone} lung opacity is noted.",
    ),
    "other_lesion": (
        "Tram-track lines in the {side} {zone} lung represent focal bronchiectasis.",
        "{Side} {zone} zone bronchiectatic lesion is seen.",
    ),
    "covid": (
        "Bilateral peripheral patchy opacities are typical of COVID-19 pneumonia.",
        "Multifocal peripheral opacities in both lungs, consistent with viral pneumonia such as COVID-19.",
        "There are patchy peripheral opacities bilaterally, in keeping with coronavirus pneumonia.",
    ),
    "viral": (
        "Diffuse fine hazy opacities in both lungs are consistent with viral pneumonia.",
        "There is diffuse bilateral fine opacity, suggestive of viral pneumonia.",
    ),
    "tuberculosis": (
        "{Side} apical patchy opacities with a small cavity are consistent with tuberculosis.",
        "{Side} upper lobe cavitary opacities, in keeping with tuberculous infection.",
        "There are {side} upper zone opacities with cavitation, compatible with tuberculosis.",
    ),
}
TUBE = (
    "An endotracheal tube is in place in the midline.",
    "The tip of the enteric tube is seen in the midline.",
    "Midline tube in standard position.",
)
CATHETER = (
    "A {side} central venous catheter terminates in the superior vena cava.",
    "{Side} PICC catheter tip is in the low superior vena cava.",
    "There is a {side} subclavian catheter in standard position.",
)
HEDGED = {
    "cardiomegaly": ("Possible cardiomegaly.",),
    "effusion": ("Possible {size} {side} pleural effusion.", "A {size} {side} effusion cannot be excluded."),
    "pneumothorax": ("Possible {side} apical pneumothorax.",),
    "consolidation": ("Possible early consolidation in the {side} {zone} lung.",),
    "mass": ("Possible mass in the {side} {zone} lung.",),
    "nodule": ("Possible nodule in the {side} {zone} lung.",),
    "atelectasis": ("Possible {side} basilar atelectasis.",),
    "edema": ("Possible {degree} pulmonary edema.",),
    "pleural_thickening": ("Possible {side} {zone} pleural thickening.",),
    "infiltration": ("Possible infiltrate in the {side} lung.",),
    "fracture": ("Possible {side} lateral rib fracture.",),
    "lung_opacity": ("Possible {side} {zone} lung opacity.",),
    "aortic_enlargement": ("Possible widening of the mediastinum and aortic arch.",),
}
# An impression calls what is dense in a lung an opacity; which one it is stands in the findings.
OPACITY = (
    "{Side} lung opacity as described above.",
    "There is {side} lung opacity.",
    "{Side} lung opacity, described in detail.",
)
DENIALS = {
    "Pleural Effusion": (
        "There is no pleural effusion.",
        "No effusion is seen.",
        "Costophrenic angles are clear without effusion.",
    ),
    "Pneumothorax": ("There is no pneumothorax.", "No pneumothorax is seen."),
    "Consolidation": ("No focal consolidation.", "There is no focal consolidation."),
    "Edema": ("There is no pulmonary edema.", "No evidence of edema."),
    "Cardiomegaly": ("No cardiomegaly.", "There is no cardiomegaly; the heart size is normal."),
    "Pneumonia": ("There is no evidence of pneumonia.", "No pneumonia."),
    "Fracture": ("No displaced rib fracture.", "No acute fracture is identified."),
    "Atelectasis": ("No atelectasis.",),
    "Enlarged Cardiomediastinum": ("The mediastinum is not widened.",),
}
NORMAL = (
    "The lungs are otherwise well expanded.",
    "The hilar contours are unremarkable.",
    "The visualized upper abdomen is unremarkable.",
    "The imaged osseous structures are intact.",
    "The trachea is midline.",
    "Bony structures are grossly unremarkable.",
)
PRIOR = (
    "Comparison is made to the prior radiograph of ___.",
    "In comparison with the study of ___, there is little overall change.",
    "As compared to the previous radiograph from ___, no relevant change.",
)
NOTHING_ACUTE = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "No acute intrathoracic process.",
)
NORMAL_FILM = "Normal chest radiograph."
DENIED = 0.15  # probability that a finding which is not there is denied


@dataclass(frozen=True)
class Sentence:
    """A sentence and the CheXpert-style labels that it states."""

    text: str
    labels: dict[str, float]


@dataclass(frozen=True)
class LabelledReport:
    """One study's report and its CheXpert-style labels; `hedged` are the findings stated as possible."""

    text: str
    labels: dict[str, float]
    hedged: frozenset[str]


def _fill(template: str, item: Place) -> str:
    side = "bilateral" if item.side == "bilateral" else item.side
    degree = {"small": "mild", "moderate": "moderate", "large": "severe"}[item.size]
    words = {"side": side, "zone": item.zone, "size": item.size, "degree": degree}
    words |= {key.capitalize(): value.capitalize() for key, value in words.items()}
    return template.format(**words)


def describe(item: Place, rng: np.random.Generator, hedged: bool = False) -> Sentence:
    """One sentence about a drawn finding."""
    if item.finding == "support_device":
        options = TUBE if item.zone == "upper" else CATHETER
    else:
        options = HEDGED[item.finding] if hedged else SENTENCES[item.finding]
    labels = dict.fromkeys(CATALOGUE[item.finding].chexpert, -1.0 if hedged else 1.0)
    return Sentence(_fill(str(rng.choice(options)), item), labels)


def _summed_up(item: Place, rng: np.random.Generator, hedged: bool) -> Sentence:
    """The sentence of an impression about a finding."""
    if CATALOGUE[item.finding].impression == "opacity" and not hedged:
        return Sentence(_fill(str(rng.choice(OPACITY)), item), {"Lung Opacity": 1.0})
    return describe(item, rng, hedged)


def write_report(places: list[Place], views: list[str], rng: np.random.Generator) -> LabelledReport:
    """Write one study's report.

    Most have Findings and Impression; some have only an Impression, other headers, or almost nothing, as in MIMIC-CXR, so
    that the rules of the cleaning apply to some of them. Where there is no impression, labels are those of the findings.
    """
    hedged = frozenset(item.finding for item in places if item.finding in HEDGED and rng.random() < 0.12)
    form = rng.random()
    # Lost or empty: nothing is mentioned, so nothing is labelled.
    if form < 0.012:
        body = str(
            rng.choice(["IMPRESSION: ___", "IMPRESSION:", "FINDINGS: ___ .\n\n IMPRESSION: Normal.", ""])
        )
        labels = {"No Finding": 1.0} if "Normal" in body and not places else {}
        return LabelledReport(_layout(body, views, rng), labels, frozenset())

    findings, summary = _findings(places, hedged, rng), _impression(places, hedged, rng)
    said, summed = (" ".join(each.text for each in part) for part in (findings, summary))
    if form < 0.04:
        body, labelled = f"IMPRESSION:\n\n {summed}", summary
    elif form < 0.05:
        body, labelled = f"FINDINGS AND IMPRESSION: {said} {summed}", [*findings, *summary]
    elif form < 0.065:
        body, labelled = f"FINDINGS: {said}", findings
    elif form < 0.115:
        body, labelled = f"Findings: {said}\n\n Conclusion: {summed}", summary
    elif form < 0.165:
        body, labelled = f"FINDINGS: {said}\n\n CONCLUSION: {summed}", summary
    else:
        body, labelled = f"FINDINGS:\n\n {said}\n\n IMPRESSION:\n\n {summed}", summary
    return LabelledReport(_layout(body, views, rng), _labels(labelled), hedged)


def _findings(places: list[Place], hedged: frozenset[str], rng: np.random.Generator) -> list[Sentence]:
    """Every finding, some denials of what was not drawn, and normal structures."""
    stated = [describe(item, rng, item.finding in hedged) for item in places]
    mentioned = {name for sentence in stated for name in sentence.labels}
    opacity = bool({"Pneumonia", "Lung Opacity", "Consolidation"} & mentioned)
    denials = []
    for name in map(str, rng.permutation(list(DENIALS))):
        unsafe = opacity and name in ("Pneumonia", "Consolidation", "Edema")
        if name not in mentioned and not unsafe and rng.random() < DENIED:
            denials.append(Sentence(str(rng.choice(DENIALS[name])), {name: 0.0}))
    normal = [str(text) for text in rng.choice(NORMAL, size=int(rng.integers(0, 2)), replace=False)]
    if any(item.finding == "fracture" for item in places):
        normal = [text for text in normal if "sseous" not in text and "Bony" not in text]
    prior = [str(rng.choice(PRIOR))] if rng.random() < 0.2 else []
    sentences = [stated[index] for index in rng.permutation(len(stated))]
    middle = [*sentences, *denials] if rng.random() < 0.75 else [*denials, *sentences]
    return [*(Sentence(text, {}) for text in prior), *middle, *(Sentence(text, {}) for text in normal)]


def _impression(places: list[Place], hedged: frozenset[str], rng: np.random.Generator) -> list[Sentence]:
    """The first of what is acute, the certain before the possible; or that nothing is."""
    acute = [item for item in places if CATALOGUE[item.finding].impression]
    if acute:
        item = min(acute, key=lambda item: item.finding in hedged)
        return [_summed_up(item, rng, item.finding in hedged)]
    options = NOTHING_ACUTE if places else (*NOTHING_ACUTE, NORMAL_FILM)
    return [Sentence(str(rng.choice(options)), {})]


def _labels(sentences: list[Sentence]) -> dict[str, float]:
    """Labels of sentences: present before possible before absent; without any disease, that nothing was found."""
    labels: dict[str, float] = {}
    rank = (0.0, -1.0, 1.0)
    for sentence in sentences:
        for name, value in sentence.labels.items():
            labels[name] = max(value, labels.get(name, value), key=rank.index)
    if not any(value for name, value in labels.items() if name != "Support Devices"):
        labels["No Finding"] = 1.0
    return labels


def _layout(body: str, views: list[str], rng: np.random.Generator) -> str:
    """Title, the usual sections and lines of at most 78 columns, each after one space."""
    exam = "CHEST (PA AND LAT)" if "lateral" in views else "CHEST (PORTABLE AP)"
    reason = rng.choice(
        [
            "___ with cough",
            "___ year old man with dyspnea",
            "___F with fever",
            "___ year old woman with chest pain",
            "___",
        ]
    )
    sections = [f"EXAMINATION: {exam}", f"INDICATION: {reason}"]
    if rng.random() < 0.5:
        sections.append(
            f"TECHNIQUE: {rng.choice(['Single frontal view', 'Frontal and lateral views'])} of the chest."
        )
    if rng.random() < 0.5:
        sections.append(f"COMPARISON: {rng.choice(['None.', '___.', 'Chest radiograph ___.'])}")
    sections.append(body)
    lines = [" " * 33 + "FINAL REPORT"]
    for section in "\n\n".join(sections).split("\n"):
        lines += [f" {line}" for line in textwrap.wrap(section.strip(), 77)] or [" "]
    return "\n".join(lines) + "\n"
