"""How each dataset acquires and stores an image: exposure, noise, collimation, contrast of the findings, file format."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refers.demo.anatomy import SIZE, Scene, draw_ct, draw_frontal, draw_lateral, sample_anatomy, texture
from refers.demo.findings import Box, Place, draw_findings, reshape


@dataclass(frozen=True)
class Style:
    """Ranges of a dataset's acquisition parameters; each image draws its own values from them."""

    gamma: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]
    noise: tuple[float, float]
    border: float  # probability that the collimator is visible at an edge
    contrast: float  # of its findings
    trim: int = 0  # at most this many pixels are cut from each edge, so that sizes vary


# A small network has to see the findings of the first three in a few thousand images; one class of the others is learnt soon.
STYLES = {
    "mimic": Style((0.89, 1.16), (0.94, 1.11), (-0.01, 0.05), (0.02, 0.03), 0.30, 1.3, 5),
    "nih": Style((0.96, 1.29), (0.89, 1.06), (0.01, 0.07), (0.017, 0.026), 0.40, 1.3),
    "vinbigdata": Style((0.81, 1.04), (1.03, 1.18), (-0.035, 0.015), (0.014, 0.021), 0.20, 1.3),
    "shenzhen": Style((1.02, 1.27), (0.98, 1.12), (-0.025, 0.025), (0.02, 0.03), 0.15, 0.2),
    "covid": Style((0.86, 1.29), (0.88, 1.12), (-0.01, 0.08), (0.022, 0.038), 0.35, 0.2, 8),
}


@dataclass(frozen=True)
class Picture:
    """An image file to draw: everything that determines its bytes, small enough to send to a worker process."""

    path: str  # below the data root
    view: str  # frontal | supine | lateral | ct
    style: str
    patient: tuple[int, ...]
    seed: tuple[int, ...]
    places: tuple[Place, ...] = ()
    inverted: bool = False  # DICOM: store as MONOCHROME1


def render(picture: Picture) -> tuple[np.ndarray, list[list[Box]]]:
    """Draw an image, float32 of 0 (dark) to 1 (bright), (SIZE, SIZE) before trimming; and the boxes of its findings."""
    rng = np.random.default_rng(np.random.SeedSequence(picture.seed))
    anatomy = sample_anatomy(np.random.default_rng(np.random.SeedSequence(picture.patient)))
    anatomy = reshape(anatomy, list(picture.places))
    if picture.view == "lateral":
        scene = draw_lateral(anatomy, rng)
    elif picture.view == "ct":
        scene = draw_ct(anatomy, rng)
    else:
        scene = draw_frontal(anatomy, rng, supine=picture.view == "supine")
    style = STYLES[picture.style]
    boxes = draw_findings(scene, list(picture.places), style.contrast)
    return _expose(scene, style, rng), boxes


def _expose(scene: Scene, style: Style, rng: np.random.Generator) -> np.ndarray:
    gamma, gain, offset, noise = (
        rng.uniform(*span) for span in (style.gamma, style.gain, style.offset, style.noise)
    )
    pixels = np.clip(scene.pixels * gain + offset + 0.05 * texture(rng, 3), 0, 1.2) * np.float32(1 / 1.05)
    pixels = np.clip(pixels, 0, 1) ** np.float32(gamma)
    pixels += rng.standard_normal((SIZE, SIZE), dtype=np.float32) * np.float32(noise)
    if scene.view != "ct":
        shown = rng.random(4) < style.border
        top, bottom, left, right = (int(width) for width in rng.integers(1, 9, 4) * shown)
        level = np.float32(rng.uniform(0.0, 0.06))
        pixels[:top] = level
        pixels[SIZE - bottom :] = level
        pixels[:, :left] = level
        pixels[:, SIZE - right :] = level
        # A lead side marker.
        if rng.random() < 0.4:
            row, column = int(rng.integers(6, 14)), int(rng.choice([8, 82]))
            pixels[row : row + 4, column : column + 3] = 0.95
    if style.trim:
        top, bottom, left, right = (int(width) for width in rng.integers(0, style.trim + 1, 4))
        pixels = pixels[top : SIZE - bottom, left : SIZE - right]
    return np.clip(pixels, 0, 1)


def encode(picture: Picture, pixels: np.ndarray) -> bytes:
    """Content of the image file, in the format of its suffix."""
    suffix = Path(picture.path).suffix
    if suffix == ".dicom":
        return dicom_bytes(
            np.rint(pixels * 4095).astype(np.uint16), picture.inverted, Path(picture.path).stem
        )
    from PIL import Image

    image, buffer = Image.fromarray(np.rint(pixels * 255).astype(np.uint8)), io.BytesIO()
    if suffix == ".png":
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def dicom_bytes(stored: np.ndarray, inverted: bool, name: str) -> bytes:
    """Content of a DICOM file: explicit little endian, 12 of 16 bits stored; `inverted` stores MONOCHROME1 (0 = white)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    digits = str(int(hashlib.sha256(name.encode()).hexdigest()[:24], 16))
    meta = FileMetaDataset()
    # Digital X-Ray Image Storage - For Presentation
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{digits}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.1")
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality = "DX"
    data.PatientSex = "O"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth = "2048", "4096"
    data.PixelData = (4095 - stored if inverted else stored).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_picture(root: Path, picture: Picture) -> tuple[str, list[list[Box]]]:
    """Draw, encode and write an image; its SHA-256 and boxes."""
    pixels, boxes = render(picture)
    content = encode(picture, pixels)
    (root / picture.path).write_bytes(content)
    return hashlib.sha256(content).hexdigest(), boxes
