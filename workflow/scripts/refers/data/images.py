"""Decode radiographs of any official format to grey uint8 (paper §4: resized to 256 x 256)."""

import warnings
import zlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from refers.errors import UserError
from refers.files import expect_regular
from refers.gdcm_frame import decode_frame

DICOM_SUFFIXES = (".dicom", ".dcm")
# Regardless of the suffix. None of these formats makes PIL run another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# Five times a large radiograph; a file that claims more is a decompression bomb or broken.
MAX_PIXELS = 2**27
# Bytes that a deflated DICOM dataset may have: 32 bits for each of MAX_PIXELS.
MAX_INFLATED = 4 * MAX_PIXELS
PNG = b"\x89PNG\r\n\x1a\n"
# EXIF tag; values 5 to 8 swap width and height.
ORIENTATION = 0x0112
# TIFF tags; 0 in the first says that zero is white, the others are the sides of a tile.
TIFF_PHOTOMETRIC, TIFF_TILE = 262, (322, 323)
# The lowest bit says that a page is a smaller copy of another one.
TIFF_KIND = 254
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
# What departs from the standard or contradicts itself and is read nevertheless; packing and preflight count these.
WINDOW_IGNORED = "DICOM window that is invalid or shows nothing: ignored"
TABLE_IGNORED = "DICOM VOI table that is invalid: ignored"
EXACT_WINDOW = "DICOM window narrower than 1: applied as LINEAR_EXACT"
ALL_PADDING = "DICOM padding that covers the whole image: read as black"
SHAPE_IGNORED = "PresentationLUTShape contradicts PhotometricInterpretation: ignored"

# _check_size replaces PIL's own check: it names the size, covers DICOM and always raises.
Image.MAX_IMAGE_PIXELS = None
# A PNG's colour profile and text are skipped, but PIL unpacks them first: these are the bytes that it may.
vars(PngImagePlugin).update(MAX_TEXT_CHUNK=2**26, MAX_TEXT_MEMORY=2**27)


