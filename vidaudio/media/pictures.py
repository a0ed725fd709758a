"""Pictures from outside, as a viewer shows them: upright, in sRGB, 8 bits a channel, on white where transparent.

People bring pictures in every form that cameras, scanners and image editors write. Taken as the file stores it, a
sideways portrait or a 16-bit scan is another picture to an encoder than the one its owner sees. The format is told by
the content and must be one of `FORMATS`: Pillow would hand a `.jpg` that is PostScript to Ghostscript.
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

# AVIF and HEIF where this Pillow, or a plugin that the user has registered, reads them.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
# Decoded, a pixel takes 3 bytes, and several times that on the way. The largest phone pictures have 200 million pixels:
# JPEGs of more than DRAFT_PIXELS are decoded at a half, a quarter or an eighth of their size.
MAX_PIXELS = 100_000_000
MAX_JPEG_PIXELS = 210_000_000
DRAFT_PIXELS = 50_000_000
DRAFT_SIZE = (2048, 2048)
MAX_FILE_BYTES = 1 << 30
# A frame of a corpus is a square of at most `extract.frame_size` = 2048.
MAX_FRAME_PIXELS = 2048 * 2048
_WHITE = (255, 255, 255, 255)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Of TIFF.
_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
# The colour spaces of ICC profiles that fit a mode.
_PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def read_picture(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Image.Image:
    """Return a picture as RGB, the way a viewer shows it.

    The orientation that the camera noted is applied, transparency is laid on white, an embedded colour profile is
    converted to sRGB, and of an animation the first frame is taken. 16-bit values are scaled, not clipped; the range of
    floats and 32-bit integers is chosen by `to_eight_bits`.

    Args:
        source: A file's path, or the file's bytes.
        name: What messages call the picture; the path by default.

    Raises:
        MediaError: The file is missing, is no picture of a known format, is damaged, or has too many pixels.
    """
    called = name or ("the picture" if isinstance(source, bytes) else os.fspath(source))
    with _named(called), warnings.catch_warnings():
        # Of large and of damaged pictures Pillow warns on stderr; here they are accepted, or refused in a sentence.
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
    """Return one of our own frames, a JPEG that a corpus holds, decoded as it is stored.

    Cheaper than `read_picture`: what `extract` wrote has no orientation, profile or transparency. A corpus may come
    from somebody else, so the format and the number of pixels are checked all the same.

    Raises:
        MediaError: The bytes are no JPEG, are damaged, or are a larger picture than a corpus holds.
    """
    with _named(name):
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        _check_pixels(image, name, MAX_FRAME_PIXELS)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


def to_eight_bits(values: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Scale grey values of any range to uint8.

    Args:
        values: Integers or floats, `[H, W]`. What is no number counts as 0.
        largest: The value that is white, where the format says it. Otherwise the values decide: floats up to 1 (or a
            little over) are shares of white, values up to 255 and up to 65,535 are 8- and 16-bit values, anything else
            is stretched from its smallest to its largest value.
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
    """Whether values are whole numbers, as 8-bit values kept in floats are; 0 and 1 alone are shares of white."""
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
        # Pillow's plugins fail on damaged files in dozens of types; whichever it was, the picture cannot be read.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
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
    """The transposition that the picture's EXIF asks for, None where it asks for none that can be read."""
    try:
        noted = image.getexif().get(0x0112)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error):
        # A damaged note about the picture is no damage of the picture: viewers show it as it is stored.
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
    """RGB of a loaded picture of any mode, transparency laid on white."""
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
    """Grey picture, and alpha where one value stands for transparency, of a mode with more than 8 bits a value."""
    values = np.asarray(image)
    grey = Image.fromarray(to_eight_bits(*_range_of(image, values)))
    if _tag(image, _PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        grey = ImageOps.invert(grey)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))


def _range_of(image: Image.Image, values: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Values and which of them is white, as far as the format says it, for `to_eight_bits`."""
    bits, signed = _tag(image, _BITS_PER_SAMPLE_TAG), _tag(image, _SAMPLE_FORMAT_TAG) == _SIGNED
    if image.mode in _SIXTEEN_BITS:
        return values, float(2 ** (bits or 16) - 1)
    if image.mode == "I" and bits == 16 and signed:
        return (values, 32_767.0) if not values.size or values.min() >= 0 else (values + 32_768, 65_535.0)
    if image.mode == "I" and bits == 32 and not signed:
        return values.view(np.uint32), None
    return values, None


def _tag(image: Image.Image, number: int) -> int | None:
    """The first value of a TIFF's tag; None where the picture is none, or has no such tag."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value if isinstance(value, int) else None


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB through the picture's own colour profile, where it has one that can be used; plainly converted otherwise."""
    source = _profile(image.mode, profile)
    if source is not None:
        with contextlib.suppress(ImageCms.PyCMSError):  # a profile that cannot be used is passed over, as by viewers
            return ImageCms.profileToProfile(
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
        # Pixels of a picture that is in sRGB already are left as they are.
        return None if "srgb" in ImageCms.getProfileDescription(found).lower() else found
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
