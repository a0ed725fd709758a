"""Pictures from outside are seen as a viewer shows them, or are refused in one sentence."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFilter

from vidaudio.errors import MediaError
from vidaudio.media.pictures import MAX_FRAME_PIXELS, read_frame, read_picture, to_eight_bits

ORIENTED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """A picture without symmetry, soft enough that JPEG keeps it."""
    image = Image.new("RGB", (96, 64), (40, 90, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, 44, 44), fill=(220, 60, 40))
    draw.rectangle((60, 30, 90, 58), fill=(60, 200, 80))
    return image.filter(ImageFilter.GaussianBlur(2))


def difference(found: Image.Image, wanted: Image.Image) -> float:
    """Mean difference of two pictures of one size, 0 to 255."""
    assert found.mode == "RGB"
    assert found.size == wanted.size
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted.convert("RGB"), np.float64)).mean())


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def tiff_of(values: np.ndarray, photometric: int, sample_format: int) -> bytes:
    """An uncompressed TIFF of grey values `[H, W]`, with these tags, which Pillow writes for some types only."""
    height, width = values.shape
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: photometric, 273: 8 + 2 + 10 * 12 + 4}
    tags |= {277: 1, 278: height, 279: values.nbytes, 339: sample_format}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4) + values.tobytes()


def png_of_16_bits(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of uint16 values `[H, W]` (grey) or `[H, W, 3]`, which Pillow does not write."""
    colour = 2 if values.ndim == 3 else 0
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", sorted(ORIENTED))
def test_every_orientation_is_turned_upright(scene: Image.Image, form: str, orientation: int) -> None:
    turn = ORIENTED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    data = encoded(scene if turn is None else scene.transpose(turn), form, exif=exif, **options)
    assert difference(read_picture(data), scene) < 3


GREY = np.tile(np.arange(256), (16, 1))


@pytest.mark.parametrize(
    ("values", "photometric", "sample_format"),
    [
        (GREY.astype("<u2") * 257, 1, 1),
        ((255 - GREY).astype("<u2") * 257, 0, 1),
        ((255 - GREY).astype(np.uint8), 0, 1),
        ((1 - GREY / 255).astype("<f4"), 0, 3),
        ((GREY * 16_843_009).astype("<u4"), 1, 1),
        (np.round(GREY / 255 * 32_767).astype("<i2"), 1, 2),
        ((GREY * 257 - 32_768).astype("<i2"), 1, 2),
    ],
    ids=["16 bit", "16 bit, 0 is white", "8 bit, 0 is white", "float, 0 is white", "32 bit", "signed", "below zero"],
)
def test_grey_of_any_type_and_sense_is_the_same_picture(values, photometric: int, sample_format: int):
    grey = np.asarray(read_picture(tiff_of(values, photometric, sample_format)))[..., 0]
    assert np.abs(grey.astype(int) - GREY).max() <= 1


def test_bytes_that_are_no_picture_are_called_by_their_name():
    with pytest.raises(MediaError, match=r"^the query is not a picture .* \(cannot identify image file\);"):
        read_picture(b"no picture", name="the query")


def test_16_bit_values_are_scaled_and_not_clipped(scene: Image.Image) -> None:
    grey = scene.convert("L")
    wide = np.asarray(grey).astype(np.uint16) * 257
    assert difference(read_picture(encoded(Image.fromarray(wide), "PNG")), grey) == 0
    assert difference(read_picture(encoded(Image.fromarray(wide), "TIFF")), grey) == 0
    colours = np.asarray(scene).astype(np.uint16) * 257
    assert difference(read_picture(png_of_16_bits(colours)), scene) <= 1


@pytest.mark.parametrize("scale", [1 / 255, 1, 257], ids=["to 1", "to 255", "to 65535"])
def test_the_range_of_floats_is_found(scene: Image.Image, scale: float) -> None:
    grey = scene.convert("L")
    data = encoded(Image.fromarray(np.asarray(grey).astype(np.float32) * np.float32(scale)), "TIFF")
    assert difference(read_picture(data), grey) < 0.5


def test_odd_floats_are_stretched_and_what_is_no_number_is_black() -> None:
    centred = np.linspace(-1, 1, 256).reshape(16, 16)
    assert to_eight_bits(centred).min() == 0
    assert to_eight_bits(centred).max() == 255
    assert to_eight_bits(np.array([[0.0, 1.02], [-0.01, 0.5]])).tolist() == [[0, 255], [0, 128]]
    assert to_eight_bits(np.array([[np.nan, np.inf], [-np.inf, 1.0]])).tolist() == [[0, 255], [255, 255]]
    assert to_eight_bits(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]
    assert to_eight_bits(np.zeros((0, 4))).shape == (0, 4)
    assert to_eight_bits(np.array([[0, 1 << 30], [1 << 29, 0]], np.int32)).tolist() == [[0, 255], [128, 0]]


