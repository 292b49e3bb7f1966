import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, noise, png
from PIL import Image

from trainables.data.images import SizesDifferError, UnreadableImageError, decode, resize_all, shorter_side


def one_colour(content: bytes, size: int = 4) -> tuple[int, ...]:
    image = decode(content, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    colours = np.unique(image.reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return tuple(colours[0].tolist())


def flat(mode: str, colour, kind: str = "PNG", **options) -> bytes:
    return encoded(Image.new(mode, (4, 4), colour), kind, **options)


def test_image_of_the_right_size_is_not_touched() -> None:
    image = noise(0, (32, 32))
    assert (decode(encoded(image), 32) == np.asarray(image)).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA"])
def test_any_format_that_pillow_reads(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert one_colour(flat("RGB", (255, 0, 0), kind, **options)) == (255, 0, 0)


def test_grey_becomes_three_equal_channels() -> None:
    assert one_colour(flat("L", 77)) == (77, 77, 77)


def test_black_and_white_becomes_0_and_255() -> None:
    assert one_colour(flat("1", 1)) == (255, 255, 255)


def test_palette_is_looked_up() -> None:
    assert one_colour(
        encoded(Image.new("RGB", (4, 4), (9, 90, 200)).convert("P", palette=Image.Palette.ADAPTIVE))
    ) == (9, 90, 200)


def test_transparent_pixels_are_white_and_half_transparent_ones_lighter() -> None:
    assert one_colour(flat("RGBA", (255, 0, 0, 0))) == (255, 255, 255)
    assert one_colour(flat("RGBA", (255, 0, 0, 128))) == (255, 127, 127)
    assert one_colour(flat("LA", (0, 0))) == (255, 255, 255)


def test_transparent_colour_of_a_palette_or_grey_image_is_white() -> None:
    assert one_colour(flat("P", 0, transparency=0)) == (255, 255, 255)
    assert one_colour(flat("L", 5, transparency=5)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.full((4, 4), 300 * 100, dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        assert one_colour(encoded(Image.fromarray(values), kind)) == (117, 117, 117)  # 30000 // 256


def test_thirty_two_bits_are_refused_unless_they_hold_sixteen() -> None:
    assert one_colour(encoded(Image.fromarray(np.full((4, 4), 65535, dtype=np.int32)), "TIFF")) == (
        255,
        255,
        255,
    )
    with pytest.raises(UnreadableImageError, match="more than 16 bits"):
        decode(encoded(Image.fromarray(np.full((4, 4), 65536, dtype=np.int32)), "TIFF"), 4)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="no fixed range"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"), 4)


def test_cmyk_is_converted() -> None:
    assert one_colour(flat("CMYK", (0, 255, 255, 0), "TIFF")) == (255, 0, 0)


def test_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    assert one_colour(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (4, 4), (255, 255, 255))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    decoded = decode(encoded(image, exif=exif), 4)
    assert decoded[0, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(12, 4), (4, 12)])
def test_longer_side_is_cropped_around_the_centre(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2 - 2, size[1] // 2 - 2, size[0] // 2 + 2, size[1] // 2 + 2))
    assert one_colour(encoded(image)) == (0, 0, 255)


@pytest.mark.parametrize("side", [1, 3, 500])
def test_any_size_comes_out_at_the_size_asked_for(side: int) -> None:
    assert one_colour(png((7, 8, 9), (side, side)), 16) == (7, 8, 9)


def test_large_jpeg_is_scaled_like_the_same_pixels_without_loss() -> None:
    smooth = noise(1, (6, 6)).resize((600, 400), Image.Resampling.BICUBIC)
    from_jpeg = decode(encoded(smooth, "JPEG", quality=95), 32).astype(int)
    assert np.abs(from_jpeg - decode(encoded(smooth), 32)).mean() < 4


def test_truncated_image_is_refused() -> None:
    content = encoded(noise(2, (64, 64)), "JPEG")
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(content[: len(content) // 2], 64)


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"\x89PNG\r\n\x1a\n garbage", b"\xff\xd8\xff garbage"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        decode(content, 8)


def iptc(content: bytes) -> bytes:
    """An IPTC file of 16 by 16 pixels with another image file in it."""
    fields = {(3, 60): b"\1\0", (3, 20): b"\0\x10", (3, 30): b"\0\x10", (3, 120): b"\1", (8, 10): content}
    return b"".join(
        bytes([0x1C, *tag]) + struct.pack(">H", len(value)) + value for tag, value in fields.items()
    )


@pytest.mark.parametrize("wrapped", [bytes, iptc])
def test_a_program_in_postscript_is_no_image(
    wrapped: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would have Ghostscript run it, whatever the file is called."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n16 16 moveto\n%%EOF\n"
    with pytest.raises(UnreadableImageError, match="not an image that Pillow knows"):
        decode(wrapped(program), 8)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the Exif data that is cut off
def test_every_cut_of_a_file_is_refused_and_never_crashes() -> None:
    for kind in ("PNG", "GIF", "TIFF", "WEBP", "BMP"):
        content = encoded(noise(3, (16, 16)), kind)
        for length in range(0, len(content) * 3 // 4, 37):
            with pytest.raises(UnreadableImageError):
                decode(content[:length], 16)


@pytest.mark.parametrize("side", [8_001, 60_000])
def test_absurdly_large_image_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(
        UnreadableImageError, match=r"8001x8001 pixels, more than 64 million|3600000000 pixels"
    ):
        decode(bomb, 8)


def test_shorter_side_comes_from_the_header() -> None:
    assert shorter_side(png(size=(30, 20))) == 20
    with pytest.raises(UnreadableImageError):
        shorter_side(b"nothing")


def test_another_shorter_side_is_reported_where_one_is_expected() -> None:
    decode(png(size=(8, 12)), 8, only_side=8)
    with pytest.raises(SizesDifferError):
        decode(png(size=(9, 12)), 8, only_side=8)


def test_resizing_arrays_keeps_those_of_the_right_size() -> None:
    images = np.stack([np.asarray(noise(seed)) for seed in range(3)])
    assert resize_all(images, 8) is images
    assert resize_all(images, 16).shape == (3, 16, 16, 3)
