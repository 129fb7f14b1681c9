"""The catalogue of findings: how each is drawn, its possible sides and zones, and its label in each dataset.

A drawing function returns its density changes, one array per site, in the local coordinates of a lung, so that the same
function serves frontals, laterals and CT slices. Sides are the patient's, as a radiologist writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from refers.demo.anatomy import SIZE, Anatomy, Lung, Scene, bump, soft, texture

ZONES = {"upper": (-0.62, -0.36), "mid": (-0.20, 0.15), "lower": (0.28, 0.52)}
SIZES = {"small": 0.82, "moderate": 1.0, "large": 1.2}
EITHER, BOTH, MIDLINE = ("left", "right"), ("bilateral",), ("",)


@dataclass(frozen=True)
class Place:
    """One finding of one study: the same in each of its views. `seed` fixes position and texture."""

    finding: str
    side: str
    zone: str
    size: str
    seed: tuple[int, ...]


Box = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max in fractions of the image, 0..1
Draw = Callable[[Scene, list[Lung], Place, np.random.Generator], list[np.ndarray]]


def _disc(scene: Scene, lung: Lung, s: float, t: float, radius: float, stretch: float = 1.0) -> np.ndarray:
    """Squared distance from the local point (s, t) in units of `radius`."""
    u, v = lung.point(s, t)
    return np.square((scene.u - u) / (radius * stretch)) + np.square((scene.v - v) / radius)


def _spot(rng: np.random.Generator, place: Place, spread: float = 0.45) -> tuple[float, float]:
    return rng.uniform(-spread, spread), rng.uniform(*ZONES.get(place.zone, ZONES["mid"]))


def cardiomegaly(scene, lungs, place, rng):
    # `reshape` widens the heart itself; this site only gives its box.
    u, v, width, height = scene.heart
    return [1e-6 * soft(1 - np.square((scene.u - u) / width) - np.square((scene.v - v) / height), 0.1)]


def effusion(scene, lungs, place, rng):
    level = 0.32 * SIZES[place.size] + rng.uniform(0.0, 0.10)
    return [
        (0.46 * soft(level * (1 + 0.9 * np.clip(lung.s, -1, 1)) - lung.below, 0.07)) * lung.mask
        for lung in lungs
    ]


def pneumothorax(scene, lungs, place, rng):
    depth = 0.50 - 0.14 * (SIZES[place.size] - 0.8) / 0.4 + rng.uniform(-0.05, 0.05)
    sites = []
    for lung in lungs:
        reach = soft(0.15 - lung.t - 0.25 * np.abs(lung.s), 0.25) * lung.mask
        ring = lung.rim + 0.10 * lung.t
        sites.append(reach * (0.34 * bump(ring - depth, 0.12) - 0.17 * soft(ring - depth, 0.1)))
    return sites


def consolidation(scene, lungs, place, rng):
    s, t = _spot(rng, place, 0.35)
    size = SIZES[place.size]
    blotch = 0.62 + 0.5 * texture(rng, 13)
    return [
        0.46 * np.clip(blotch, 0, 1) * np.exp(-np.square(_disc(scene, lung, s, t, 0.27 * size))) * lung.mask
        for lung in lungs
    ]


def mass(scene, lungs, place, rng):
    s, t = _spot(rng, place, 0.4)
    radius = 0.19 * SIZES[place.size]
    return [0.40 * soft(1 - _disc(scene, lung, s, t, radius), 0.5) for lung in lungs]


def nodule(scene, lungs, place, rng):
    s, t = _spot(rng, place, 0.5)
    radius = 0.105 * SIZES[place.size]
    return [0.46 * soft(1.1 - _disc(scene, lung, s, t, radius), 0.7) for lung in lungs]


def atelectasis(scene, lungs, place, rng):
    s, t = rng.uniform(-0.3, 0.2), rng.uniform(0.30, 0.55)
    slope, length = rng.uniform(-0.45, 0.45), 0.28 * SIZES[place.size]
    sites = []
    for lung in lungs:
        u, v = lung.point(s, t)
        along, across = scene.u - u, scene.v - v
        across = across - slope * along
        plate = bump(across, 0.050) + 0.75 * bump(across - 0.17, 0.040)
        sites.append(0.42 * plate * soft(length - np.abs(along), 0.06) * np.clip(lung.mask * 1.5, 0, 1))
    return sites


def edema(scene, lungs, place, rng):
    strength = 0.30 * SIZES[place.size]
    haze = 0.85 + 0.25 * texture(rng, 12)
    return [
        strength * haze * bump(lung.s + 0.65, 0.85) * bump(lung.t - 0.08, 0.62) * lung.mask for lung in lungs
    ]


def emphysema(scene, lungs, place, rng):
    return [-0.07 * soft(1 - lung.rim, 0.4) * lung.mask for lung in lungs]


def fibrosis(scene, lungs, place, rng):
    phase = rng.uniform(0, 6.28, 2)
    low, high = (-0.75, -0.15) if place.zone == "upper" else (0.05, 0.85)
    mesh = np.cos(scene.u * 38 + 9 * scene.v + phase[0] + 2 * texture(rng, 7)) * np.cos(
        scene.v * 34 - 7 * scene.u + phase[1]
    )
    lines = np.clip(np.abs(mesh) * -1 + 0.38, 0, 1) * 2.4
    return [
        0.36 * SIZES[place.size] * lines * soft(lung.t - low, 0.3) * soft(high - lung.t, 0.3) * lung.mask
        for lung in lungs
    ]


def pleural_thickening(scene, lungs, place, rng):
    low, high = (-0.9, 0.15) if place.zone == "upper" else (-0.35, 0.75)
    depth = 0.50 - 0.22 * (SIZES[place.size] - 0.8)
    return [
        0.42 * soft(lung.rim - depth + 0.12, 0.16) * soft(lung.s - 0.15, 0.2) * soft(lung.t - low, 0.2) * soft(high - lung.t, 0.2)
        * np.clip(lung.mask * 2, 0, 1)
        for lung in lungs
    ]  # fmt: skip


def hernia(scene, lungs, place, rng):
    u = (0.06 + rng.uniform(-0.06, 0.08)) if scene.view != "lateral" else -0.12
    v = scene.heart[1] + 0.06 + rng.uniform(-0.04, 0.05)
    radius = 0.125 * SIZES[place.size]
    distance = np.sqrt(np.square(scene.u - u) + np.square((scene.v - v) * 1.1)) / radius
    level = scene.v - v - 0.25 * radius
    gas = soft(1 - distance, 0.3) * soft(-level, 0.04)
    return [0.24 * bump(distance - 1, 0.22) - 0.34 * gas + 0.10 * soft(1 - distance, 0.3)]


def infiltration(scene, lungs, place, rng):
    strength = 0.26 * SIZES[place.size]
    spots = [(rng.uniform(-0.5, 0.5), rng.uniform(-0.45, 0.5), rng.uniform(0.10, 0.16)) for _ in range(4)]
    sites = []
    for lung in lungs:
        haze = sum(np.exp(-_disc(scene, lung, s, t, radius)) for s, t, radius in spots)
        sites.append(strength * np.clip(haze, 0, 1.2) * lung.mask)
    return sites


def pneumonia(scene, lungs, place, rng):
    low, high = {"upper": (-0.9, -0.25), "mid": (-0.3, 0.2), "lower": (0.12, 0.9)}[place.zone]
    tilt, phase = rng.uniform(-0.15, 0.15), rng.uniform(0, 6.28)
    grow = 0.08 * (SIZES[place.size] - 1)
    sites = []
    for lung in lungs:
        t = lung.t + tilt * lung.s
        lobe = soft(t - low + grow, 0.12) * soft(high + grow - t, 0.12) * soft(0.95 - lung.rim, 0.2)
        bronchi = np.clip(np.cos(scene.u * 30 + 16 * lung.outward * scene.v + phase) - 0.45, 0, 1) * 1.1
        sites.append((0.38 - 0.34 * bronchi) * lobe * lung.mask)
    return sites


def calcification(scene, lungs, place, rng):
    count = int(rng.integers(3, 7))
    s, t = _spot(rng, place, 0.35)
    spots = np.stack([rng.normal(s, 0.30, count), rng.normal(t, 0.14, count)], axis=1)
    return [
        0.85 * np.clip(sum(np.exp(-_disc(scene, lung, a, b, 0.045)) for a, b in spots), 0, 1)
        for lung in lungs
    ]


def aortic_enlargement(scene, lungs, place, rng):
    radius = 0.155 * SIZES[place.size]
    u, v = (0.17, -0.30) if scene.view != "lateral" else (-0.10, -0.35)
    distance = np.square(scene.u - u) + np.square((scene.v - v) * 0.8)
    return [0.36 * soft(1 - distance / radius**2, 0.3)]


def interstitial(scene, lungs, place, rng):
    phase = rng.uniform(0, 6.28, 2)
    net = np.cos(scene.u * 62 + phase[0]) * np.cos(scene.v * 62 + phase[1])
    return [(0.06 + 0.17 * net) * SIZES[place.size] * soft(0.9 - lung.rim, 0.3) * lung.mask for lung in lungs]


def support_device(scene, lungs, place, rng):
    if scene.view == "ct":
        return [np.zeros_like(scene.pixels)]
    # An endotracheal or enteric tube in the midline.
    if place.zone == "upper":
        u, tip = rng.uniform(-0.03, 0.03), rng.uniform(-0.30, 0.65)
        return [0.42 * bump(scene.u - u, 0.020) * soft(tip - scene.v, 0.03)]
    # A catheter from the shoulder to the superior vena cava.
    side = -1 if place.side != "left" else 1
    tip = rng.uniform(0.0, 0.2)
    across = (
        soft(np.abs(scene.u) - 0.08, 0.02) * soft(side * scene.u, 0.04) * soft(0.75 - np.abs(scene.u), 0.04)
    )
    path = scene.v + 0.48 + 0.25 * np.square(np.abs(scene.u) - 0.4)
    down = bump(scene.u - side * 0.08, 0.020) * soft(scene.v + 0.46, 0.03) * soft(tip - scene.v, 0.03)
    return [0.42 * np.maximum(bump(path, 0.020) * across, down)]


def fracture(scene, lungs, place, rng):
    s, t = 0.85, rng.uniform(-0.45, 0.45)
    sites = []
    for lung in lungs:
        u, v = lung.point(s, t)
        along, across = (scene.u - u) * lung.outward, scene.v - v
        ends = bump(across - 0.045, 0.03) * soft(along, 0.02) + bump(across + 0.03, 0.03) * soft(-along, 0.02)
        sites.append(
            (0.40 * ends - 0.25 * bump(along, 0.02) * bump(across, 0.09)) * soft(0.13 - np.abs(along), 0.04)
        )
    return sites


def lung_opacity(scene, lungs, place, rng):
    s, t = _spot(rng, place, 0.3)
    stretch = rng.uniform(0.7, 1.0)
    return [
        0.27 * soft(1 - _disc(scene, lung, s, t, 0.27 * SIZES[place.size], stretch), 1.0) * lung.mask
        for lung in lungs
    ]


def other_lesion(scene, lungs, place, rng):
    s, t = _spot(rng, place, 0.35)
    slope = rng.uniform(0.5, 1.1)
    sites = []
    for lung in lungs:
        u, v = lung.point(s, t)
        along, across = scene.v - v, (scene.u - u) - slope * lung.outward * (scene.v - v)
        walls = bump(np.abs(across) - 0.08, 0.035)
        sites.append(
            (0.42 * walls - 0.10 * bump(across, 0.03)) * soft(0.26 * SIZES[place.size] - np.abs(along), 0.05)
        )
    return sites


def covid(scene, lungs, place, rng):
    sites = []
    for lung in lungs:
        patches = 0.0
        for t in (rng.uniform(-0.5, -0.15), rng.uniform(0.05, 0.25), rng.uniform(0.4, 0.6)):
            patches = patches + np.exp(
                -np.square(_disc(scene, lung, rng.uniform(0.55, 0.8), t, 0.16 * SIZES[place.size]))
            )
        sites.append(0.36 * np.clip(patches, 0, 1) * lung.mask)
    return sites


def viral(scene, lungs, place, rng):
    fine = 0.6 + 0.4 * texture(rng, 32)
    return [0.24 * SIZES[place.size] * fine * soft(1 - lung.rim, 0.4) * lung.mask for lung in lungs]


def tuberculosis(scene, lungs, place, rng):
    sites = []
    for lung in lungs:
        blotch = np.clip(0.45 + 0.75 * texture(rng, 15), 0, 1)
        patches = blotch * bump(lung.t + 0.52, 0.30) * soft(1 - lung.rim, 0.3)
        distance = np.sqrt(_disc(scene, lung, rng.uniform(-0.2, 0.4), rng.uniform(-0.6, -0.35), 0.085))
        sites.append(
            (0.32 * patches + 0.40 * bump(distance - 1, 0.35) - 0.20 * soft(0.6 - distance, 0.3)) * lung.mask
        )
    return sites


@dataclass(frozen=True)
class Finding:
    """One entry of the catalogue.

    chexpert: the MIMIC-CXR labels that are positive where the labelled part of a report names it.
    impression: how the impression of a report states it: by name, as an opacity, or not at all, since an impression is
    about what is acute.
    """

    key: str
    draw: Draw
    sides: tuple[str, ...] = EITHER
    zones: tuple[str, ...] = ("",)
    chexpert: tuple[str, ...] = ()
    nih: str = ""
    vinbigdata: str = ""
    impression: Literal["name", "opacity", ""] = "name"


_ALL = ("upper", "mid", "lower")
CATALOGUE: dict[str, Finding] = {
    finding.key: finding
    for finding in (
        Finding("cardiomegaly", cardiomegaly, MIDLINE, ("",), ("Cardiomegaly",), "Cardiomegaly", "Cardiomegaly", impression=""),
        Finding("effusion", effusion, EITHER, ("lower",), ("Pleural Effusion",), "Effusion", "Pleural effusion"),
        Finding("pneumothorax", pneumothorax, EITHER, ("upper",), ("Pneumothorax",), "Pneumothorax", "Pneumothorax"),
        Finding("consolidation", consolidation, EITHER, _ALL, ("Consolidation",), "Consolidation", "Consolidation", impression="opacity"),
        Finding("mass", mass, EITHER, _ALL, ("Lung Lesion",), "Mass", "Nodule/Mass", impression="opacity"),
        Finding("nodule", nodule, EITHER, _ALL, ("Lung Lesion",), "Nodule", "Nodule/Mass", impression=""),
        Finding("atelectasis", atelectasis, EITHER, ("lower",), ("Atelectasis",), "Atelectasis", "Atelectasis", impression=""),
        Finding("edema", edema, BOTH, ("",), ("Edema",), "Edema"),
        Finding("emphysema", emphysema, BOTH, ("",), (), "Emphysema", impression=""),
        Finding("fibrosis", fibrosis, BOTH, ("upper", "lower"), (), "Fibrosis", "Pulmonary fibrosis", impression=""),
        Finding("pleural_thickening", pleural_thickening, EITHER, ("upper", "lower"), ("Pleural Other",), "Pleural_Thickening", "Pleural thickening", impression=""),
        Finding("hernia", hernia, MIDLINE, ("",), (), "Hernia", impression=""),
        Finding("infiltration", infiltration, EITHER, ("",), ("Lung Opacity",), "Infiltration", "Infiltration", impression="opacity"),
        Finding("pneumonia", pneumonia, EITHER, _ALL, ("Pneumonia", "Lung Opacity"), "Pneumonia", impression="opacity"),
        Finding("calcification", calcification, EITHER, _ALL, (), "", "Calcification", impression=""),
        Finding("aortic_enlargement", aortic_enlargement, MIDLINE, ("",), ("Enlarged Cardiomediastinum",), "", "Aortic enlargement", impression=""),
        Finding("interstitial", interstitial, BOTH, ("",), (), "", "ILD", impression=""),
        Finding("support_device", support_device, ("right", "left"), ("upper", "mid"), ("Support Devices",), impression=""),
        Finding("fracture", fracture, EITHER, ("",), ("Fracture",), impression=""),
        Finding("lung_opacity", lung_opacity, EITHER, _ALL, ("Lung Opacity",), "", "Lung Opacity", impression="opacity"),
        Finding("other_lesion", other_lesion, EITHER, _ALL, ("Lung Lesion",), "", "Other lesion", impression=""),
        Finding("covid", covid, BOTH, ("",), ("Pneumonia", "Lung Opacity"), impression="opacity"),
        Finding("viral", viral, BOTH, ("",), ("Pneumonia", "Lung Opacity"), impression="opacity"),
        Finding("tuberculosis", tuberculosis, ("left", "right", "bilateral"), ("upper",), ("Lung Opacity",), impression="opacity"),
    )
}  # fmt: skip


def place(key: str, rng: np.random.Generator) -> Place:
    """Choose side, zone and size of a finding."""
    finding = CATALOGUE[key]
    side, zone = str(rng.choice(finding.sides)), str(rng.choice(finding.zones))
    if key == "support_device" and zone == "upper":
        # A tube in the midline instead of a catheter.
        side = ""
    return Place(
        key, side, zone, str(rng.choice(list(SIZES))), tuple(int(word) for word in rng.integers(0, 2**31, 2))
    )


def sample_places(
    weights: dict[str, float], counts: tuple[float, ...], rng: np.random.Generator
) -> list[Place]:
    """Draw one or more different findings: `counts` are the probabilities of 1, 2, ... of them, `weights` those of each."""
    keys = list(weights)
    share = np.array([weights[key] for key in keys])
    number = 1 + int(rng.choice(len(counts), p=counts))
    chosen = rng.choice(len(keys), size=min(number, len(keys)), replace=False, p=share / share.sum())
    return [place(keys[index], rng) for index in chosen]


def reshape(anatomy: Anatomy, places: list[Place]) -> Anatomy:
    """The anatomy after findings that change its outline: an enlarged heart, overinflated lungs."""
    for item in places:
        grow = SIZES[item.size]
        if item.finding == "cardiomegaly":
            anatomy = replace(
                anatomy,
                heart_width=anatomy.heart_width * (1.42 + 0.25 * (grow - 1)),
                heart_shift=anatomy.heart_shift + 0.05,
            )
        elif item.finding == "emphysema":
            anatomy = replace(
                anatomy,
                dome=anatomy.dome + 0.13,
                dome_bow=0.01,
                lung_height=anatomy.lung_height * 1.12,
                heart_width=anatomy.heart_width * 0.85,
                aeration=anatomy.aeration + 0.06,
            )
    return anatomy


def draw_findings(scene: Scene, places: list[Place], contrast: float) -> list[list[Box]]:
    """Add the findings to the scene; their boxes, one list per finding, in fractions of the image.

    contrast: factor on their densities.
    """
    boxes = []
    for item in places:
        rng = np.random.default_rng(item.seed)
        sides = EITHER if item.side == "bilateral" else (item.side,) if item.side else ("left",)
        lungs = [scene.lungs[side] for side in sides]
        if scene.view == "lateral":
            lungs = lungs[:1]
        sites = CATALOGUE[item.finding].draw(scene, lungs, item, rng)
        for site in sites:
            scene.pixels += np.float32(contrast) * site
        boxes.append([box for box in map(_box, sites) if box])
    return boxes


def _box(site: np.ndarray) -> Box | None:
    strength = np.abs(site)
    inside = strength > 0.3 * strength.max()
    if not inside.any():
        return None
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return (columns[0] / SIZE, rows[0] / SIZE, (columns[-1] + 1) / SIZE, (rows[-1] + 1) / SIZE)