def test_transparency_is_laid_on_white(scene: Image.Image) -> None:
    mask = Image.new("L", scene.size, 0)
    ImageDraw.Draw(mask).ellipse((10, 5, 80, 60), fill=255)
    wanted = Image.new("RGB", scene.size, "white")
    wanted.paste(scene, (0, 0), mask)
    cut = Image.new("RGBA", scene.size, (0, 0, 0, 0))
    cut.paste(scene, (0, 0), mask)
    assert difference(read_picture(encoded(cut, "PNG")), wanted) == 0
    assert difference(read_picture(encoded(cut, "WEBP", lossless=True)), wanted) == 0
    assert difference(read_picture(encoded(cut, "TIFF")), wanted) == 0
    assert (
        difference(
            read_picture(encoded(cut.convert("LA"), "PNG")),
            Image.composite(scene.convert("L"), Image.new("L", scene.size, 255), mask),
        )
        < 1
    )


def test_a_transparent_colour_is_laid_on_white(scene: Image.Image) -> None:
    palette = Image.new("P", (20, 10), 0)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    palette.paste(1, (0, 0, 10, 10))
    found = np.asarray(read_picture(encoded(palette, "PNG", transparency=0)))
    assert found[0, 15].tolist() == [255, 255, 255]
    assert found[0, 5].tolist() == [200, 10, 10]
    found = np.asarray(read_picture(encoded(palette, "GIF", transparency=0)))
    assert found[0, 15].tolist() == [255, 255, 255]
    values = np.array([[0, 40_000], [65_535, 257]], np.uint16)
    found = np.asarray(read_picture(png_of_16_bits(values, (b"tRNS", struct.pack(">H", 0)))))
    assert found[..., 0].tolist() == [[255, 156], [255, 1]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_modes_of_the_press_and_the_fax(scene: Image.Image, mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    options = {"quality": 95} if mode == "CMYK" else {}
    image = scene.convert(mode)
    assert difference(read_picture(encoded(image, form, **options)), image) < 3


def test_a_colour_profile_is_converted(scene: Image.Image) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # One that does not fit, one that changes nothing, and rubbish leave the pixels as they are.
    for profile in (lab, srgb, b"no profile at all", srgb[:200]):
        assert difference(read_picture(encoded(scene, "PNG", icc_profile=profile)), scene) == 0
    swapped = _profile_with_red_and_blue_swapped(srgb)
    found = np.asarray(read_picture(encoded(scene, "PNG", icc_profile=swapped)), np.float64)
    assert np.abs(found - np.asarray(scene, np.float64)[..., ::-1]).mean() < 3


def _profile_with_red_and_blue_swapped(srgb: bytes) -> bytes:
    """The sRGB profile with its red and blue primaries exchanged, and another name."""
    data = bytearray(srgb.replace("sRGB".encode("utf-16-be"), "BRGs".encode("utf-16-be")).replace(b"sRGB", b"BRGs"))
    tags = {
        data[132 + 12 * n : 136 + 12 * n].decode(): 132 + 12 * n for n in range(struct.unpack(">I", data[128:132])[0])
    }
    red, blue = tags["rXYZ"], tags["bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def test_of_an_animation_the_first_frame(scene: Image.Image) -> None:
    other = Image.new("RGB", scene.size, "black")
    for form in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(scene, form, save_all=True, append_images=[other, scene], duration=100, **options)
        assert difference(read_picture(data), scene) < 6


def test_the_content_decides_and_not_the_name(tmp_path: Path, scene: Image.Image) -> None:
    named = tmp_path / "picture.png"
    named.write_bytes(encoded(scene, "JPEG", quality=95))
    assert difference(read_picture(named), scene) < 3


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def ran(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ran)
    eps = tmp_path / "cat.jpg"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(x) run\nshowpage\n%%EOF\n")
    with pytest.raises(MediaError, match=r"cat\.jpg is not a picture that can be read"):
        read_picture(eps)
    with pytest.raises(MediaError):
        read_frame(eps.read_bytes(), name="frame")


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = png_of_16_bits(np.zeros((1, 1), np.uint16)).replace(
        png_of_16_bits(np.zeros((1, 1), np.uint16))[12:33],
        b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)),
    )
    with pytest.raises(MediaError, match="pixels"):
        read_picture(png, name="huge.png")
    side = int(MAX_FRAME_PIXELS**0.5) + 8
    with pytest.raises(MediaError, match="pixels"):
        read_frame(encoded(Image.new("RGB", (side, side)), "JPEG"), name="frame")


def test_a_very_large_jpeg_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch, scene: Image.Image) -> None:
    from vidaudio.media import pictures

    monkeypatch.setattr(pictures, "DRAFT_PIXELS", 1000)
    monkeypatch.setattr(pictures, "DRAFT_SIZE", (48, 32))
    found = read_picture(encoded(scene, "JPEG", quality=95))
    assert found.size == (48, 32)
    assert difference(found, scene.resize((48, 32), Image.Resampling.BOX)) < 4


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no picture"):
        read_picture(tmp_path / "gone.jpg")
    with pytest.raises(MediaError, match="is no file"):
        read_picture(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damage_is_a_sentence(scene: Image.Image, form: str) -> None:
    whole = encoded(scene, form)
    chance = random.Random(form)
    for number in range(60):
        data = bytearray(whole)
        if number % 2:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            picture = read_picture(bytes(data), name="some.picture")
        except MediaError as error:
            assert "some.picture" in str(error)  # noqa: PT017 - either a sentence or a picture
        else:
            assert picture.mode == "RGB"