class _Unusable(ValueError):
    """An image that is whole but not usable as it is: what is wrong, and what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of what `decode` returns, read from the file's header.

    Raises:
        UserError: the file is not an image.
    """
    try:
        expect_regular(path)
        if is_dicom(path):
            header = _read_dicom(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            width, height = int(header.Columns), int(header.Rows)
        else:
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size[::-1] if _orientation(image) >= 5 else image.size
        _check_size(width, height)
        return width, height
    except Exception as error:
        raise UserError(f"{path}: not a readable image ({_reason(error, path)}); download it again") from None


def decode(path: str | Path, enough: int | None = None, remarks: Counter[str] | None = None) -> np.ndarray:
    """Grey image (H, W) uint8, air dark and bone bright.

    PNG and JPEG of any mode become grey by luminance, transparency is ignored, EXIF rotation is applied. 16-bit PNGs are
    divided by the smallest range of 8 to 16 bits that holds their maximum; fractions up to 1 are grey from black to white.
    Grey DICOM values pass rescale or modality table, then VOI table or window, are stretched to their extremes, and
    MONOCHROME1 is inverted; padding does not count and is black. DICOM colours, those of a palette included, become grey by
    luminance. PresentationLUTShape is not applied: INVERSE belongs to MONOCHROME1 and names the same inversion (PS3.3
    C.8.11.1).

    Args:
        path: image file.
        enough: pixels per side that suffice. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, with sides of at least
            twice `enough`: a later antialiased resize differs by less than a grey level.
        remarks: counts what departs from the standard and is read nevertheless.

    Raises:
        UserError: the file is missing, empty, truncated, not a regular file, of an unknown format or larger than
            MAX_PIXELS; it has several pages or frames; or its grey values are not finite.
    """
    path = Path(path)
    remarks = Counter() if remarks is None else remarks
    try:
        expect_regular(path)
        return _decode_dicom(path, remarks) if is_dicom(path) else _decode_picture(path, enough)
    # PIL and pydicom raise many kinds of exceptions for broken files.
    except Exception as error:
        advice = _missing_packages(path, error) or getattr(error, "advice", "download it again")
        raise UserError(f"{path}: cannot be decoded ({_reason(error, path)}); {advice}") from None


def _reason(error: Exception, path: Path) -> str:
    """What is wrong, in one line without the path, which the message already contains."""
    try:
        found = path.stat()
    except OSError as cause:
        return cause.strerror or str(cause)
    if path.is_file() and found.st_size == 0:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "unknown image format"
    text = getattr(error, "strerror", None) or " ".join(str(error).split()).replace(str(path), "file")
    return text or type(error).__name__


def _missing_packages(path: Path, error: Exception) -> str:
    """What to do where a DICOM file's coding has no decoder here; "" where the file failed for another reason."""
    # pydicom's words for no decoder at all, and for one that leaves out some streams (colours of 12 bits in JPEG).
    wanting = "missing dependencies", "No pixel data decoders", "does not support"
    if not is_dicom(path) or not any(words in str(error) for words in wanting):
        return ""
    header = _read_dicom(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    syntax = header.file_meta.TransferSyntaxUID
    if "High-Throughput" in syntax.name:
        return "install pylibjpeg and pylibjpeg-openjpeg"
    return f"convert it from {syntax.name}"


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS} in total")


def _orientation(image: Image.Image) -> int:
    # Without this check PIL would read a whole PNG in search of the tag.
    return image.getexif().get(ORIENTATION, 1) if "exif" in image.info else 1


def _check_png(path: Path) -> None:
    """Raise a ValueError where a chunk of a PNG has not its checksum; PIL compares none of those of the pixels."""
    with open(path, "rb") as opened:
        if opened.read(len(PNG)) != PNG:
            return
        while len(head := opened.read(8)) == 8:
            length = int.from_bytes(head[:4], "big")
            if len(content := opened.read(length)) < length:
                raise ValueError("truncated")
            if opened.read(4) != zlib.crc32(content, zlib.crc32(head[4:])).to_bytes(4, "big"):
                raise ValueError(f"damaged: chunk {head[4:].decode('latin-1')!r} differs from its checksum")


def _decode_picture(path: Path, enough: int | None) -> np.ndarray:
    _check_png(path)
    # Of a path PIL would map an uncompressed TIFF into memory, with the sides that it has after it is turned.
    with open(path, "rb") as opened, Image.open(opened, formats=FORMATS) as image:
        _check_size(*image.size)
        if (pages := _pages(image)) != 1:
            raise _Unusable(f"{pages} pages, expected one", "save the page that is meant alone")
        tags = getattr(image, "tag_v2", {})
        is_deep = image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in image.tile)
        # A tile is decoded whole, whatever part of it the image shows.
        _check_size(*(int(tags.get(tag, 1)) for tag in TIFF_TILE))
        if image.format == "GIF" and image.tile[0].extents != (0, 0, *image.size):
            raise ValueError("its frame does not fill the image")
        if enough and image.format == "JPEG":
            image.draft("L", (2 * enough, 2 * enough))
        if _orientation(image) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in DEEP_MODES:
            # PIL inverts a TIFF whose zero is white only at 8 bits or fewer.
            return _full_range(np.asarray(image), white_zero=tags.get(TIFF_PHOTOMETRIC) == 0)
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        # PIL keeps the upper 8 of 16 bits, which are nearly black where colours of 10 to 14 bits were stored in 16.
        if is_deep and 0 < np.asarray(image).max() < 64:
            raise _Unusable(
                "colours, or grey with transparency, of 16 bits that use fewer than 15",
                "save it in grey, or in 8 bits",
            )
        return np.array(image if image.mode == "L" else image.convert("L"))


def _pages(image: Image.Image) -> int:
    """Pages or frames of a GIF, TIFF or WebP, without a TIFF's previews; those of other formats are one image's."""
    if image.format not in ("GIF", "TIFF", "WEBP"):
        return 1
    try:
        pages = getattr(image, "n_frames", 1)
        if image.format == "TIFF" and pages > 1:
            previews = 0
            for page in range(pages):
                image.seek(page)
                previews += int(getattr(image, "tag_v2", {}).get(TIFF_KIND, 0)) & 1
            image.seek(0)
            pages -= previews
    # The first page is whole where the pointer to a second one leads nowhere.
    except Exception:
        image.seek(0)
        return 1
    return pages


