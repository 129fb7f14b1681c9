"""Decode the stream of a DICOM image with GDCM, from standard input to values on standard output.

A program of its own: GDCM ends its process on some damaged streams, and prints what libjpeg says of others.
"""

import subprocess
import sys


def decode_frame(stream: bytes, syntax: str, rows: int, columns: int, samples: int, bits: int) -> bytes:
    """Unsigned values (rows, columns, samples) of a stream of `bits` bits per value, each in 8 or 16 bits; empty where GDCM
    finds it damaged.

    Args:
        stream: JPEG, JPEG-LS or JPEG 2000.
        syntax: UID of the transfer syntax.
    """
    command = [sys.executable, "-P", __file__, syntax, *map(str, (rows, columns, samples, bits))]
    done = subprocess.run(command, input=stream, capture_output=True)
    # Of these libjpeg makes pixels nevertheless.
    is_damaged = b"Corrupt JPEG data" in done.stderr or b"Premature end" in done.stderr
    length = rows * columns * samples * (1 if bits <= 8 else 2)
    return b"" if done.returncode or is_damaged or len(done.stdout) != length else done.stdout


def main() -> None:
    import gdcm

    syntax, *numbers = sys.argv[1:]
    rows, columns, samples, bits = map(int, numbers)
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    colours = "RGB" if samples == 3 else "MONOCHROME2"
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(colours))
    )
    image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    # For JPEG of 12 bits it would try the decoder of the allocated bits first.
    allocated = 12 if bits == 12 and syntax.endswith(".51") else 8 if bits <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, 0))
    image.SetDataElement(element)
    sys.stdout.buffer.write((image.GetBuffer() or "").encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
