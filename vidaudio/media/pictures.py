"""Reader of a user's pictures, as a viewer shows them: upright, in sRGB, 8 bits a channel, on white where transparent.

People bring pictures in every form that cameras, scanners and image editors write. If an encoder got the values as they
are stored, a sideways portrait or a 16-bit scan would differ from the picture that its owner sees. The content
determines the format, which must be one of `FORMATS`: Pillow would pass a `.jpg` that is PostScript to Ghostscript.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from vidaudio.errors import MediaError
from vidaudio.text import first_line

# AVIF and HEIF only if this Pillow, or a plugin that the user has registered, reads them.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
# A decoded pixel takes 3 bytes, and several times that during conversion. The largest phone pictures have 200 million
# pixels: JPEGs of more than DRAFT_PIXELS are decoded at a half, a quarter or an eighth of their size.
MAX_PIXELS = 100_000_000
MAX_JPEG_PIXELS = 210_000_000
DRAFT_PIXELS = 50_000_000
DRAFT_SIZE = (2048, 2048)
MAX_FILE_BYTES = 1 << 30
# A frame of a corpus is a square with a side of at most `extract.frame_size` = 2048.
MAX_FRAME_PIXELS = 2048 * 2048
_WHITE = (255, 255, 255, 255)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# TIFF tags and their values.
_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
# ICC colour space that fits each mode.
_PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def read_picture(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Image.Image:
    """Return a picture as RGB, the way a viewer shows it.

    The orientation recorded by the camera is applied, transparency is laid on white, an embedded colour profile is
    converted to sRGB, and the first frame of an animation is taken. 16-bit values are scaled, not clipped;
    `to_eight_bits` chooses the range of floats and 32-bit integers.

    Args:
        source: Path or content of the file.
        name: Name of the picture in messages; None means the path, or "the picture" for content.

    Raises:
        MediaError: When the file is missing, is not a picture of a known format, is damaged, or has too many pixels.
    """
    called = name or ("the picture" if isinstance(source, bytes) else os.fspath(source))
    with _named(called), warnings.catch_warnings():
        # Pillow warns on stderr about large and damaged pictures. Here they are accepted, or refused with an error.
        warnings.simplefilter("ignore")
        with _opened(source, called) as image:
            is_jpeg = isinstance(image, JpegImageFile)
            _check_pixels(image, called, MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS)
            if is_jpeg and image.width * image.height > DRAFT_PIXELS:
                image.draft("RGB", DRAFT_SIZE)
            image.load()
            orientation = _orientation(image)
            picture = _flattened(image)
    return picture if orientation is None else picture.transpose(orientation)


def read_frame(data: bytes, *, name: str) -> Image.Image:
    """Return one frame of a corpus, a JPEG, decoded as it is stored; `name` identifies it in messages.

    This is cheaper than `read_picture`, because frames that `extract` wrote have no orientation, profile or
    transparency. A corpus may come from somebody else, so the format and the number of pixels are checked all the same.

    Raises:
        MediaError: When the bytes are not a JPEG, are damaged, or are a larger picture than a corpus contains.
    """
    with _named(name):
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        _check_pixels(image, name, MAX_FRAME_PIXELS)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


def to_eight_bits(values: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Scale grey values of any range to uint8.

    Args:
        values: Integers or floats, `[H, W]`. Without `largest`, NaN counts as 0 and infinite values as the largest
            finite one.
        largest: The value of white if the format defines it. None derives it from the values: floats up to 1 (or a
            little over) are fractions of white, values up to 255 and up to 65,535 are 8- and 16-bit values, and
            anything else is stretched from its smallest to its largest value.
    """
    if largest is None:
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.nan, neginf=np.nan)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        values = np.nan_to_num(values, nan=high)
        if low < -0.1 * abs(high) or high > 65_535:
            values, largest = values - low, high - low
        elif values.size and high <= 2 and not _are_whole(finite):
            largest = 1.0
        else:
            largest = 255.0 if high <= 255 else 65_535.0
    scaled = np.asarray(values, np.float32) * np.float32(255 / largest if largest else 0.0)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def _are_whole(values: np.ndarray) -> bool:
    """Return whether all values are whole numbers and some exceed 1, like 8-bit values kept in floats.

    Values of only 0 and 1 are fractions of white.
    """
    return bool((values == np.rint(values)).all()) and bool(values.max() > 1)


