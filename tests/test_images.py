from pathlib import Path

import numpy as np
import pytest
from helpers import bomb, recode, write_dicom
from PIL import Image
from refers.data.images import decode, image_size, load_square
from refers.errors import UserError

SHARED = Path(__file__).parents[2] / "shared/data"
RAMP = np.linspace(0, 255, 48 * 64).round().astype(np.uint8).reshape(48, 64)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_every_png_mode_gives_the_same_grey(tmp_path, mode):
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_16_bit_png_fills_the_grey_range_it_uses(tmp_path, bits):
    values = (RAMP.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.abs(decode(tmp_path / "a.png").astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_reads_grey(tmp_path, mode):
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - RAMP).mean() < 2


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_of_any_depth_reads_bright_bone(tmp_path, bits, photometric):
    values = (RAMP.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    if photometric == "MONOCHROME1":
        values = 2**bits - 1 - values
    path = write_dicom(tmp_path / "a.dicom", values.astype(np.uint16), bits, photometric=photometric)
    assert np.abs(decode(path).astype(int) - RAMP).max() <= 1
    assert image_size(path) == (64, 48)


def test_dicom_window_and_rescale_are_applied(tmp_path):
    values = RAMP.astype(np.int16) * 8 - 1000
    path = write_dicom(
        tmp_path / "a.dcm",
        values,
        16,
        RescaleSlope=2,
        RescaleIntercept=100,
        WindowCenter=[140, 9],
        WindowWidth=[1000, 5],
    )
    grey, hounsfield = decode(path), values.astype(float) * 2 + 100
    assert set(np.unique(grey[hounsfield <= -360])) == {0}
    assert set(np.unique(grey[hounsfield >= 639.5])) == {255}
    middle = grey[np.abs(hounsfield - 140) < 30]
    assert np.abs(middle.astype(int) - 128).max() < 10


def test_a_voi_table_is_applied(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor, table.LUTData = (
        [256, 0, 16],
        (65535 - 257 * np.arange(256)).astype(np.uint16).tobytes(),
    )
    path = write_dicom(tmp_path / "a.dcm", RAMP.astype(np.uint16), 8, VOILUTSequence=Sequence([table]))
    assert np.array_equal(decode(path), 255 - RAMP)


def test_a_flat_dicom_is_black_and_frames_are_refused(tmp_path):
    flat = write_dicom(tmp_path / "flat.dcm", np.full((8, 8), 7, np.uint16))
    assert decode(flat).max() == 0
    stack = write_dicom(tmp_path / "stack.dcm", np.zeros((3, 8, 8), np.uint16))
    with pytest.raises(UserError, match=r"stack\.dcm: cannot be decoded \(3 frames"):
        decode(stack)


def test_frames_are_counted_before_any_is_decoded(tmp_path):
    claim = write_dicom(tmp_path / "claim.dcm", np.zeros((8, 8), np.uint16), NumberOfFrames=400)
    with pytest.raises(UserError, match=r"claim\.dcm: cannot be decoded \(400 frames, expected one\)"):
        decode(claim)


@pytest.mark.parametrize(
    ("syntax", "advice"),
    [
        ("JPEG2000Lossless", "download it again"),
        ("RLELossless", "download it again"),
        ("JPEGLosslessSV1", "convert it from JPEG Lossless"),
    ],
)
def test_a_broken_stream_is_told_from_an_absent_decoder(tmp_path, monkeypatch, syntax, advice):
    from pydicom import dcmread, pixels, uid
    from pydicom.encaps import encapsulate

    path = write_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint16))
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = getattr(uid, syntax)
    data.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(96)])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
    decoder = pixels.get_decoder(getattr(uid, syntax))
    if advice.startswith("convert"):
        monkeypatch.setattr(decoder, "_available", {})
    else:
        assert decoder.is_available
    with pytest.raises(UserError, match=rf"a\.dcm: cannot be decoded \(.*\); {advice}"):
        decode(path)