def _full_range(values: np.ndarray, white_zero: bool = False) -> np.ndarray:
    """Grey uint8 of deep values: fractions up to 1, or whole numbers in the smallest range of 8 bits or more.

    Raises:
        ValueError: the values are negative or not finite, or neither fractions up to 1 nor grey levels.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("grey values that are not finite (NaN or Inf)")
    if low < 0:
        raise ValueError("negative grey values")
    is_float = values.dtype.kind == "f"
    # What overshoots 1 or counts in percent would be nearly black as grey levels.
    if is_float and 1 < high < 128 and not np.array_equal(values, np.round(values)):
        raise ValueError(f"grey values from {low:g} to {high:g}, expected fractions up to 1 or grey levels")
    top = 1 if is_float and high <= 1 else 2 ** max(8, int(high).bit_length()) - 1
    # 255.7, an overshoot of resizing, is 255
    grey = np.round(values * np.float32(255 / top)).clip(0, 255).astype(np.uint8)
    return 255 - grey if white_zero else grey


# ---- DICOM


def _read_dicom(path: Path, **options: Any) -> Any:
    """A DICOM file as pydicom reads it, even without preamble or file meta information.

    Raises:
        ValueError: it is not a DICOM image, or it inflates to more than MAX_INFLATED bytes.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with warnings.catch_warnings():
        # pydicom warns about harmless departures from the standard.
        warnings.simplefilter("ignore")
        _check_inflated(path)
        data = dcmread(path, force=True, **options)
    if "Rows" not in data or "Columns" not in data:
        raise ValueError("not a DICOM image")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        data.file_meta.TransferSyntaxUID = plain if little else ExplicitVRBigEndian
    return data


