"""Decode radiographs of any official format to grey uint8 (paper §4: resized to 256 x 256)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from refers.errors import UserError

DICOM_SUFFIXES = (".dicom", ".dcm")
# Regardless of the suffix. None of these formats makes PIL run another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# Five times a large radiograph; a file that claims more is a decompression bomb or broken.
MAX_PIXELS = 2**27
ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
# _check_size replaces PIL's own check: it names the size, covers DICOM and always raises.
Image.MAX_IMAGE_PIXELS = None


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of what `decode` returns, read from the file's header.

    Raises:
        UserError: the file is not an image.
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
        raise UserError(f"{path}: not a readable image ({_reason(error, path)}); download it again") from None


def decode(path: str | Path, enough: int | None = None) -> np.ndarray:
    """Grey image (H, W) uint8, air dark and bone bright.

    PNG and JPEG of any mode become grey by luminance, transparency is ignored, EXIF rotation is applied. 16-bit PNGs are
    divided by the smallest range of 8 to 16 bits that holds their maximum. DICOM values are rescaled, windowed (VOI) and
    stretched to their extremes, and MONOCHROME1 is inverted; padding does not count and is black.

    Args:
        path: image file.
        enough: pixels per side that suffice. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, with sides of at least
            twice `enough`: a later antialiased resize differs by less than a grey level.

    Raises:
        UserError: the file is missing, empty, truncated, of an unknown format or larger than MAX_PIXELS.
    """
    path = Path(path)
    try:
        return _decode_dicom(path) if is_dicom(path) else _decode_picture(path, enough)
    # PIL and pydicom raise many kinds of exceptions for broken files.
    except Exception as error:
        # pydicom's words where a decoder is not installed; for a broken stream it says otherwise.
        missing = "missing dependencies" in str(error)
        advice = "install pylibjpeg and pylibjpeg-libjpeg" if missing else "download it again"
        raise UserError(f"{path}: cannot be decoded ({_reason(error, path)}); {advice}") from None


def _reason(error: Exception, path: Path) -> str:
    """What is wrong, in one line without the path, which the message already contains."""
    try:
        if path.stat().st_size == 0:
            return "empty file"
    except OSError as cause:
        return cause.strerror or str(cause)
    if isinstance(error, UnidentifiedImageError):
        return "unknown image format"
    text = getattr(error, "strerror", None) or " ".join(str(error).split()).replace(str(path), "file")
    return text or type(error).__name__


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS} in total")


def _orientation(image: Image.Image) -> int:
    # Without this check PIL would read a whole PNG in search of the tag.
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
        # pydicom warns about harmless departures from the standard.
        warnings.simplefilter("ignore")
        data = dcmread(path)
        _check_size(int(data.Columns), int(data.Rows))
        # Checked before all frames are decoded.
        if (frames := int(data.get("NumberOfFrames") or 1)) != 1:
            raise ValueError(f"{frames} frames, expected one")
        pixels = data.pixel_array
        if data.get("SamplesPerPixel", 1) == 3 and pixels.ndim == 3:
            return np.array(Image.fromarray(pixels).convert("L"))
        if pixels.ndim != 2:
            raise ValueError(f"{pixels.shape[-1]} values per pixel, expected one or three")
        padding = _padding(data, pixels)
        seen = pixels if padding is None else pixels[~padding]
        if not seen.size:
            return np.zeros(pixels.shape, np.uint8)
        # Every step below depends only on a pixel's value: it is applied to the possible values, not to millions of pixels.
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
    # Row by row, which stays in the cache: a third of the time.
    for source, target in zip(pixels, picture, strict=True):
        np.take(table, source.astype(np.intp) - low, out=target, mode="clip")
    if padding is not None:
        picture[padding] = 0
    return picture


def _padding(data: Any, pixels: np.ndarray) -> np.ndarray | None:
    """Mask (H, W) bool of a DICOM image's padding pixels; None where no tag declares any (PS3.3 C.7.5.1.1.2)."""
    if data.get("PixelPaddingValue") is None:
        return None
    ends = [data.PixelPaddingValue, data.get("PixelPaddingRangeLimit", data.PixelPaddingValue)]
    # A signed value may be stored as unsigned.
    low, high = np.sort(np.array(ends, np.int64).astype(pixels.dtype))
    return (pixels >= low) & (pixels <= high)


def load_square(path: str | Path, size: int) -> np.ndarray:
    """The whole image, resized with antialiasing to (size, size) uint8.

    Raises:
        UserError: as for `decode`.
    """
    image = Image.fromarray(decode(path, enough=size))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
