"""Values that are no photo's: what they mean is found by a rule that is written down, or they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiffs import GREY, LAB, RGB, write_tiff

import captum_vit
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import as_rgb, from_pixels, open_rgb, read_image
from captum_vit.errors import ImageError

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
KINDS = ["<f4", ">f4", "<i4", ">i4", "<u2", ">u2", "<i2", ">i2"]


def both(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The file as it is read, and as it is opened."""
    return read_image(path), np.asarray(open_rgb(path)) / 255


def refused(path: Path, reason: str) -> None:
    for read in (read_image, open_rgb):
        with pytest.raises(ImageError, match=rf"{path.name} cannot be read as an image: .*{reason}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_grey_of_any_format_becomes_the_same_picture(kind: str, white: int, tmp_path: Path):
    values = RAMP * white if kind[1] == "f" else np.round(RAMP * white)
    if np.dtype(kind).kind != "f" and (white == 1 or not np.can_cast(np.min_scalar_type(white), kind)):
        pytest.skip("has no such values")
    path = write_tiff(tmp_path / "grey.tif", values.astype(kind))
    if kind[1:] == "u2" and white == 255:
        return refused(path, "16 bits go up to 255")
    for pixels in both(path):
        np.testing.assert_allclose(pixels, np.repeat(RAMP[..., None], 3, axis=2), atol=1 / 255)
    return None


@pytest.mark.parametrize("white", [1, 255, 65535])
@pytest.mark.parametrize(("least", "largest"), [(0, 1.02), (-0.03, 1), (-0.09, 1.09), (0, 0.2), (0.3, 0.9)])
def test_what_resampling_adds_is_clipped(least: float, largest: float, white: int, tmp_path: Path):
    values = least + RAMP * (largest - least)
    path = write_tiff(tmp_path / "grey.tif", (values * white).astype("<f4"))
    for pixels in both(path):
        np.testing.assert_allclose(pixels[..., 0], values.clip(0, 1), atol=1 / 255)


@pytest.mark.parametrize(
    ("least", "largest"), [(-1, 1), (-2, 3), (0, 2), (0, 12), (0, 300), (0, 1023), (0, 4095), (0, 1e5), (-5, -1)]
)
def test_values_of_no_range_are_refused_and_told(least: float, largest: float, tmp_path: Path):
    values = least + RAMP * (largest - least)
    for kind in ("<f4", "<i4"):
        if kind == "<f4" or largest > 2:
            path = write_tiff(tmp_path / "grey.tif", values.astype(kind))
            refused(path, f"from {least:g} to {largest:g}")


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (40, 63)])
def test_a_pixel_that_is_no_number_is_refused(broken: float, place: tuple[int, int], tmp_path: Path):
    values = RAMP.astype("<f4")
    values[place] = broken
    refused(write_tiff(tmp_path / "grey.tif", values), "1 of its pixels are NaN or infinite")


@given(st.floats(-1e9, 1e9, width=32), st.floats(-1e9, 1e9, width=32))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_picture_with_light_in_it_comes_out_black_or_beyond_white(tmp_path: Path, one: float, other: float):
    least, largest = sorted((one, other))
    values = np.linspace(least, largest, 64, dtype="<f4").reshape(8, 8)
    path = write_tiff(tmp_path / "grey.tif", values)
    try:
        pixels, opened = both(path)
    except ImageError:
        return
    assert ((pixels >= 0) & (pixels <= 1)).all()
    np.testing.assert_array_equal((pixels * 255).round(), (opened * 255).round())
    # All but those in [0, 1], which say how dark they are, have at least a sixteenth of white.
    if values.max() > 1.1:
        assert pixels.max() >= 1 / 16 - 1e-6


@pytest.mark.parametrize("kind", ["|u1", "<u2", "<f4", ">f4"])
def test_negatives_are_made_positive(kind: str, tmp_path: Path):
    white = {"u1": 255, "u2": 65535, "f4": 1}[kind[1:]]
    path = write_tiff(tmp_path / "negative.tif", (RAMP**2 * white).astype(kind), photometric=0)
    for pixels in both(path):
        np.testing.assert_allclose(pixels[..., 0], 1 - RAMP**2, atol=1 / 255)


def test_dark_16_bit_png_is_dark(tmp_path: Path):
    Image.fromarray((RAMP * 200).astype(np.uint16)).save(tmp_path / "dark.png")
    np.testing.assert_allclose(read_image(tmp_path / "dark.png")[..., 0], (RAMP * 200).astype(int) / 65535, atol=1e-6)


