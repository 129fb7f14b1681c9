"""Radiographs of any official format -> grey uint8 (paper §4: resized to 256 x 256)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from refers.errors import UserError

DICOM_SUFFIXES = (".dicom", ".dcm")
# Whatever the suffix says. None of these formats makes PIL run another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS = 2**27  # five times a large radiograph; a file that claims more is a bomb or broken
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side
Image.MAX_IMAGE_PIXELS = None  # _check_size stands in: it names the size, knows DICOM and never only warns


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as `decode` shows it, from the file's header alone.

    Raises:
        UserError: the file is no image; the message names it.
    """
    try:
        if is_dicom(path):
            from pydicom import dcmread

            header = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            width, height = int(header.Columns), int(header.Rows)
        else:
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size[::-1] if _orientation(image) >= 5 else image.size
        _check_size(width, height)
        return width, height
    except Exception as error:
        raise UserError(f"{path}: no readable image ({_reason(error, path)}); download it again") from None


def decode(path: str | Path, enough: int | None = None) -> np.ndarray:
    """Grey image (H, W) uint8, dark air and bright bone.

    PNG and JPEG of any mode become grey by luminance, transparency is ignored, EXIF rotation is applied. 16-bit PNGs
    are divided by the smallest range of 8 to 16 bits that holds their maximum. DICOM values pass rescale and VOI window or table,
    are stretched to their extremes, and MONOCHROME1 is inverted; padding takes no part and is black.

    enough: sides of this many pixels suffice. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, both sides
    still at least twice `enough`, so that a later antialiased resize sees no difference worth a grey level.

    Raises:
        UserError: the file is missing, empty, cut short, of an unknown format or larger than MAX_PIXELS; it is named.
    """
    path = Path(path)
    try:
        return _decode_dicom(path) if is_dicom(path) else _decode_picture(path, enough)
    except Exception as error:  # PIL and pydicom raise many kinds for broken files
        advice = (
            "install pylibjpeg and pylibjpeg-libjpeg"
            if "missing dependencies" in str(error)  # pydicom's words; of a broken stream it says otherwise
            else "download it again"
        )
        raise UserError(f"{path}: cannot be decoded ({_reason(error, path)}); {advice}") from None


def _reason(error: Exception, path: Path) -> str:
    """What is wrong, in one line without the path, which the message has already."""
    try:
        if path.stat().st_size == 0:
            return "empty file"
    except OSError as cause:
        return cause.strerror
    if isinstance(error, UnidentifiedImageError):
        return "no image format that is known here"
    text = getattr(error, "strerror", None) or " ".join(str(error).split()).replace(str(path), "file")
    return text or type(error).__name__


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS} in all")


def _orientation(image: Image.Image) -> int:
    # Without the question PIL would read a whole PNG in search of the tag.
    return image.getexif().get(ORIENTATION, 1) if "exif" in image.info else 1


def _decode_picture(path: Path, enough: int | None) -> np.ndarray:
    with Image.open(path, formats=FORMATS) as image:
        _check_size(*image.size)
        if enough and image.format == "JPEG":
            image.draft("L", (2 * enough, 2 * enough))
        if _orientation(image) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return _full_range(np.asarray(image))
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        return np.array(image if image.mode == "L" else image.convert("L"))


def _full_range(values: np.ndarray) -> np.ndarray:
    if values.min() < 0:
        raise ValueError("negative grey values")
    bits = max(8, int(values.max()).bit_length())
    return np.round(values * np.float32(255 / (2**bits - 1))).astype(np.uint8)


def _decode_dicom(path: Path) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import apply_rescale, apply_voi_lut

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about harmless departures from the standard
        data = dcmread(path)
        _check_size(int(data.Columns), int(data.Rows))
        if (frames := int(data.get("NumberOfFrames") or 1)) != 1:  # before they are all decoded
            raise ValueError(f"{frames} frames, one expected")
        pixels = data.pixel_array
        if data.get("SamplesPerPixel", 1) == 3 and pixels.ndim == 3:
            return np.array(Image.fromarray(pixels).convert("L"))
        if pixels.ndim != 2:
            raise ValueError(f"{pixels.shape[-1]} values a pixel, one or three expected")
        padding = _padding(data, pixels)
        seen = pixels if padding is None else pixels[~padding]
        if not seen.size:
            return np.zeros(pixels.shape, np.uint8)
        # Every step below depends on a pixel's value alone: it is applied to the values, not to millions of pixels.
        low, high = int(seen.min()), int(seen.max())
        if high - low >= 2**16:
            raise ValueError(f"grey values from {low} to {high}, more than 16 bits")
        values = np.arange(low, high + 1, dtype=pixels.dtype)
        grey = np.asarray(apply_voi_lut(apply_rescale(values, data), data), np.float64)
    span = grey.max() - grey.min()
    grey = (grey - grey.min()) / span if span else np.zeros_like(grey)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    table, picture = np.round(grey * 255).astype(np.uint8), np.empty(pixels.shape, np.uint8)
    for source, target in zip(pixels, picture, strict=True):  # a row stays in the cache: a third of the time
        np.take(table, source.astype(np.intp) - low, out=target, mode="clip")
    if padding is not None:
        picture[padding] = 0
    return picture


def _padding(data: Any, pixels: np.ndarray) -> np.ndarray | None:
    """Where a DICOM image was filled up to its rectangle, (H, W) bool; None where nothing says so (PS3.3 C.7.5.1.1.2)."""
    if data.get("PixelPaddingValue") is None:
        return None
    ends = [data.PixelPaddingValue, data.get("PixelPaddingRangeLimit", data.PixelPaddingValue)]
    # A signed value may be written as unsigned.
    low, high = np.sort(np.array(ends, np.int64).astype(pixels.dtype))
    return (pixels >= low) & (pixels <= high)


def load_square(path: str | Path, size: int) -> np.ndarray:
    """The whole frame of an image, antialiased to (size, size) uint8.

    Raises:
        UserError: as `decode`.
    """
    image = Image.fromarray(decode(path, enough=size))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
