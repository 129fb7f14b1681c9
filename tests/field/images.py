"""Images that are valid but rare, damaged or hostile: how each is decoded, or refused in one line."""

import io
import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from helpers import recode, write_dicom
from PIL import Image, PngImagePlugin, TiffImagePlugin
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from refers.data.images import (
    ALL_PADDING,
    EXACT_WINDOW,
    MAX_INFLATED,
    SHAPE_IGNORED,
    TABLE_IGNORED,
    WINDOW_IGNORED,
    decode,
    image_size,
)

from field import Case, refused

RAMP = np.linspace(0, 255, 48 * 64).round().astype(np.uint8).reshape(48, 64)
GREY = RAMP.astype(np.uint16)
UNDEFINED = float("nan")
INFINITE = float("inf")


# ---- expectations


def is_ramp(grey: np.ndarray) -> None:
    assert np.abs(grey.astype(int) - RAMP).max() <= 1


def is_inverted_ramp(grey: np.ndarray) -> None:
    is_ramp(255 - grey)


def is_falling(grey: np.ndarray) -> None:
    flat = grey.astype(int).ravel()
    assert (np.diff(flat) <= 0).all()
    assert (flat[0], flat[-1]) == (255, 0)


def turned(folder: Path) -> Path:
    """Stored a quarter turn from how it is seen, uncompressed."""
    Image.fromarray(RAMP).save(folder / "a.tif", tiffinfo={274: 6})
    return folder / "a.tif"