def _check_inflated(path: Path) -> None:
    """Raise a ValueError if a deflated dataset has more than MAX_INFLATED bytes; pydicom inflates without a limit."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with open(path, "rb") as opened:
        read_preamble(opened, force=True)
        meta = read_dataset(opened, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflate, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof and (deflated := inflate.unconsumed_tail or opened.read(2**20)):
            length += len(inflate.decompress(deflated, 2**24))
            if length > MAX_INFLATED:
                raise ValueError(f"inflates to more than {MAX_INFLATED} bytes")


def _decode_dicom(path: Path, remarks: Counter[str]) -> np.ndarray:
    data = _read_dicom(path)
    _check_size(int(data.Columns), int(data.Rows))
    # Checked before all frames are decoded.
    if (frames := int(data.get("NumberOfFrames") or 1)) != 1:
        raise ValueError(f"{frames} frames, expected one")
    if (samples := int(data.get("SamplesPerPixel") or 1)) not in (1, 3):
        raise ValueError(f"{samples} values per pixel, expected one or three")
    _check_stream(data, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = _stored(data, samples)
        if samples == 3:
            return _luminance(pixels, int(data.BitsStored))
        kind = data.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            return _luminance(*_palette_colours(data, pixels))
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise ValueError(f"photometric interpretation {kind!r}, expected MONOCHROME or PALETTE COLOR")
        inverted = kind == "MONOCHROME1"
        if data.get("PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
            remarks[SHAPE_IGNORED] += 1
        return _grey(data, pixels, inverted, remarks)


def _stored(data: Any, samples: int) -> np.ndarray:
    """Stored values (H, W) or colours (H, W, 3) of a DICOM image; read-only where they are not encoded.

    Raises:
        ValueError: they are fractions or several frames, or their stream is damaged.
    """
    bits = int(data.BitsStored)
    is_view = samples == 1 and not data.file_meta.TransferSyntaxUID.is_encapsulated
    if is_view:
        # The unused bits are looked at below: pydicom copies and shifts all pixels twice.
        data.pixel_array_options(view_only=True, correct_unused_bits=False)
        pixels = data.pixel_array
    else:
        pixels = _decompressed(data, samples, bits)
    if pixels.dtype.kind == "f":
        raise ValueError("floating-point pixels, expected integers")
    if pixels.ndim != (2 if samples == 1 else 3):
        raise ValueError(f"{len(pixels)} frames, expected one")
    unused = int(data.BitsAllocated) - bits
    if is_view and unused > 0:
        least = -(2 ** (bits - 1)) if pixels.dtype.kind == "i" else 0
        if pixels.min() < least or pixels.max() >= least + 2**bits:
            pixels = pixels << unused >> unused
    return pixels


def _decompressed(data: Any, samples: int, bits: int) -> np.ndarray:
    """Pixels of an encoded DICOM image, or of colours, by one decoder whatever else is installed.

    Decoders of lossy streams differ by a grey level, and all in what they take for damaged.
    """
    from pydicom import uid
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    plugins = get_decoder(syntax).available_plugins if syntax.is_encapsulated else ()
    is_extended = syntax == uid.JPEGExtended12Bit and bits > 8
    if "pillow" in plugins and not is_extended and (samples == 1 or bits <= 8):
        data.pixel_array_options(decoding_plugin="pillow")
    elif "gdcm" in plugins:
        return _by_gdcm(data, samples, bits)
    with _pil_limit():
        return data.pixel_array


def _by_gdcm(data: Any, samples: int, stored: int) -> np.ndarray:
    """Pixels (H, W) or (H, W, 3) of a stream that GDCM decodes and Pillow does not.

    Raises:
        ValueError: the stream is damaged.
    """
    from pydicom.encaps import get_frame

    syntax = data.file_meta.TransferSyntaxUID
    stream = get_frame(data.PixelData, 0, number_of_frames=1)
    rows, columns, bits = int(data.Rows), int(data.Columns), _stream_header(stream)[3]
    values = decode_frame(stream, syntax, rows, columns, samples, bits)
    if not values:
        raise ValueError(f"a damaged stream of {syntax.name}")
    pixels = np.frombuffer(values, np.uint8 if bits <= 8 else np.uint16).reshape(rows, columns, samples)
    if samples == 3:
        # Luminance is the first of these three, and grey the colour whose three values are alike.
        return pixels[..., [0, 0, 0]] if data.PhotometricInterpretation.startswith("YBR_F") else pixels
    unused = max(8 * pixels.itemsize - stored, 0)
    signed = pixels.view(f"i{pixels.itemsize}") if data.PixelRepresentation else pixels
    return signed[..., 0] << unused >> unused


@contextmanager
def _pil_limit() -> Generator[None]:
    """Let PIL refuse more than MAX_PIXELS inside a file of another format, where `_check_size` does not see them."""
    # PIL warns of this number, and refuses twice as many.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = None


def _check_stream(data: Any, samples: int) -> None:
    """Raise a ValueError where an encoded stream holds more pixels than the DICOM header states.

    A decoder follows the stream's own header. RLE has none; a byte of it gives up to 64, and an image needs hardly more
    bytes than it has unpacked. Without a transfer syntax, the stream says how it is encoded.
    """
    from pydicom import uid
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    if "PixelData" not in data or not data["PixelData"].is_undefined_length:
        return
    stream = get_frame(data.PixelData, 0, number_of_frames=1)
    marker, *size, _ = _stream_header(stream)
    width, height = int(data.Columns), int(data.Rows)
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        codings = {
            **{0xC0: uid.JPEGBaseline8Bit, 0xC1: uid.JPEGExtended12Bit, 0xC3: uid.JPEGLosslessSV1},
            **{0xF7: uid.JPEGLSLossless, 0x51: uid.JPEG2000},
        }
        if marker not in codings:
            raise ValueError("encoded pixels without a transfer syntax")
        data.file_meta.TransferSyntaxUID = codings[marker]
    syntax = data.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available:
        return
    if syntax == uid.RLELossless:
        plain = width * height * samples * int(data.BitsAllocated) // 8
        if len(stream) > 1.02 * plain + 1024:
            raise ValueError(f"{len(stream)} bytes of RLE for an image of {plain} bytes")
    elif size != [width, height]:
        found = f"{size[0]} x {size[1]} pixels" if marker else "unknown size"
        raise ValueError(f"a stream of {found} in an image of {width} x {height}")


def _stream_header(stream: bytes) -> tuple[int, int, int, int]:
    """Marker that states the size of a JPEG, JPEG-LS or JPEG 2000 stream, width, height and bits per value; zeros for
    another stream."""

    def number(start: int, length: int) -> int:
        return int.from_bytes(stream[start : start + length], "big")

    # JPEG 2000 may have boxes before its codestream.
    if (start := stream.find(b"\xff\x4f\xff\x51", 0, 2**20)) >= 0:
        width, height = (number(start + place, 4) - number(start + place + 8, 4) for place in (8, 12))
        return 0x51, width, height, (number(start + 42, 1) & 0x7F) + 1
    place = 2 if stream.startswith(b"\xff\xd8") else len(stream)
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return marker, number(place + 7, 2), number(place + 5, 2), number(place + 4, 1)
        else:
            place += 2 + number(place + 2, 2)
    return 0, 0, 0, 0


def _luminance(colours: np.ndarray, bits: int) -> np.ndarray:
    """Grey uint8 (H, W) of colours (H, W, 3) of `bits` bits."""
    if bits == 8:
        return np.array(Image.fromarray(colours.astype(np.uint8)).convert("L"))
    grey = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.round(np.clip(grey * (255 / (2**bits - 1)), 0, 255)).astype(np.uint8)


def _palette_colours(data: Any, pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Colours (H, W, 3) of a PALETTE COLOR image, and their bits (PS3.3 C.7.6.3.1.5)."""
    from pydicom.pixels import apply_color_lut

    entries, _, bits = data.RedPaletteColorLookupTableDescriptor
    colours = apply_color_lut(pixels, data)[..., :3]
    if colours.dtype == np.uint8 and not 1 <= entries <= 256:
        # pydicom's index has the type of a colour.
        raise ValueError(f"a palette of {entries or 2**16} colours of 8 bits")
    # Colours of 8 bits may be stored in 16.
    return colours, 8 if colours.dtype == np.uint8 or (bits == 8 and colours.max() < 256) else 16


