"""A schematic chest: one patient's anatomy, drawn as a frontal or lateral radiograph or a CT slice.

Coordinates are (u, v) in the patient's frame, about -1..1 over the image: u grows to the image's right, which on a
frontal radiograph is the patient's left; v grows downwards. Pixels are densities, 0 = air (dark), 1 = bone (bright).
"""

from dataclasses import dataclass, field

import numpy as np

SIZE = 96  # pixels per side
_AXIS = ((np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE * 2 - 1).astype(np.float32)
_X, _Y = _AXIS[None, :], _AXIS[:, None]


@dataclass(frozen=True)
class Anatomy:
    """What all images of a patient share. Lengths are in frame units (the image is 2 wide)."""

    body: float
    lung_width: float
    lung_height: float
    lung_offset: float
    lung_top: float
    dome: float
    dome_bow: float
    dome_tilt: float
    heart_width: float
    heart_height: float
    heart_shift: float
    mediastinum: float
    ribs: float
    rib_phase: float
    rib_strength: float
    spine: float
    tissue: float
    aeration: float
    bubble: float


# Ranges of every length but the bubble, in the order in which they are drawn.
RANGES = {
    "body": (0.815, 0.885), "lung_width": (0.285, 0.315), "lung_height": (0.61, 0.67),
    "lung_offset": (0.395, 0.425), "lung_top": (-0.115, -0.065), "dome": (0.44, 0.52), "dome_bow": (0.125, 0.175),
    "dome_tilt": (0.0225, 0.0675), "heart_width": (0.234, 0.261), "heart_height": (0.255, 0.285),
    "heart_shift": (0.08, 0.12), "mediastinum": (0.103, 0.128), "ribs": (4.5, 5.1), "rib_phase": (0.0, 1.0),
    "rib_strength": (0.07, 0.11), "spine": (0.0675, 0.0825), "tissue": (0.545, 0.595), "aeration": (0.365, 0.415),
}  # fmt: skip


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient."""
    drawn = {name: rng.uniform(*limits) for name, limits in RANGES.items()}
    return Anatomy(**drawn, bubble=rng.choice([0.0, 0.12, 0.2]))


@dataclass
class Lung:
    """One lung field with its own coordinates: s = 1 at the outer chest wall and -1 at the hilum, t = -1 apex, 1 base."""

    centre_u: float
    centre_v: float
    half_width: float
    half_height: float
    outward: int
    s: np.ndarray
    t: np.ndarray
    rim: np.ndarray  # 0 at the centre, 1 at the pleura
    below: np.ndarray  # distance above the diaphragm in frame units, negative below it
    mask: np.ndarray

    def point(self, s: float, t: float) -> tuple[float, float]:
        """Frame coordinates of the local point (s, t)."""
        return self.centre_u + self.outward * s * self.half_width, self.centre_v + t * self.half_height


@dataclass
class Scene:
    """An image being drawn: frame coordinates and densities (SIZE, SIZE), and the landmarks that findings need."""

    view: str
    anatomy: Anatomy
    u: np.ndarray
    v: np.ndarray
    pixels: np.ndarray
    lungs: dict[str, Lung] = field(default_factory=dict)
    heart: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    ribs: np.ndarray | None = None


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """Soft step: 0 for negative distances, 1 for positive ones, with a ramp of `width` in between."""
    return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


def bump(distance: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian ridge of the given half width around distance 0."""
    return np.exp(-np.square(distance * np.float32(1 / width)))


def texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (SIZE, SIZE), about -1..1, with `cells` lattice points per side."""
    weights = _interpolation(cells)
    return weights @ rng.uniform(-1, 1, (cells, cells)).astype(np.float32) @ weights.T


_WEIGHTS: dict[int, np.ndarray] = {}


def _interpolation(cells: int) -> np.ndarray:
    if cells not in _WEIGHTS:
        position = np.linspace(0, cells - 1, SIZE, dtype=np.float32)[:, None]
        _WEIGHTS[cells] = np.clip(1 - np.abs(position - np.arange(cells, dtype=np.float32)), 0, None).astype(
            np.float32
        )
    return _WEIGHTS[cells]


def pose(rng: np.random.Generator, wobble: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Frame coordinates (u, v) of every pixel under a small random rotation, shift and scale."""
    angle = rng.normal(0, 0.03) * wobble
    scale_u, scale_v = (1 + rng.normal(0, 0.03) * wobble for _ in range(2))
    shift_u, shift_v = rng.normal(0, 0.025, 2) * wobble
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = _X - np.float32(shift_u), _Y - np.float32(shift_v)
    return (cos * x + sin * y) * np.float32(1 / scale_u), (cos * y - sin * x) * np.float32(1 / scale_v)


def _lung(
    u: np.ndarray,
    v: np.ndarray,
    shape: tuple[float, float, float, float],
    outward: int,
    dome: float,
    bow: float,
) -> Lung:
    centre_u, centre_v, half_width, half_height = (np.float32(value) for value in shape)
    s = (u - centre_u) * (outward / half_width)
    t = (v - centre_v) / half_height
    squared = t * t
    # The apex is nearer to the spine than the base.
    leaning = s + np.float32(0.22) * np.clip(-t, 0, 1)
    rim = leaning * leaning + np.float32(0.5) * (squared + squared * squared)
    below = np.float32(dome) + np.float32(bow) * np.square(s + np.float32(0.15)) - v
    mask = soft(1 - rim, 0.22) * soft(below, 0.06)
    return Lung(*(float(value) for value in shape), outward, s, t, rim, below, mask)


def _behind(lungs: dict[str, Lung], shadow: np.ndarray) -> None:
    """Attenuate findings in the lung behind the heart and mediastinum, where they are hardly visible."""
    for lung in lungs.values():
        lung.mask = lung.mask * (1 - np.float32(0.75) * shadow)


def draw_frontal(anatomy: Anatomy, rng: np.random.Generator, supine: bool = False) -> Scene:
    """A PA or (supine) AP radiograph: an AP heart is magnified and the lungs are shorter."""
    a = anatomy
    u, v = pose(rng)
    width = np.abs(u)
    lift = 0.06 if supine else 0.0
    breath = rng.normal(0, 0.03)
    torso = soft(a.body - width, 0.05) * soft(v + 0.92 - 0.33 * width, 0.08)
    neck = soft(0.20 - width, 0.06)
    body = np.maximum(torso, neck)
    lungs = {}
    for side, outward, tilt in (("right", -1, 0.0), ("left", 1, a.dome_tilt)):
        shape = (outward * a.lung_offset, a.lung_top, a.lung_width, a.lung_height)
        lungs[side] = _lung(u, v, shape, outward, a.dome + tilt - lift + breath, a.dome_bow)
    air = lungs["right"].mask + lungs["left"].mask
    heart_width = a.heart_width * (1.07 if supine else 1.0)
    heart = (a.heart_shift, a.dome - lift + breath - a.heart_height * 0.62, heart_width, a.heart_height)
    inside = 1 - np.square((u - heart[0]) / heart[2]) - np.square((v - heart[1]) / heart[3])
    shadow = np.maximum(soft(inside, 0.35), soft(a.mediastinum + 0.05 * np.clip(v, -1, 0.5) - width, 0.07))
    knob = soft(0.012 - np.square(u - 0.12) - np.square(v + 0.30), 0.012)
    shadow = np.maximum(shadow, knob)
    arcs = np.cos(np.float32(2 * np.pi) * (a.ribs * (v - 0.42 * width * width + 0.25 * width) + a.rib_phase))
    ribs = (
        np.clip(arcs - 0.35, 0, 1)
        * soft(width - 0.10, 0.08)
        * soft(v + 0.82, 0.1)
        * soft(0.62 - v, 0.1)
        * torso
    )
    spine = soft(a.spine - width, 0.03) * (0.8 + 0.2 * np.cos(np.float32(2 * np.pi * 5.5) * v))
    clavicle = (
        bump(v + 0.62 - 0.22 * np.abs(width - 0.35), 0.035)
        * soft(0.72 - width, 0.06)
        * soft(width - 0.06, 0.05)
    )
    trachea = soft(0.035 - width, 0.03) * soft(-0.28 - v, 0.08)
    hila = sum(bump(lung.s + 0.75, 0.5) * bump(lung.t - 0.05, 0.4) for lung in lungs.values())
    vessels = (0.55 + 0.45 * texture(rng, 24)) * hila * 0.12 + 0.025 * texture(rng, 16)
    pixels = body * (a.tissue + 0.04 * texture(rng, 6))
    pixels += air * ((1 - shadow) * (vessels - a.aeration) + shadow * 0.10)
    pixels += body * (
        0.09 * spine + 0.5 * a.rib_strength * (1 + air) * ribs + 0.10 * clavicle - 0.12 * trachea
    )
    if a.bubble:
        pixels -= (
            0.9
            * a.bubble
            * soft(0.010 - np.square(u - 0.36) * 0.6 - np.square(v - a.dome - a.dome_tilt - 0.16), 0.012)
        )
    _behind(lungs, shadow)
    return Scene("frontal", a, u, v, pixels, lungs, heart, ribs)


def draw_lateral(anatomy: Anatomy, rng: np.random.Generator) -> Scene:
    """A lateral radiograph: the two lungs overlap, in front of the spine (image left)."""
    a = anatomy
    u, v = pose(rng)
    front = np.float32(0.70) - 0.18 * v * v
    body = np.maximum(
        soft(front - u, 0.05) * soft(u + 0.78, 0.05) * soft(v + 0.86, 0.1), soft(0.16 - np.abs(u + 0.2), 0.06)
    )
    lung = _lung(u, v, (0.04, a.lung_top, a.lung_width * 1.75, a.lung_height), -1, a.dome, a.dome_bow)
    heart = (0.26, a.dome - a.heart_height * 0.75, a.heart_width * 1.05, a.heart_height)
    inside = (
        1 - np.square((u - heart[0] - 0.2 * (v - heart[1])) / heart[2]) - np.square((v - heart[1]) / heart[3])
    )
    shadow = np.maximum(
        0.85 * soft(inside, 0.4), 0.45 * soft(0.12 - np.abs(u - 0.02 + 0.2 * v), 0.1) * soft(0.1 - v, 0.3)
    )
    bodies = 0.75 + 0.25 * np.cos(np.float32(2 * np.pi * 5) * (v + 0.05))
    spine = soft(0.12 - np.abs(u + 0.52 + 0.08 * v * v), 0.06) * bodies
    arcs = np.cos(np.float32(2 * np.pi) * (a.ribs * (v - 0.55 * u) + a.rib_phase))
    ribs = np.clip(arcs - 0.45, 0, 1) * body
    sternum = bump(u - front + 0.07, 0.03)
    pixels = body * (a.tissue + 0.04 * texture(rng, 6))
    pixels += lung.mask * ((1 - shadow) * (0.05 * texture(rng, 16) - a.aeration * 0.9) + shadow * 0.05)
    pixels += body * (0.13 * spine + 0.4 * a.rib_strength * ribs + 0.10 * sternum)
    _behind({"both": lung}, shadow)
    return Scene("lateral", a, u, v, pixels, {"left": lung, "right": lung}, heart, ribs)


def draw_ct(anatomy: Anatomy, rng: np.random.Generator) -> Scene:
    """An axial CT slice at a lung window: a ring of chest wall, black around it."""
    a = anatomy
    u, v = pose(rng, 0.6)
    radius = np.square(u / 0.86) + np.square(v / 0.64)
    body = soft(1 - radius, 0.06)
    lungs = {}
    for side, outward in (("right", -1), ("left", 1)):
        lungs[side] = _lung(u, v, (outward * 0.40, 0.0, 0.30, 0.44), outward, 2.0, 0.0)
    air = lungs["right"].mask + lungs["left"].mask
    heart = (0.08, -0.08, a.heart_width, 0.26)
    inside = 1 - np.square((u - heart[0]) / heart[2]) - np.square((v - heart[1]) / heart[3])
    shadow = soft(inside, 0.2)
    bone = np.maximum(
        soft(0.014 - np.square(u) - np.square(v - 0.46), 0.01),
        bump(radius - 0.86, 0.05) * soft(np.cos(9 * u) - 0.2, 0.5),
    )
    pixels = body * (0.62 + 0.25 * bone) - air * (1 - shadow) * (0.56 + 0.05 * texture(rng, 20))
    _behind(lungs, shadow)
    return Scene("ct", a, u, v, np.maximum(pixels, 0), lungs, heart, bone)
