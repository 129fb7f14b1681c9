"""Processor time of decoding DICOM radiographs, against the floor: what pydicom's `pixel_array` takes on the same file.

Rounds alternate on one core in one process; the least of each is printed, with the ratio. `decode` ends with 8-bit greys in
full size, `load_square` with the store's 256 x 256. The image is made here: smooth shadows with grain, raw and in lossless
codings. Of JPEG 2000 half the resolution is tried as well, twice: the decoded half itself, and enlarged again before the
window. Its difference from the whole is in grey levels of the store.

    python benchmarks/decode_dicom.py                   # 3000 x 3000 of 16 bits, a minute
    python benchmarks/decode_dicom.py --sharp           # with letters and a collimated border, as radiographs have them
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydicom import dcmread
from pydicom.encaps import get_frame

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers import recode, write_dicom
from refers.data.images import decode, load_square

SIZE = 256
CODINGS = {
    "raw": "",
    "JPEG lossless": "JPEGLosslessProcess14_1",
    "JPEG-LS": "JPEGLSLossless",
    "JPEG 2000": "JPEG2000Lossless",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=3000, help="pixels per side")
    parser.add_argument("--bits", type=int, default=16, choices=range(9, 17), metavar="9..16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", type=Path, help="a real picture instead of smooth shadows, enlarged")
    parser.add_argument("--sharp", action="store_true", help="letters and a collimated border")
    return parser.parse_args()


def radiograph(side: int, bits: int, sharp: bool, picture: Path | None) -> np.ndarray:
    """Stored values (side, side) uint16 of a picture, or of smooth shadows, with grain."""
    rng = np.random.default_rng(0)
    shades = decode(picture) / np.float32(320) + 0.05 if picture else rng.uniform(0.1, 0.8, (24, 20))
    coarse = Image.fromarray(shades.astype(np.float32))
    values = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    values = (values + rng.normal(0, 0.004, values.shape)) * 2**bits
    if sharp:
        values[: side // 40], values[:, : side // 40] = 0, 0
        letters = Image.new("1", (side, side))
        ImageDraw.Draw(letters).text((side // 10, side // 10), "R AP 10:15", fill=1, font_size=side // 30)
        values[np.asarray(letters)] = 2**bits
    return np.clip(values, 0, 2**bits - 1).astype(np.uint16)


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def least(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least milliseconds of processor time of each way."""
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = processor_seconds()
            way()
            found[name] = min(found[name], 1000 * (processor_seconds() - began))
    return found


def square(grey: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def between(values: np.ndarray) -> np.ndarray:
    """Rows (H, W) and the means of every two neighbours between them, (2 H, W); the last row stands twice."""
    rows = np.empty((2 * len(values), values.shape[1]), values.dtype)
    rows[::2] = values
    rows[1:-1:2] = (values[:-1].astype(np.uint32) + values[1:]) // 2
    rows[-1] = values[-1]
    return rows


def enlarged(half: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The whole image that has this half and no finer detail: the inverse of the reversible 5/3 wavelet."""
    return between(between(half).T).T[: shape[0], : shape[1]]


def try_halves(path: Path, values: np.ndarray, rounds: int) -> None:
    """Print time and difference of the two ways through half the resolution of a JPEG 2000 stream."""
    stream = get_frame(dcmread(path).PixelData, 0, number_of_frames=1)
    grey = decode(path)
    greys = np.zeros(2**16, np.uint8)
    seen, first = np.unique(values, return_index=True)
    greys[:] = np.round(np.interp(np.arange(2**16), seen, grey.ravel()[first]))

    def half() -> np.ndarray:
        image = Image.open(BytesIO(stream))
        image.reduce = 1
        image.load()
        return np.asarray(image)

    ways = {
        "half": lambda: square(greys[half()]),
        "half, enlarged": lambda: square(greys[enlarged(half(), values.shape)]),
    }
    whole = least({"whole": lambda: load_square(path, SIZE)}, rounds)["whole"]
    for name, milliseconds in least(ways, rounds).items():
        difference = np.abs(ways[name]().astype(int) - square(grey))
        print(
            f"  {name}: {milliseconds:.0f} ms, {milliseconds / whole:.2f} of the whole; differs by {difference.mean():.2f} on"
            f" average, {difference.max()} at most, more than 1 in {(difference > 1).sum()} of {difference.size} pixels"
        )


def main() -> None:
    args = parse_args()
    values = radiograph(args.side, args.bits, args.sharp, args.image)
    window = {"WindowCenter": 0.45 * 2**args.bits, "WindowWidth": 0.5 * 2**args.bits}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        ways = {
            "pixel_array": lambda: dcmread(path).pixel_array,
            "decode": lambda: decode(path),
            "load_square": lambda: load_square(path, SIZE),
        }
        for name, syntax in CODINGS.items():
            write_dicom(path, values, args.bits, **window)
            if syntax:
                recode(path, syntax)
            found = least(ways, args.rounds)
            floor = found.pop("pixel_array")
            ours = ", ".join(f"{way} {each:.1f} ms ({each / floor:.2f})" for way, each in found.items())
            print(f"{name}: pixel_array {floor:.1f} ms, {ours}", flush=True)
        try_halves(path, values, args.rounds)


if __name__ == "__main__":
    main()