def _grey(data: Any, pixels: np.ndarray, inverted: bool, remarks: Counter[str]) -> np.ndarray:
    """Grey uint8 (H, W) of an image of one value per pixel; see `decode`."""
    low, high = int(pixels.min()), int(pixels.max())
    padding = _padding(data, pixels, low, high)
    if padding is not None:
        seen = pixels[~padding]
        if not seen.size:
            remarks[ALL_PADDING] += 1
            return np.zeros(pixels.shape, np.uint8)
        low, high = int(seen.min()), int(seen.max())
    # Every step below depends only on a pixel's value: it is applied to the possible values, not to millions of pixels.
    if high - low >= 2**16:
        raise ValueError(f"grey values from {low} to {high}, more than 16 bits")
    grey = _shown(data, np.arange(low, high + 1), remarks)
    span = grey.max() - grey.min()
    grey = (grey - grey.min()) / span if span else np.zeros_like(grey)
    if inverted:
        grey = 1 - grey
    picture = _look_up(np.round(grey * 255).astype(np.uint8), pixels, low)
    if padding is not None:
        picture = np.where(padding, np.uint8(0), picture)
    return picture


def _look_up(greys: np.ndarray, pixels: np.ndarray, low: int) -> np.ndarray:
    """Grey uint8 (H, W) of pixels of any integer type, by the greys (N,) of the values from `low` on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pixels.itemsize > 2:
        return np.take(greys, pixels.astype(np.int64) - low, mode="clip")
    # pyarrow takes by unsigned integers of any size; numpy would convert each to 64 bits, at six times the time.
    unsigned = np.uint8 if pixels.itemsize == 1 else np.uint16
    table = np.zeros(256**pixels.itemsize, np.uint8)
    table[np.arange(low, low + len(greys)).astype(unsigned)] = greys
    indices = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(unsigned)
    # No index exceeds the table, which has all values of its type.
    taken = pc.take(pa.array(table), pa.array(indices.ravel()), boundscheck=False)
    return taken.to_numpy().reshape(pixels.shape)


def _shown(data: Any, values: np.ndarray, remarks: Counter[str]) -> np.ndarray:
    """Values (N,) after rescale or modality table, and VOI table or window, as float64 (PS3.3 C.11.1, C.11.2).

    Raises:
        ValueError: they are not finite, or the rescale leaves one grey of many.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(values, data)
    if not np.isfinite(values).all():
        raise ValueError("RescaleSlope or RescaleIntercept is not finite (NaN or Inf)")
    if values.size > 1 and not np.ptp(values):
        raise ValueError("RescaleSlope or the modality table gives all values one grey")
    if data.get("VOILUTSequence"):
        try:
            # A table is asked by whole numbers, which a slope of 1 leaves as floats.
            shown = np.asarray(apply_voi(np.round(values).astype(np.int64), data), np.float64)
            if _shows(shown):
                return shown
        # pydicom does not check a table: an invalid one raises what it happens to raise.
        except Exception:
            pass
        remarks[TABLE_IGNORED] += 1
    if _choose_window(data, remarks):
        shown = np.asarray(apply_windowing(values, data), np.float64)
        # pydicom takes the range of its output through the slope, which turns it round; the values are rescaled already.
        if "ModalityLUTSequence" not in data and float(data.get("RescaleSlope") or 1) < 0:
            shown = shown.max() + shown.min() - shown
        if _shows(shown):
            return shown
        remarks[WINDOW_IGNORED] += 1
    return np.asarray(values, np.float64)


