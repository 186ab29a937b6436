"""Reading photos: every mode becomes the same RGB, and what is not a photo is one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps
from timm.data import create_transform, resolve_model_data_config

import captum_vit
from captum_vit.data.crop import eval_crop
from captum_vit.data.dataset import ImageFiles
from captum_vit.data.images import find_images, open_rgb, read_image
from captum_vit.errors import CaptumViTError, ImageError
from captum_vit.models import default_photos

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # (48, 64), dark on the left


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rgb_pixels_come_back_as_they_were(tmp_path: Path, pixels):
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    image = read_image(tmp_path / "photo.png")
    assert image.dtype == np.float32
    assert image.shape == pixels.shape
    np.testing.assert_array_equal((image * 255).round().astype(np.uint8), pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_the_same_rgb(mode: str, tmp_path: Path):
    file = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    photo = Image.fromarray(RAMP).convert("RGB")
    (photo.quantize(64) if mode == "P" else photo.convert(mode)).save(file)
    with Image.open(file) as stored:
        assert stored.mode == mode
    image = read_image(file)
    assert image.shape == (*RAMP.shape, 3)
    np.testing.assert_allclose(image, np.repeat(RAMP[..., None] / 255, 3, axis=2), atol=0.03)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(suffix: str, tmp_path: Path):
    deep = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
    with Image.open(tmp_path / f"deep{suffix}") as stored:
        assert stored.mode.startswith("I")
    image = read_image(tmp_path / f"deep{suffix}")
    np.testing.assert_allclose(image, np.repeat(deep[..., None] / 65535, 3, axis=2), atol=1e-6)


def test_transparent_pixels_are_laid_over_white(tmp_path: Path):
    pixels = np.zeros((2, 3, 4), dtype=np.uint8)
    pixels[0, :, 0] = 255  # red
    pixels[0, :, 3] = (255, 128, 0)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    opaque, half, clear = read_image(tmp_path / "photo.png")[0]
    np.testing.assert_allclose(opaque, (1, 0, 0))
    np.testing.assert_allclose(half, (1, 127 / 255, 127 / 255), atol=1e-6)
    np.testing.assert_allclose(clear, (1, 1, 1))


def test_photos_are_turned_upright_as_their_exif_tag_says(tmp_path: Path):
    photo = Image.fromarray(RAMP).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    photo.save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png")
    np.testing.assert_allclose(upright, np.rot90(read_image_without_exif(photo, tmp_path), -1))


def read_image_without_exif(photo: Image.Image, folder: Path) -> np.ndarray:
    photo.save(folder / "plain.png")
    return read_image(folder / "plain.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg_becomes_upright(orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.open(default_photos()[0])
    photo.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "turned.jpg") as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    opened = open_rgb(tmp_path / "turned.jpg")
    assert opened.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(expected))
    np.testing.assert_array_equal(read_image(tmp_path / "turned.jpg"), np.asarray(expected, dtype=np.float32) / 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16", "F"])
def test_an_opened_image_is_what_is_read_rounded_to_8_bits(mode: str, tmp_path: Path):
    # Every value with every opacity.
    value, opacity = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    stored = {
        "I;16": lambda: Image.fromarray(value.astype(np.uint16) * 256 + opacity),
        "F": lambda: Image.fromarray(value.astype(np.float32) / 255),
        "LA": lambda: Image.merge("LA", [Image.fromarray(value), Image.fromarray(opacity)]),
        "RGBA": lambda: Image.fromarray(np.stack((value, opacity, value, opacity), axis=2)),
    }.get(mode, lambda: Image.fromarray(value).convert("RGB").convert(mode))()
    stored.save(tmp_path / "photo.tif")
    opened = open_rgb(tmp_path / "photo.tif")
    assert opened.mode == "RGB"
    rounded = (read_image(tmp_path / "photo.tif") * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(opened), rounded)


def test_a_transparent_colour_of_a_palette_is_laid_over_white(tmp_path: Path):
    photo = Image.fromarray(RAMP).convert("RGB").quantize(8)
    photo.save(tmp_path / "photo.png", transparency=0)
    clear = np.asarray(photo) == 0
    assert (np.asarray(open_rgb(tmp_path / "photo.png"))[clear] == 255).all()
    assert (read_image(tmp_path / "photo.png")[clear] == 1).all()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "pit_ti_224"])
def test_a_model_sees_what_timms_own_transform_gives(name: str):
    model = timm.create_model(name).eval()
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    with captum_vit.adapt(model) as vit:
        files, crop = ImageFiles.of(default_photos(), vit), eval_crop(vit)
    for index, path in enumerate(default_photos()):
        with Image.open(path) as photo:
            expected = transform(photo.convert("RGB"))
        torch.testing.assert_close(files[index], expected, rtol=0, atol=1e-6)
        assert torch.equal(crop(read_image(path)), crop(open_rgb(path)))


def spoiled(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.jpg"
    whole = default_photos()[0].read_bytes()
    if kind != "missing":
        path.write_bytes({"empty": b"", "text": b"not a photo\n" * 50, "truncated": whole[: len(whole) // 2]}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated"])
def test_what_is_not_a_whole_image_is_an_error_that_names_the_file(kind: str, tmp_path: Path):
    path = spoiled(kind, tmp_path)
    for read in (read_image, open_rgb):
        with pytest.raises(ImageError, match=kind + r"\.jpg cannot be read as an image") as caught:
            read(path)
        assert isinstance(caught.value, CaptumViTError)


def test_a_truncated_png_is_an_error_too(tmp_path: Path):
    Image.effect_noise((64, 64), 80).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"half\.png"):
        read_image(tmp_path / "half.png")


def test_folders_are_searched_with_their_subfolders_in_order(tmp_path: Path):
    for name in ("b.jpg", "a.PNG", "sub/c.jpeg", "notes.txt", "weights.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.PNG", "b.jpg", "sub/c.jpeg"]


def test_a_single_file_is_taken_as_it_is():
    photo = default_photos()[0]
    assert find_images([photo]) == (photo,)


def test_a_folder_without_images_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=f"no image in {tmp_path}"):
        find_images([tmp_path])


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(ImageError, match="nowhere does not exist"):
        find_images([tmp_path / "nowhere"])