def test_16_bit_pgm_has_the_white_that_it_says(tmp_path: Path):
    values = np.round(RAMP * 1023).astype(">u2")
    (tmp_path / "grey.pgm").write_bytes(b"P5 64 48 1023\n" + values.tobytes())
    for pixels in both(tmp_path / "grey.pgm"):
        np.testing.assert_allclose(pixels[..., 0], RAMP, atol=1 / 255)


# --- bands


@pytest.mark.parametrize("kind", ["|u1", "<u2", ">u2", "<f4"])
@pytest.mark.parametrize("photometric", [GREY, RGB])
@pytest.mark.parametrize("bands", range(1, 9))
@pytest.mark.parametrize("says", [False, True])
def test_bands_are_three_colours_or_refused(bands: int, photometric: int, kind: str, says: bool, tmp_path: Path):
    white = {"u1": 255, "u2": 65535, "f4": 1}[kind[1:]]
    colours = np.stack([(RAMP * share * white).astype(kind) for share in np.linspace(1, 0.1, bands)], axis=-1)
    own = 1 if photometric == GREY else 3
    path = tmp_path / "bands.tif"
    write_tiff(path, colours, photometric, [0] * (bands - own) if says and bands > own else None)
    try:
        pixels, opened = both(path)
    except ImageError:
        assert bands != own or (kind == "<f4" and bands == 3)
        return refused(path, "(kind of its format, that Pillow knows|does not say what the fourth is)")
    expected = np.stack([RAMP * share for share in np.linspace(1, 0.1, bands)[:own]], axis=-1)
    for each in (pixels, opened):
        np.testing.assert_allclose(each, np.broadcast_to(expected, each.shape), atol=1.5 / 255)
    return None


def test_a_fourth_band_that_nobody_names_is_no_opacity(tmp_path: Path):
    values = np.full((8, 8, 4), 128, dtype=np.uint8)
    refused(write_tiff(tmp_path / "infrared.tif", values, RGB), "does not say what the fourth is")
    assert read_image(write_tiff(tmp_path / "alpha.tif", values, RGB, [2])).mean() == pytest.approx(
        (128 / 255) ** 2 + 127 / 255, abs=0.01
    )


def test_lab_is_converted_or_refused(tmp_path: Path):
    # Half as light as white, and of no colour.
    path = write_tiff(tmp_path / "lab.tif", np.full((8, 8, 3), (128, 0, 0), dtype=np.uint8), LAB)
    try:
        pixels = np.stack(both(path))
    except ImageError:  # older releases of Pillow, or without LittleCMS
        return refused(path, "LAB")
    np.testing.assert_allclose(pixels, 119 / 255, atol=0.02)
    return None


def test_signed_bytes_are_refused(tmp_path: Path):
    refused(write_tiff(tmp_path / "signed.tif", np.full((8, 8), -1, dtype=np.int8)), "signed")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_mode_of_pillows_is_converted(mode: str):
    grey = mode in ("1", "L", "LA", "PA")
    colour = (255, 255, 255) if mode == "1" else (153, 153, 153) if grey else (204, 102, 51)
    through = {"PA": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
    rgb = as_rgb(Image.new("RGB", (8, 8), colour).convert(through).convert(mode))
    assert rgb.mode == "RGB"
    np.testing.assert_allclose(np.asarray(rgb, dtype=float), np.broadcast_to(colour, (8, 8, 3)), atol=3)


# --- arrays and images that are passed, and not read


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((8, 8, 3), 128, dtype=np.uint8), "pixels are uint8"),
        (np.full((8, 8, 3), 128.0), "from 128 to 128"),
        (np.full((8, 8, 3), -0.5), "from -0.5"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.zeros((3, 8, 8)), r"shape \(3, 8, 8\)"),
        (np.zeros((8, 8, 4)), r"shape \(8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3)), r"shape \(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3)), r"shape \(0, 8, 3\)"),
    ],
)
def test_pixels_that_mean_nothing_are_refused(pixels: np.ndarray, reason: str):
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        crop = eval_crop(vit)
    for use in (from_pixels, crop):
        with pytest.raises(ImageError, match=reason):
            use(pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_a_crop_of_any_image_is_three_colours(mode: str):
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        crop = eval_crop(vit)
    image = Image.fromarray((RAMP * 65535).astype(np.uint16))
    if mode != "I;16":
        image = Image.fromarray((RAMP * 255).astype(np.uint8)).convert("RGB").convert(mode)
    assert crop(image).shape == (3, 64, 64)
    assert crop(image).mean() == pytest.approx(0.5, abs=0.02)
    assert crop(RAMP).mean() == pytest.approx(0.5, abs=0.02)