def _shows(values: np.ndarray) -> bool:
    """Whether grey values are finite, and not one alone of several."""
    return bool(np.isfinite(values).all() and (values.size == 1 or np.ptp(values) > 0))


def _choose_window(data: Any, remarks: Counter[str]) -> bool:
    """Leave the first usable window in a dataset; whether there is one.

    Raises:
        ValueError: there is none, and one is not finite.
    """
    try:
        ends = [
            np.array(
                [value for value in np.atleast_1d(data.get(name, "")) if value not in (None, "")], np.float64
            )
            for name in ("WindowCenter", "WindowWidth")
        ]
    # A decimal comma, or nothing between two of several values.
    except (TypeError, ValueError):
        ends = [np.zeros(1), np.zeros(1)]
    if not (ends[0].size or ends[1].size):
        return False
    windows = list(zip(*ends, strict=False))
    usable = [window for window in windows if np.isfinite(window).all() and window[1] > 0]
    if not usable and not all(np.isfinite(values).all() for values in ends):
        raise ValueError("WindowCenter or WindowWidth is not finite (NaN or Inf)")
    function = str(data.get("VOILUTFunction") or "LINEAR").upper()
    known = function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
    if not known or not usable or usable[0] != windows[0]:
        remarks[WINDOW_IGNORED] += 1
    if not known or not usable:
        return False
    data.WindowCenter, data.WindowWidth = map(float, usable[0])
    if function == "LINEAR" and usable[0][1] < 1:
        data.VOILUTFunction = "LINEAR_EXACT"
        remarks[EXACT_WINDOW] += 1
    return True


def _padding(data: Any, pixels: np.ndarray, least: int, most: int) -> np.ndarray | None:
    """Mask (H, W) bool of the padding pixels in a DICOM image whose values go from `least` to `most`; None where there are
    none (PS3.3 C.7.5.1.1.2)."""
    if data.get("PixelPaddingValue") is None:
        return None
    ends = [data.PixelPaddingValue, data.get("PixelPaddingRangeLimit", data.PixelPaddingValue)]
    # A signed value may be stored as unsigned.
    low, high = np.sort(np.array(ends, np.int64).astype(pixels.dtype))
    return (pixels >= low) & (pixels <= high) if low <= most and high >= least else None


def load_square(path: str | Path, size: int, remarks: Counter[str] | None = None) -> np.ndarray:
    """The whole image, resized with antialiasing to (size, size) uint8; `remarks` as for `decode`.

    Raises:
        UserError: as for `decode`.
    """
    image = Image.fromarray(decode(path, enough=size, remarks=remarks))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