@contextlib.contextmanager
def _named(called: str) -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    except FileNotFoundError:
        raise MediaError(f"there is no picture {called}") from None
    except Exception as error:
        # Pillow's plugins raise dozens of error types on damaged files; with any of them the picture cannot be read.
        reason = first_line(error)
        reason = re.sub(r" *<_io.BytesIO object[^>]*>", "", reason)
        raise MediaError(f"{called} is not a picture that can be read ({reason}); {_formats()} can be") from error


def _formats() -> str:
    known = [name for name in FORMATS if name in Image.ID or name in ("JPEG", "PNG")]
    return ", ".join(known)


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes, called: str) -> Iterator[Image.Image]:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    if not isinstance(source, bytes):
        path = Path(source)
        if not path.exists():
            raise MediaError(f"there is no picture {called}")
        if not path.is_file():
            raise MediaError(f"{called} is no file; name a picture ({_formats()})")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MediaError(f"{called} has more than {MAX_FILE_BYTES >> 20:,} MiB; name a smaller copy")
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
        yield image


def _check_pixels(image: Image.Image, called: str, most: int) -> None:
    width, height = image.size
    if width * height > most:
        raise MediaError(
            f"{called} has {width:,} x {height:,} pixels; at most {most:,} are decoded: make a smaller copy of it"
        )


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that the picture's EXIF data ask for; None if there is none or it cannot be read."""
    try:
        noted = image.getexif().get(0x0112)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error):
        # Damaged EXIF data do not damage the picture: viewers show it as it is stored.
        return None
    return {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(noted if isinstance(noted, int) else 1)


def _flattened(image: Image.Image) -> Image.Image:
    """Return a loaded picture of any mode as RGB, with transparency laid on white."""
    profile = image.info.get("icc_profile")
    alpha: Image.Image | None = None
    if image.mode in _SIXTEEN_BITS or image.mode in ("I", "F"):
        image, alpha = _from_wide_values(image)
    elif image.has_transparency_data:
        whole = image.convert("RGBA")
        alpha, image = whole.getchannel("A"), whole.convert("RGB")
    elif image.mode not in _PROFILE_SPACES:
        image = image.convert("RGB")
    picture = _in_srgb(image, profile)
    if alpha is None or alpha.getextrema() == (255, 255):
        return picture
    ground = Image.new("RGBA", picture.size, _WHITE)
    ground.alpha_composite(Image.merge("RGBA", (*picture.split(), alpha)))
    return ground.convert("RGB")


def _from_wide_values(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture with over 8 bits a value as grey, and its alpha channel if one value means transparent."""
    values = np.asarray(image)
    grey = Image.fromarray(to_eight_bits(*_range_of(image, values)))
    if _tag(image, _PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        grey = ImageOps.invert(grey)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))


def _range_of(image: Image.Image, values: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Return the values and the value of white, if the format defines it, as arguments for `to_eight_bits`."""
    bits, signed = _tag(image, _BITS_PER_SAMPLE_TAG), _tag(image, _SAMPLE_FORMAT_TAG) == _SIGNED
    if image.mode in _SIXTEEN_BITS:
        return values, float(2 ** (bits or 16) - 1)
    if image.mode == "I" and bits == 16 and signed:
        return (values, 32_767.0) if not values.size or values.min() >= 0 else (values + 32_768, 65_535.0)
    if image.mode == "I" and bits == 32 and not signed:
        return values.view(np.uint32), None
    return values, None


def _tag(image: Image.Image, number: int) -> int | None:
    """Return the first value of a TIFF tag; None if the picture is not a TIFF or has no such tag."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value if isinstance(value, int) else None


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return RGB converted through the picture's own colour profile if that is usable, otherwise converted plainly."""
    source = _profile(image.mode, profile)
    if source is not None:
        with contextlib.suppress(ImageCms.PyCMSError):  # an unusable profile is ignored, as by viewers
            # Without `inPlace`, which returns None, it returns an image.
            return ImageCms.profileToProfile(  # type: ignore[return-value]
                image,
                source,
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
    return image.convert("RGB")


def _profile(mode: str, profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    if mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if not profile:
        return None
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if found.profile.xcolor_space.strip() != _PROFILE_SPACES.get(mode):
            return None
        # Pixels of a picture that already is in sRGB are left unchanged.
        return None if "srgb" in ImageCms.getProfileDescription(found).lower() else found
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
