"""One photo, or one name, does not end the work of all: it is skipped and listed, and never takes all memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Resize, ToTensor

import captum_vit
from captum_vit import TopImages
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb, read_image
from captum_vit.errors import ImageError
from captum_vit.models import default_photos


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


def whole() -> bytes:
    return default_photos()[0].read_bytes()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds nothing of it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def strip(size: tuple[int, int], mode: str = "L"):
    return lambda path: Image.new(mode, size, 128).save(path, "PNG")


# What a folder may hold under the name of a photo, and the reason that is told.
HOSTILE = {
    "empty": (lambda path: path.touch(), "it is empty"),
    "text": (lambda path: path.write_text("not a photo"), "that Pillow knows"),
    "truncated": (lambda path: path.write_bytes(whole()[:3000]), "truncated"),
    "only the beginning": (lambda path: path.write_bytes(whole()[:20]), "that Pillow knows"),
    "wide strip": (strip((65500, 1)), "65500 × 1 pixels"),
    "high strip": (strip((1, 65500), "RGB"), "1 × 65500 pixels"),
    "deep strip": (strip((30000, 2), "I;16"), "30000 × 2 pixels"),
    "bomb": (lambda path: path.write_bytes(claimed_png(60000, 60000)), "takes it for an attack"),
    "no pixels": (lambda path: path.write_bytes(claimed_png(0, 10)), ""),
    "nothing of what it says": (lambda path: path.write_bytes(claimed_png(1000, 1000)), "truncated"),
    "not a number": (
        lambda path: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(path, "TIFF"),
        "NaN or infinite",
    ),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "link to itself": (lambda path: path.symlink_to(path), "symbolic link"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "pipe": (os.mkfifo, "it is not a regular file"),
    "no name": (None, "null"),
}


def hostile(kind: str, folder: Path) -> str:
    path = folder / f"{kind}.jpg"
    make = HOSTILE[kind][0]
    if make is None:
        return f"{folder}/no\0name.jpg"
    make(path)
    return str(path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_in_one_line_that_names_the_file(kind: str, tmp_path: Path):
    path = hostile(kind, tmp_path)
    for read in (open_rgb,) if "strip" in kind else (open_rgb, read_image):
        with pytest.raises(ImageError, match="cannot be read as an image") as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(path)
        assert HOSTILE[kind][1] in message
        assert "\n" not in message
        assert not message.endswith(": ")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_skips_and_lists_all_of_them(vit, tmp_path: Path, workers: int):
    files = [str(default_photos()[0]), *(hostile(kind, tmp_path) for kind in HOSTILE), str(default_photos()[1])]
    result = captum_vit.top_images(vit, files, 2, batch_size=4, workers=workers, progress=False)
    assert result.images == 2
    assert [message.split(" cannot be read")[0] for message in result.skipped] == files[1:-1]


@pytest.mark.parametrize("size", [(3000, 30), (30, 3000), (100, 1), (1, 100)])
def test_a_panorama_is_no_strip(vit, size: tuple[int, int], tmp_path: Path):
    strip(size)(tmp_path / "panorama.png")
    assert eval_crop(vit)(open_rgb(tmp_path / "panorama.png")).shape == (3, 64, 64)


@pytest.mark.parametrize("size", [(65500, 1), (1, 65500)])
def test_a_strip_is_read_but_not_cropped(vit, size: tuple[int, int], tmp_path: Path):
    strip(size)(tmp_path / "strip.png")
    pixels = read_image(tmp_path / "strip.png")
    assert pixels.shape == (size[1], size[0], 3)
    for image in (pixels, Image.new("RGB", size)):
        with pytest.raises(ImageError, match="100 times as long as wide"):
            eval_crop(vit)(image)


def test_a_file_that_does_not_fit_into_memory_is_skipped(monkeypatch, tmp_path: Path):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", no_memory)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no_memory)
    with pytest.raises(ImageError, match="there is not enough memory for it"):
        open_rgb(default_photos()[0])


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="everything is readable for root")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path):
    (tmp_path / "secret.jpg").write_bytes(whole())
    (tmp_path / "secret.jpg").chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        open_rgb(tmp_path / "secret.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_are_no_text_are_ranked_and_saved(vit, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    for name in (b"a.jpg", b"caf\xe9.jpg", b"new\nline.jpg", "ü.jpg".encode()):
        (tmp_path / "photos" / os.fsdecode(name)).write_bytes(whole())
    (tmp_path / "photos" / os.fsdecode(b"\xff.png")).touch()
    result = captum_vit.top_images(vit, tmp_path / "photos", 4, partial=tmp_path / "partial", progress=False)
    assert (result.images, len(result.skipped)) == (4, 1)
    loaded = TopImages.load(result.save(tmp_path / "top.safetensors"))
    assert {os.path.basename(os.fsencode(image.path)) for image in loaded.best("blocks.4:7")} == {
        b"a.jpg", b"caf\xe9.jpg", b"new\nline.jpg", "ü.jpg".encode(),
    }  # fmt: skip


# --- datasets of others

ERRORS = [
    OSError("damaged"),
    SyntaxError("broken PNG file"),
    EOFError(),
    MemoryError(),
    zlib.error("incorrect header check"),
    struct.error("unpack requires a buffer"),
    Image.DecompressionBombError("so large"),
    ValueError("conversion from LAB to RGB not supported"),
    RuntimeError("output with shape [1, 64, 64] doesn't match"),
    IndexError("index out of range"),
    ImageError("x.jpg cannot be read: odd"),
]


class Failing(Dataset):
    def __init__(self, error: Exception, places: set[int]) -> None:
        self.error, self.places = error, places

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> torch.Tensor:
        if index in self.places:
            raise self.error
        return torch.full((3, 64, 64), index / 10)


@pytest.mark.parametrize("places", [{0}, {4}, {8}, {0, 1, 2}, {0, 4}], ids=str)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_image_that_fails_in_anybodys_dataset_is_skipped(vit, error: Exception, places: set[int]):
    result = captum_vit.top_images(vit, Failing(error, places), 2, batch_size=2, sites=["blocks.0"], progress=False)
    assert result.images == 9 - len(places)
    assert len(result.skipped) == len(places)
    assert all("cannot be read: " in message and not message.endswith(": ") for message in result.skipped)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_always_fails_says_so_itself(vit, workers: int):
    with pytest.raises(ZeroDivisionError, match="my own mistake"):
        captum_vit.top_images(
            vit, Failing(ZeroDivisionError("my own mistake"), set(range(9))), 2, workers=workers, progress=False
        )


def test_a_device_without_memory_is_not_the_images_fault(vit):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        captum_vit.top_images(vit, Failing(torch.cuda.OutOfMemoryError("no memory"), {4}), 2, progress=False)


def test_torchvisions_folders_may_hold_what_ours_may(vit, tmp_path: Path):
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "a.jpg").write_bytes(whole())
    for kind in ("bomb", "truncated", "text"):
        hostile(kind, tmp_path / "kind")
    folder = ImageFolder(tmp_path, Compose([Resize((64, 64)), ToTensor(), vit.preprocessing.normalize]))
    result = captum_vit.top_images(vit, folder, 2, progress=False)
    assert (result.images, len(result.skipped)) == (1, 3)
    assert all(message.startswith(str(tmp_path / "kind")) for message in result.skipped)


# --- memory

PEAK = """
import json, resource, sys
from captum_vit.data.images import open_rgb, read_image
from PIL import Image
read = {"open": open_rgb, "read": read_image, "pillow": lambda path: Image.open(path).convert("RGB")}[sys.argv[1]]
size = Image.open(sys.argv[2]).size
small = Image.new("RGB", (9, 9)); small.save(sys.argv[2] + ".small.png"); read(sys.argv[2] + ".small.png")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = read(sys.argv[2])
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps(peak / (size[0] * size[1])))
"""


def peak(how: str, path: Path) -> float:
    """Bytes a pixel that reading takes at most."""
    run = subprocess.run([sys.executable, "-c", PEAK, how, path], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "P", "I;16", "F"])
def test_a_large_photo_is_in_memory_once(mode: str, tmp_path: Path):
    size, path = (4000, 4000), tmp_path / "large.tif"
    if mode == "I;16":
        Image.fromarray(np.full(size, 30000, np.uint16)).save(path)
    else:
        Image.new(mode, size, 0.5 if mode == "F" else 1 if mode in ("L", "P") else (90,) * len(mode)).save(path)
    # Twelve bytes a pixel of what is given, and Pillow's own image, of four at most, beside some strips.
    assert peak("read", path) < 12 + 4 + 2
    assert peak("open", path) < 2 * max(peak("pillow", path), 4) + 2