@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless", "JPEG2000Lossless"]
)
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_damaged_stream_is_one_line_also_where_a_native_library_prints(tmp_path, capfd, syntax, keep):
    path = recode(write_dicom(tmp_path / "a.dcm", RAMP.astype(np.uint16) * 16), syntax)
    content = path.read_bytes()
    start = max(content.find(b"\xff\xd8"), content.find(b"\xff\x4f\xff\x51"))
    damaged = start + int(keep * (len(content) - start))
    path.write_bytes(content[:damaged] + bytes(len(content) - damaged))
    with pytest.raises(UserError, match=r"a\.dcm: cannot be decoded \(.+\); download it again$"):
        decode(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_bits_that_the_header_calls_unused_do_not_count(tmp_path, kind):
    """Overlays were once kept in the upper four bits of 12-bit pixels."""
    values = RAMP.astype(kind) * 8 - (1000 if kind == np.int16 else 0)
    overlaid = ((values.view(np.uint16) & 0x0FFF) | np.where(RAMP % 2, 0xA000, 0).astype(np.uint16)).view(
        kind
    )
    grey = decode(write_dicom(tmp_path / "a.dcm", overlaid))
    assert np.abs(grey.astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "tags",
    [
        {"PixelPaddingValue": -32768},
        {"PixelPaddingValue": -30000, "PixelPaddingRangeLimit": -32768},
        {"PixelPaddingValue": -32768, "WindowCenter": 0, "WindowWidth": 2000},
    ],
)
def test_padding_is_black_and_leaves_the_grey_range_to_the_picture(tmp_path, photometric, tags):
    values = (RAMP.astype(np.int16) * 4) - 500
    values[:, :16] = -32768
    grey = decode(write_dicom(tmp_path / "a.dcm", values, 16, photometric=photometric, **tags))
    assert grey[:, :16].max() == 0
    shown = grey[:, 16:]
    assert (shown.min(), shown.max()) == (0, 255)
    unpadded = write_dicom(tmp_path / "b.dcm", values[:, 16:].copy(), 16, photometric=photometric)
    assert np.abs(shown.astype(int) - decode(unpadded)).max() <= 1


def test_an_image_of_padding_alone_is_black(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.full((8, 8), 9, np.uint16), PixelPaddingValue=9)
    assert decode(path).max() == 0


def test_the_whole_frame_is_resized_and_fine_detail_is_averaged(tmp_path):
    checks = np.indices((400, 300)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.png")
    square = load_square(tmp_path / "checks.png", 32)
    assert square.shape == (32, 32)
    assert np.abs(square.astype(int) - 127).max() < 25  # without antialiasing it would be 0 and 255
    frame = np.zeros((400, 200), np.uint8)
    frame[:, :100], frame[:200] = 100, 200
    Image.fromarray(frame).save(tmp_path / "frame.png")
    assert load_square(tmp_path / "frame.png", 16)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [
        200,
        200,
        100,
        0,
    ]


def test_the_short_way_through_a_large_jpeg_changes_no_grey_level_worth_seeing(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 33), dtype=np.uint8)).resize(
        (1000, 1200), Image.Resampling.BICUBIC
    )
    coarse.save(tmp_path / "a.jpg", quality=95)
    full = Image.fromarray(decode(tmp_path / "a.jpg")).resize((64, 64), Image.Resampling.BILINEAR)
    assert decode(tmp_path / "a.jpg", enough=64).shape < (1200, 1000)
    assert np.abs(load_square(tmp_path / "a.jpg", 64).astype(int) - np.asarray(full)).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_exif_rotated_picture_is_turned_upright(tmp_path, orientation, suffix):
    """The tag says how to turn the stored pixels so that the picture stands as it was taken."""
    turns = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: np.transpose,
        6: np.rot90, 7: lambda x: np.rot90(x, 2).T, 8: lambda x: np.rot90(x, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(turns[orientation](RAMP))).save(path, exif=exif, quality=95)
    assert image_size(path) == (64, 48)
    assert np.abs(decode(path).astype(int) - RAMP).max() <= 8
    assert load_square(path, 8)[0, 0] < 20


def test_a_decompression_bomb_is_refused_by_its_size(tmp_path):
    bomb(tmp_path / "bomb.png")
    huge = write_dicom(tmp_path / "bomb.dcm", np.zeros((8, 8), np.uint16), Rows=60_000, Columns=60_000)
    for path in (tmp_path / "bomb.png", huge):
        for read in (decode, image_size):
            with pytest.raises(UserError, match=rf"{path.name}: .*60000 x 60000 pixels, more than"):
                read(path)


def test_a_format_that_runs_a_program_is_refused_whatever_its_suffix(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: .*unknown image format"):
        decode(tmp_path / "a.png")


def test_a_dicom_of_more_than_16_bits_is_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 2**20]], np.uint32), 32)
    with pytest.raises(UserError, match="more than 16 bits"):
        decode(path)


@pytest.mark.parametrize("name", ["text.png", "cut.jpg", "empty.dicom", "absent.png"])
def test_a_bad_image_is_one_line_with_its_name(tmp_path, name):
    Image.fromarray(RAMP).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    if name != "absent.png":
        (tmp_path / name).write_bytes(
            {"text.png": b"hello", "cut.jpg": whole[: len(whole) // 2]}.get(name, b"")
        )
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as raised:
        decode(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not SHARED.exists(), reason="real images are not here")
def test_real_images_of_every_kind_decode():
    paths = [path for path in (SHARED / "covid/images").iterdir() if path.suffix.lower() == ".png"][:20]
    paths += list((SHARED / "mini-mimic").rglob("*.jpg"))[:20]
    with_alpha = [path for path in (SHARED / "nih").rglob("*.png") if path.stat().st_size > 100_000]
    assert any(Image.open(path).mode == "RGBA" for path in with_alpha)
    for path in paths + with_alpha:
        square = load_square(path, 64)
        assert square.shape == (64, 64)
        assert square.std() > 5