def remarked(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    remarks: Counter[str] = Counter()
    return decode(path, remarks=remarks), dict(remarks)


def is_ramp_with(*remarks: str) -> Callable:
    def check(found: tuple[np.ndarray, dict]) -> None:
        is_ramp(found[0])
        assert found[1] == dict.fromkeys(remarks, 1)

    return check


def is_threshold_at_128(found: tuple[np.ndarray, dict]) -> None:
    assert np.array_equal(found[0], np.where(RAMP >= 128, 255, 0))
    assert found[1] == {EXACT_WINDOW: 1}


def is_black(found: tuple[np.ndarray, dict]) -> None:
    assert not found[0].any()
    assert found[1] == {ALL_PADDING: 1}


# ---- pictures

PAGED = ("a.tif", "a.gif", "a.webp")
RGB16 = ("a.png", "a.tif")


def pages(name: str, count: int) -> Callable[[Path], Path]:
    """Pictures in one file."""

    def make(folder: Path) -> Path:
        first, *others = [Image.fromarray(RAMP // (1 + page)) for page in range(count)]
        options = {"lossless": True} if name.endswith("webp") else {}
        first.save(folder / name, save_all=True, append_images=others, **options)
        return folder / name

    return make


def write_deep(path: Path, colours: np.ndarray) -> Path:
    """Colours (H, W, 3) uint16 as a PNG or TIFF of 16 bits, which PIL does not write."""
    height, width = colours.shape[:2]
    values = colours.astype(">u2").tobytes()
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        ends = [zlib.crc32(kind + content) for kind, content in chunks]
        parts = [
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", end)
            for (kind, content), end in zip(chunks, ends, strict=True)
        ]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        return path
    # width, height, bits (behind the entries), no compression, colours, place, values per pixel, rows, bytes
    start = 8 + 2 + 12 * 9 + 4
    short = {256: width, 257: height, 259: 1, 262: 2, 277: 3, 278: height}
    entries = {tag: (3, 1, value << 16) for tag, value in short.items()}
    entries |= {258: (3, 3, start), 273: (4, 1, start + 6), 279: (4, 1, len(values))}
    listed = b"".join(struct.pack(">HHII", tag, *entries[tag]) for tag in sorted(entries))
    head = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + listed + bytes(4)
    path.write_bytes(head + struct.pack(">HHH", 16, 16, 16) + values)
    return path


def deep_colours(name: str, bits: int) -> Callable[[Path], Path]:
    """Colours of three equal values that have some bits, stored in 16."""
    values = np.repeat(((GREY * np.uint16(257)) >> (16 - bits))[..., None], 3, axis=2)
    return lambda folder: write_deep(folder / name, values)


def blue(share: int) -> Callable[[Path], Path]:
    """A PNG of 16 bits that is black, or the strongest blue."""
    values = np.zeros((4, 4, 3), np.uint16)
    values[..., 2] = 65535 * share
    return lambda folder: write_deep(folder / "a.png", values)


def preview(folder: Path) -> Path:
    """A TIFF whose second page is a smaller copy, as scanners write it."""
    small = Image.fromarray(RAMP[::4, ::4])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(RAMP).save(folder / "a.tif", save_all=True, append_images=[small])
    return folder / "a.tif"


def lost_page(folder: Path) -> Path:
    """A TIFF whose pointer to a second page leads behind its end."""
    Image.fromarray(RAMP).save(folder / "a.tif")
    content = bytearray((folder / "a.tif").read_bytes())
    (first,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[first : first + 2])
    place = first + 2 + 12 * entries
    content[place : place + 4] = struct.pack("<I", 0x7FFFFFFF)
    (folder / "a.tif").write_bytes(content)
    return folder / "a.tif"


def dark_bmp(folder: Path) -> Path:
    """A BMP of 16 bits a pixel (5, 6 and 5 of a colour), a quarter bright."""
    pixels = struct.pack("<H", 8 << 11 | 16 << 5 | 8) * 16
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, len(pixels), 2835, 2835, 0, 0) + masks
    start = 14 + len(header)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    (folder / "a.bmp").write_bytes(head + header + pixels)
    return folder / "a.bmp"


def picture(mode: np.ndarray | Image.Image, name: str = "a.png", **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = Image.fromarray(mode) if isinstance(mode, np.ndarray) else mode
        image.save(folder / name, **options)
        return folder / name

    return make


def png_with(**chunks: Any) -> Callable[[Path], Path]:
    """A PNG with an ancillary chunk of 2 MB: `profile`, `compressed` text or `xmp`."""
    # Noise, which no compression shortens.
    noise = np.random.default_rng(0).integers(32, 127, 2**21, dtype=np.uint8).tobytes()
    text = PngImagePlugin.PngInfo()
    if "compressed" in chunks:
        text.add_text("Comment", noise.decode(), zip=True)
    if "xmp" in chunks:
        text.add_itxt("XML:com.adobe.xmp", noise.decode())
    profile = noise if "profile" in chunks else None
    return picture(RAMP, pnginfo=text, icc_profile=profile)


def flipped(values: np.ndarray) -> Callable[[Path], Path]:
    """A PNG with one other bit among its pixels."""

    def make(folder: Path) -> Path:
        path = picture(values)(folder)
        content = bytearray(path.read_bytes())
        content[content.index(b"IDAT") + 40] ^= 1
        path.write_bytes(content)
        return path

    return make


def narrow_frame(folder: Path) -> Path:
    """A GIF of 8 x 8 pixels with a frame of 8 x 4."""
    Image.new("L", (8, 8)).save(folder / "a.gif")
    content = (folder / "a.gif").read_bytes()
    (folder / "a.gif").write_bytes(content.replace(b"\x2c\0\0\0\0\x08\0\x08\0", b"\x2c\0\0\0\0\x08\0\x04\0"))
    return folder / "a.gif"


def zero_is_white(folder: Path) -> Path:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray((65535 - GREY * 257).astype(np.uint16)).save(folder / "a.tif", tiffinfo=tags)
    return folder / "a.tif"


def tile_bomb(folder: Path) -> Path:
    """A TIFF of 8 x 8 pixels in one deflated tile of 40,000 x 40,000."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    values = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 8, 325: 0}
    packed = zlib.compress(bytes(2**20))
    for tag, value in (values | {325: len(packed)}).items():
        tags[tag] = value
    with open(folder / "a.tif", "wb") as opened:
        opened.write(b"II*\0" + (8 + len(packed) + len(packed) % 2).to_bytes(4, "little"))
        opened.write(packed + bytes(len(packed) % 2))
        opened.write(tags.tobytes(8 + len(packed) + len(packed) % 2))
    return folder / "a.tif"


def frame_bomb(folder: Path) -> Path:
    """A GIF of 8 x 8 pixels whose frame claims 60,000 x 60,000."""
    Image.new("L", (8, 8)).save(folder / "a.gif")
    content = (folder / "a.gif").read_bytes()
    frame = content.rindex(b"\x2c\0\0\0\0\x08\0\x08\0")
    (folder / "a.gif").write_bytes(content[: frame + 5] + b"\x60\xea\x60\xea" + content[frame + 9 :])
    return folder / "a.gif"


def pipe(folder: Path, name: str = "a.png") -> Path:
    os.mkfifo(folder / name)
    return folder / name


def directory(folder: Path) -> Path:
    (folder / "a.png").mkdir()
    return folder / "a.png"


def text(folder: Path, content: str = "<!DOCTYPE html><html>404 Not Found</html>") -> Path:
    (folder / "a.dcm").write_text(content)
    return folder / "a.dcm"


# ---- DICOM


def dicom(pixels: np.ndarray = GREY, bits: int = 8, **tags: Any) -> Callable[[Path], Path]:
    return lambda folder: write_dicom(folder / "a.dcm", pixels, bits, **tags)


def with_raw(**texts: str) -> Callable[[Path], Path]:
    """A DICOM with decimal strings that pydicom itself refuses to write."""

    def make(folder: Path) -> Path:
        written = {name: "1" * len(text) for name, text in texts.items()}
        path = write_dicom(folder / "a.dcm", GREY, 8, **{"WindowCenter": "128", **written})
        content = path.read_bytes()
        for name, text in texts.items():
            tag = {
                "WindowCenter": b"\x50\x10",
                "WindowWidth": b"\x51\x10",
                "RescaleSlope": b"\x53\x10",
                "RescaleIntercept": b"\x52\x10",
            }[name]
            place = content.index(b"\x28\x00" + tag + b"DS") + 8
            content = content[:place] + text.encode() + content[place + len(text) :]
        path.write_bytes(content)
        return path

    return make


def rescaled(slope: str) -> Callable[[Path], Path]:
    return with_raw(RescaleSlope=slope, RescaleIntercept="0 ")


def colours(pixels: np.ndarray, photometric: str = "RGB", **tags: Any) -> Callable[[Path], Path]:
    """A DICOM with three values per pixel."""

    def make(folder: Path) -> Path:
        path = write_dicom(
            folder / "a.dcm", pixels[..., 0].copy(), 8 * pixels.itemsize, photometric=photometric
        )
        data = dcmread(path)
        data.SamplesPerPixel, data.PlanarConfiguration, data.PixelData = 3, 0, pixels.tobytes()
        data.save_as(path)
        return path

    return make


def table(values: np.ndarray, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), 0, bits], values.astype(np.uint16).tobytes()
    return Sequence([item])


def palette(bits: int = 16, segmented: bool = False) -> Callable[[Path], Path]:
    """A ramp whose pixels are indices of a shuffled palette of greys."""
    order = np.random.default_rng(0).permutation(256)

    def make(folder: Path) -> Path:
        entries = order.astype(np.uint16) * (257 if bits == 16 else 1)
        stored = entries.astype("<u2" if bits == 16 else np.uint8).tobytes()
        tags: dict[str, Any] = {}
        for colour in ("Red", "Green", "Blue"):
            name = f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"
            tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
            tags[name] = np.array([0, 256], "<u2").tobytes() + stored if segmented else stored
        index = np.argsort(order)[RAMP].astype(np.uint8)
        return write_dicom(folder / "a.dcm", index, 8, photometric="PALETTE COLOR", **tags)

    return make


def encoded(syntax: str, stream: bytes, bits: int = 8, pixels: np.ndarray = RAMP) -> Callable[[Path], Path]:
    """A DICOM whose pixels are this stream."""

    def make(folder: Path) -> Path:
        path = write_dicom(folder / "a.dcm", pixels, bits)
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        data.PixelData = encapsulate([stream])
        data["PixelData"].is_undefined_length = True
        data.save_as(path, enforce_file_format=True)
        return path

    return make


def recoded(syntax: str, make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: recode(make(folder), syntax)


def with_precision(bits: int, make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """A file whose lossless JPEG stream states other bits per value, at which GDCM would end the process."""

    def change(folder: Path) -> Path:
        path = make(folder)
        content = bytearray(path.read_bytes())
        content[content.index(b"\xff\xc3") + 4] = bits
        path.write_bytes(content)
        return path

    return change


def extended(folder: Path) -> Path:
    """pydicom's own example of 12 bits: nothing installed here writes such a stream."""
    return Path(shutil.copy(str(get_testdata_file("JPGExtended.dcm")), folder / "a.dcm"))


def is_bone_scan(grey: np.ndarray) -> None:
    """As libjpeg decodes pydicom's example of 12 bits: values up to 264, 14.37 on average, the largest at 107,919."""
    assert grey.shape == (1024, 256)
    assert grey.ravel()[107_919] == 255
    assert abs(grey.mean() - 14.37 / 264 * 255) < 0.05


def stream_of(image: np.ndarray, form: str) -> bytes:
    opened = io.BytesIO()
    options = {"quality": 100} if form == "JPEG" else {"irreversible": False, "no_jp2": True}
    Image.fromarray(image).save(opened, form, **options)
    return opened.getvalue()


def headless(make: Callable[[Path], Path], keep: bool = False, implicit: bool = False) -> Callable:
    """The same file without its preamble; without its file meta information too unless `keep`."""

    def cut(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        length = int.from_bytes(content[140:144], "little")
        path.write_bytes(content[132:] if keep else content[144 + length :])
        if implicit:
            data = dcmread(path, force=True)
            data.save_as(path, implicit_vr=True, little_endian=True)
        return path

    return cut


def one_bit(folder: Path) -> Path:
    path = write_dicom(folder / "a.dcm", RAMP, 8)
    data = dcmread(path)
    data.BitsAllocated, data.BitsStored, data.HighBit = 1, 1, 0
    data.PixelData = np.packbits(RAMP >= 128, bitorder="little").tobytes()
    data.save_as(path)
    return path


def is_two_tone(grey: np.ndarray) -> None:
    assert np.array_equal(grey, np.where(RAMP >= 128, 255, 0))


def deflated(extra: int) -> Callable[[Path], Path]:
    """A DICOM in deflated coding, with `extra` zeros behind the dataset."""

    def make(folder: Path) -> Path:
        path = write_dicom(folder / "a.dcm", GREY, 8)
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        data.save_as(path, enforce_file_format=True)
        content = path.read_bytes()
        start = 144 + int.from_bytes(content[140:144], "little")
        plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
        pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        with open(path, "wb") as opened:
            opened.write(content[:start] + pack.compress(plain))
            for _ in range(0, extra, 2**24):
                opened.write(pack.compress(bytes(2**24)))
            opened.write(pack.flush())
        return path

    return make


def float_pixels(folder: Path) -> Path:
    path = write_dicom(folder / "a.dcm", GREY, 8)
    data = dcmread(path)
    del data.PixelData
    data.BitsAllocated = 32
    data.FloatPixelData = (RAMP / np.float32(255)).tobytes()
    data.save_as(path)
    return path


def window(center: Any, width: Any, **tags: Any) -> Callable[[Path], Path]:
    return dicom(WindowCenter=center, WindowWidth=width, **tags)


JPEG, JPEG2000 = stream_of(RAMP, "JPEG"), stream_of(RAMP, "JPEG2000")
LARGE = stream_of(np.zeros((512, 512), np.uint8), "JPEG")
YBR = np.stack([RAMP, np.full_like(RAMP, 128), np.full_like(RAMP, 128)], -1)
DEEP = np.repeat(GREY[..., None] * np.uint16(257), 3, axis=2)
DEEP12 = GREY * np.uint16(16)
READERS = {"decoded": decode, "measured": image_size}

CASES = [
    Case("a plain DICOM", dicom(), remarked, is_ramp_with()),
    # colours and presentation
    Case("PALETTE COLOR, 16-bit entries", palette(), decode, is_ramp),
    Case("PALETTE COLOR, 8-bit entries", palette(8), decode, is_ramp),
    Case("PALETTE COLOR, segmented", palette(segmented=True), decode, is_ramp),
    Case("PALETTE COLOR without a palette", dicom(photometric="PALETTE COLOR"), decode, refused("a.dcm")),
    Case(
        "INVERSE beside MONOCHROME1",
        dicom(photometric="MONOCHROME1", PresentationLUTShape="INVERSE"),
        decode,
        is_inverted_ramp,
    ),
    Case(
        "INVERSE beside MONOCHROME2",
        dicom(PresentationLUTShape="INVERSE"),
        remarked,
        is_ramp_with(SHAPE_IGNORED),
    ),
    Case("RGB of 16 bits", colours(DEEP), decode, is_ramp),
    Case("YBR_FULL", colours(YBR, "YBR_FULL"), decode, is_ramp),
    Case("one value per pixel called RGB", dicom(photometric="HSV"), decode, refused("a.dcm")),
    # fractions and deep pictures
    Case("float TIFF from 0 to 1", picture(RAMP / np.float32(255), "a.tif"), decode, is_ramp),
    Case("float TIFF from 0 to 255", picture(RAMP.astype(np.float32), "a.tif"), decode, is_ramp),
    Case("float TIFF beyond 1", picture(RAMP / np.float32(200), "a.tif"), decode, refused("a.tif", "1.275")),
    Case(
        "float TIFF with NaN",
        picture(np.where(RAMP == 9, np.nan, RAMP).astype(np.float32), "a.tif"),
        decode,
        refused("a.tif", "not finite"),
    ),
    Case("float TIFF that overshoots 255", picture(RAMP * np.float32(255.7 / 255), "a.tif"), decode, is_ramp),
    Case(
        "a turned TIFF", turned, decode, lambda grey: np.testing.assert_array_equal(grey, np.rot90(RAMP, -1))
    ),
    Case("16-bit TIFF whose zero is white", zero_is_white, decode, is_ramp),
    Case("1-bit PNG", picture(Image.fromarray(RAMP >= 128)), decode, is_two_tone),
    Case("1-bit DICOM", one_bit, decode, is_two_tone),
    Case("floating-point DICOM", float_pixels, decode, refused("a.dcm", "floating-point")),
    # windows, tables and rescale
    *(
        Case(f"window {center} / {width}", window(center, width), remarked, is_ramp_with(WINDOW_IGNORED))
        for center, width in ((128, 0), (128, -5), (9000, 10), (-9000, 1), (128, ""))
    ),
    Case("window with a decimal comma", with_raw(WindowWidth="40,6"), remarked, is_ramp_with(WINDOW_IGNORED)),
    Case(
        "center with a decimal comma", with_raw(WindowCenter="40,6"), remarked, is_ramp_with(WINDOW_IGNORED)
    ),
    Case("center without a width", dicom(WindowCenter=128), remarked, is_ramp_with(WINDOW_IGNORED)),
    Case("blank window", window("", ""), remarked, is_ramp_with()),
    Case(
        "unknown window function",
        window(128, 9, VOILUTFunction="CUBIC"),
        remarked,
        is_ramp_with(WINDOW_IGNORED),
    ),
    Case(
        "first of two windows invalid", window([0, 127.5], [0, 256]), remarked, is_ramp_with(WINDOW_IGNORED)
    ),
    Case(
        "window around 0",
        dicom(GREY.astype(np.int16) - 128, 16, WindowCenter=0, WindowWidth=1),
        decode,
        is_two_tone,
    ),
    Case("window of 0.9", window(127.5, 0.9), remarked, is_threshold_at_128),
    *(
        Case(
            f"a window of {function} behind a slope of -1",
            dicom(
                RescaleSlope=-1,
                RescaleIntercept=255,
                VOILUTFunction=function,
                WindowCenter=128,
                WindowWidth=256,
            ),
            decode,
            is_falling,
        )
        for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
    ),
    Case("window width NaN", with_raw(WindowWidth="NaN "), decode, refused("a.dcm", "not finite")),
    Case(
        "window center Inf", with_raw(WindowCenter="Inf ", WindowWidth="256 "), decode, refused("not finite")
    ),
    Case(
        "VOI table behind a rescale of 1",
        dicom(VOILUTSequence=table(255 - np.arange(256), 8), RescaleSlope=1, RescaleIntercept=0),
        decode,
        is_inverted_ramp,
    ),
    Case(
        "VOI table of 7 bits per entry",
        dicom(VOILUTSequence=table(np.arange(256), 7)),
        remarked,
        is_ramp_with(TABLE_IGNORED),
    ),
    Case(
        "modality table", dicom(ModalityLUTSequence=table(255 - np.arange(256), 16)), decode, is_inverted_ramp
    ),
    *(
        Case(f"RescaleSlope {slope}", rescaled(slope), decode, refused("a.dcm", "RescaleSlope"))
        for slope in ("NaN ", "Inf ", "1e400 ", "0 ")
    ),
    # ancillary data and headers
    Case("PNG with a colour profile of 2 MB", png_with(profile=True), decode, is_ramp),
    Case("PNG with compressed text of 2 MB", png_with(compressed=True), decode, is_ramp),
    Case("PNG with XMP of 2 MB", png_with(xmp=True), decode, is_ramp),
    Case("DICOM without preamble", headless(dicom(), keep=True), decode, is_ramp),
    Case("DICOM without file meta", headless(dicom()), decode, is_ramp),
    Case("implicit DICOM without file meta", headless(dicom(), implicit=True), decode, is_ramp),
    Case("JPEG DICOM without file meta", headless(encoded("JPEGBaseline8Bit", JPEG)), decode, is_ramp),
    Case("size of a DICOM without file meta", headless(dicom()), image_size, (64, 48)),
    # codings
    Case("JPEG 2000", encoded("JPEG2000Lossless", JPEG2000), decode, is_ramp),
    Case("JPEG Extended of 8 bits", encoded("JPEGExtended12Bit", JPEG), decode, is_ramp),
    Case("JPEG Extended of 12 bits", extended, decode, is_bone_scan),
    # GDCM writes 16 where the standard has 8 and 12.
    Case(
        "JPEG Extended of 16 bits",
        recoded("JPEGExtendedProcess2_4", dicom(DEEP12, 12)),
        decode,
        is_ramp,
    ),
    Case(
        "JPEG lossless of 17 bits",
        with_precision(17, recoded("JPEGLosslessProcess14_1", dicom(DEEP12, 12))),
        decode,
        refused("a.dcm", "damaged"),
    ),
    *(
        Case(f"{syntax} of {bits} bits", recoded(syntax, dicom(pixels, bits)), decode, is_ramp)
        for syntax in (
            "JPEGLosslessProcess14",
            "JPEGLosslessProcess14_1",
            "JPEGLSLossless",
            "JPEG2000Lossless",
        )
        for pixels, bits in ((RAMP, 8), (DEEP12, 12), (DEEP12.astype(np.int16) - 2048, 16))
    ),
    Case("JPEG 2000 in colours of 16 bits", recoded("JPEG2000Lossless", colours(DEEP)), decode, is_ramp),
    *(
        Case(f"JPEG 2000 called {syntax}", encoded(syntax, JPEG2000), decode, refused("a.dcm", "damaged"))
        for syntax in ("JPEGLSLossless", "JPEGLosslessSV1")
    ),
    *(
        Case(syntax, encoded(syntax, JPEG2000), decode, refused("install pylibjpeg and pylibjpeg-openjpeg"))
        for syntax in ("HTJ2KLossless", "HTJ2K")
    ),
    Case(
        "a coding that nothing decodes", encoded("MPEG2MPML", JPEG), decode, refused("convert it from MPEG2")
    ),
    # bombs and files that are none
    *(
        Case(f"deflated bomb, {word}", deflated(MAX_INFLATED), read, refused("a.dcm", "inflates"))
        for word, read in READERS.items()
    ),
    Case("deflated DICOM", deflated(0), decode, is_ramp),
    Case("JPEG larger than its header", encoded("JPEGBaseline8Bit", LARGE), decode, refused("512 x 512")),
    Case(
        "JPEG without a frame header",
        encoded("JPEGBaseline8Bit", JPEG[:2] + b"\0" + JPEG[2:]),
        decode,
        refused("a.dcm"),
    ),
    Case(
        "RLE longer than its image",
        encoded("RLELossless", bytes(64) + b"\x81\0" * 9999),
        decode,
        refused("RLE"),
    ),
    Case("TIFF with a tile bomb", tile_bomb, decode, refused("a.tif", "40000 x 40000")),
    Case("GIF whose frame does not fill it", narrow_frame, decode, refused("a.gif", "frame")),
    *(
        Case(
            f"PNG of {values.itemsize} bytes with another bit",
            flipped(values),
            decode,
            refused("a.png", "IDAT"),
        )
        for values in (RAMP, GREY * np.uint16(257))
    ),
    Case("GIF with a frame bomb", frame_bomb, decode, refused("a.gif", "60000 x 60000")),
    *(
        Case(f"a pipe as PNG, {word}", pipe, read, refused("not a regular file"))
        for word, read in READERS.items()
    ),
    Case("a pipe as DICOM", lambda folder: pipe(folder, "a.dcm"), decode, refused("not a regular file")),
    Case("a folder as PNG", directory, decode, refused("directory")),
    Case("text as DICOM", text, decode, refused("a.dcm", "not a DICOM image")),
    Case("empty file", lambda folder: text(folder, ""), decode, refused("empty file")),
    *(Case(f"two pages of {name}", pages(name, 2), decode, refused(name, "2 pages")) for name in PAGED),
    Case("TIFF with a preview", preview, decode, is_ramp),
    Case("TIFF whose next page is nowhere", lost_page, decode, is_ramp),
    Case("dark BMP of 16 bits", dark_bmp, lambda path: int(decode(path).max()) > 20, True),
    Case("black PNG of 16 bits", blue(0), lambda path: int(decode(path).max()), 0),
    Case("PNG of 16 bits that is blue alone", blue(1), lambda path: int(decode(path).max()), 29),
    *(Case(f"one page of {name}", pages(name, 1), decode, is_ramp) for name in PAGED),
    *(
        Case(f"colours of 12 bits in {name}", deep_colours(name, 12), decode, refused(name, "16 bits"))
        for name in RGB16
    ),
    *(Case(f"colours of 16 bits in {name}", deep_colours(name, 16), decode, is_ramp) for name in RGB16),
    Case("grey of 12 bits in 16", picture(GREY * np.uint16(16)), decode, is_ramp),
    Case("DICOM of padding alone", dicom(GREY * 0 + 7, PixelPaddingValue=7), remarked, is_black),
]
