"""One image file's bytes to pixels, whatever its format, mode and orientation."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.data.layout import MAX_FILE_BYTES

MAX_PIXELS = 64_000_000
_ORIENTATION = 0x0112  # the Exif tag


class UnreadableImageError(Exception):
    """Why a file is not an image that can be used."""


class SizesDifferError(Exception):
    """An image has another shorter side than the others."""


def shorter_side(content: bytes) -> int:
    """Pixels along the shorter side, from the header alone. Raises UnreadableImageError."""
    with _open(content) as image:
        return min(image.size)


def decode(content: bytes, size: int, *, only_side: int | None = None) -> npt.NDArray[np.uint8]:
    """The image as (size, size, 3) RGB: first frame, turned upright, on white, centre cropped, resized.

    16-bit grey is divided by 256. With `only_side`, raises SizesDifferError if the shorter side is another.
    Raises UnreadableImageError for what is damaged, too large, or no image.
    """
    with _open(content) as image:
        if only_side is not None and min(image.size) != only_side:
            raise SizesDifferError
        try:
            # a JPEG can be decoded at a fraction of its size; at twice the target, nothing visible is lost
            if min(image.size) > 2 * size:
                image.draft(None, (2 * size, 2 * size))
            image.load()
            upright = ImageOps.exif_transpose(image) if _ORIENTATION in image.getexif() else image
            square = _square(_rgb(upright), size)
        # a damaged file makes Pillow's many readers raise almost anything
        except Exception as error:
            raise UnreadableImageError(str(error) or type(error).__name__) from error
    return np.asarray(square)


def decode_file(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The image in a file as (size, size, 3) RGB, just as those of a data set are decoded.

    Raises UnreadableImageError for a file that cannot be read, too.
    """
    try:
        if not path.is_file():
            raise UnreadableImageError("not a regular file" if path.exists() else "no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableImageError(f"more than {MAX_FILE_BYTES // 2**20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    return decode(content, size)


def resize_all(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """(images, height, width, 3) to (images, size, size, 3)."""
    if images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        resized[index] = np.asarray(_square(Image.fromarray(image), size))
    return resized


@cache
def _formats() -> tuple[str, ...]:
    """What is read, the common ones first. EPS is a program, which Pillow would have Ghostscript run; WMF is
    one for Windows, and IPTC may hold either.
    """
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in ("EPS", "WMF", "IPTC"))


def _open(content: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image that Pillow knows") from error
    # a damaged header makes Pillow's many readers raise almost anything
    except Exception as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise UnreadableImageError(f"{width}x{height} pixels, more than {MAX_PIXELS // 10**6} million")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # Pillow would clip 16 bits at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("more than 16 bits a channel; save it with 8 or 16")
        return Image.fromarray((values // 256).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        white.alpha_composite(layer)
        return white.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
