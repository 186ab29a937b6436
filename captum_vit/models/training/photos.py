"""The photos that the embedded models learn from and are tested on, and random crops of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from captum_vit.models.bundled import default_photos

_SHORT_SIDE = 1024  # pixels; photos are reduced to it once, so that a crop shows things and not only texture
_TRAINED = 0.75  # of each training photo's longer side; no training crop reaches into the rest


@dataclass(frozen=True)
class Photo:
    """One photograph, or a part of one.

    Attributes
    ----------
    name
        What tells it from the others; its random crops depend on it.
    path
        The file it is read from.
    part
        From where to where along the longer side, as fractions of it.
    crops
        How many random crops of it are trained on.
    smallest
        Area of the smallest crop, as a fraction of the photo's.
    category
        What it shows, in plain words; empty where that is not told.
    """

    name: str
    path: Path
    part: tuple[float, float] = (0.0, 1.0)
    crops: int = 100
    smallest: float = 0.03
    category: str = ""

    def read(self) -> Image.Image:
        """Read the part as RGB, reduced to at most 1024 pixels on the photo's shorter side."""
        with _large_images(), Image.open(self.path) as opened:
            image = opened.convert("RGB")
        scale = min(1.0, _SHORT_SIDE / min(image.size))
        width, height = round(image.width * scale), round(image.height * scale)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        begin, end = (round(max(width, height) * fraction) for fraction in self.part)
        return image.crop((begin, 0, end, height) if width >= height else (0, begin, width, end))


_PLASMA = [
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
]  # Debian: plasma-workspace-wallpapers
_MATE = [
    "Aqua",
    "Blinds",
    "Dune",
    "FreshFlower",
    "Garden",
    "GreenMeadow",
    "RainDrops",
    "Storm",
    "TwoWings",
    "Wood",
    "YellowFlower",
]  # Debian: mate-backgrounds
_LOMIRI = [
    "Bridge_by_Sander_Klootwijk",
    "Dragonfly_by_Bolly",
    "Kleiber_by_Lukas_Baubkus",
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "aitzgorri_by_Aitzol_Berasategi",
    "free_by_Peter_Nerlich",
    "friends_by_Aitzol_Berasategi",
    "greentock_by_Peter_Nerlich",
    "life_by_Aitzol_Berasategi",
    "sunset_by_Aitzol_Berasategi",
]  # Debian: lomiri-wallpapers-16.04 and -20.04
_SKIMAGE = [
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "retina.jpg",
    "text.png",
]  # PyPI: scikit-image
_BUNDLED = ["astronaut", "cat", "coffee", "dandelion", "mountains", "rocket"]

UNLABELLED = (
    *_PLASMA,
    *_MATE,
    *(name.split("_by_")[0] for name in _LOMIRI),
    *(name.split(".")[0] for name in _SKIMAGE),
    "flower",
)


def _package_folder(package: str, *parts: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the photos of {package!r} are needed for training; install that package")
    return Path(spec.origin).parent.joinpath(*parts)


def _plasma(name: str, share: Path) -> Photo:
    return Photo(name, next((share / "wallpapers" / name / "contents" / "images").glob("2560x1600.*")))


def training_photos(share: Path = Path("/usr/share")) -> list[Photo]:
    """List the photos without labels that a model is trained on, without what is reserved.

    Parameters
    ----------
    share
        Where Debian's wallpaper packages put their files.

    Raises
    ------
    FileNotFoundError
        If a photo is missing; the message names the file.
    """
    skimage = _package_folder("skimage", "data")
    photos = [_plasma(name, share) for name in _PLASMA]
    photos += [Photo(name, share / "backgrounds/mate/nature" / f"{name}.jpg") for name in _MATE]
    photos += [Photo(name.split("_by_")[0], share / "backgrounds" / f"{name}.jpg") for name in _LOMIRI]
    photos += [Photo(name.split(".")[0], skimage / name) for name in _SKIMAGE]
    photos.append(Photo("flower", _package_folder("sklearn", "datasets", "images", "flower.jpg")))
    return [replace(photo, part=(0.0, _TRAINED)) for photo in _checked(photos)]


def fewer_crops(photos: Sequence[Photo], share: float) -> list[Photo]:
    """List the same photos, each with a share in (0, 1] of its crops, which are the first of them; at least one."""
    return [replace(photo, crops=math.ceil(share * photo.crops)) for photo in photos]


def reserved_parts(share: Path = Path("/usr/share")) -> list[Photo]:
    """List the last quarter of each training photo, of which no model ever saw a pixel."""
    return [replace(photo, part=(_TRAINED, 1.0)) for photo in training_photos(share)]


def held_out_photos(share: Path = Path("/usr/share")) -> list[Photo]:
    """List the photos that no model is ever trained on: six of the bundled ones and five more."""
    photos = [Photo(path.stem, path) for path in default_photos() if path.stem in _BUNDLED]
    photos += [_plasma("EveningGlow", share)]
    photos += [Photo("LadyBird", share / "backgrounds/mate/nature/LadyBird.jpg")]
    photos += [Photo("motorcycle", _package_folder("skimage", "data", "motorcycle_left.png"))]
    photos += [Photo("Wine", share / "backgrounds/Wine_by_Jakkub_Mede.jpg")]
    photos += [Photo("china", _package_folder("sklearn", "datasets", "images", "china.jpg"))]
    return _checked(photos)


def _checked(photos: list[Photo]) -> list[Photo]:
    for photo in photos:
        if not photo.path.is_file():
            raise FileNotFoundError(f"photo {photo.name!r} is not at {photo.path}; install the package that carries it")
    return photos


def random_crops(photo: Photo, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Cut random parts out of a photo: area log-uniform up to 100 %, aspect 3:4 to 4:3, half of them mirrored.

    Parameters
    ----------
    photo
        The photo.
    count
        How many crops.
    size
        Side of each crop after resizing, in pixels.
    rng
        Source of the random numbers.

    Returns
    -------
    numpy.ndarray
        RGB pixels, shape ``(count, size, size, 3)``.
    """
    image = photo.read()
    crops = np.empty((count, size, size, 3), np.uint8)
    for crop in crops:
        area = math.exp(rng.uniform(math.log(photo.smallest), 0.0)) * image.width * image.height
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width = min(max(math.sqrt(area * aspect), 64.0), image.width)
        height = min(max(math.sqrt(area / aspect), 64.0), image.height)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        part = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        crop[:] = np.asarray(part)[:, ::-1] if rng.random() < 0.5 else np.asarray(part)
    return crops


def central_square(photo: Photo, size: int) -> npt.NDArray[np.uint8]:
    """Cut the largest square out of a photo's middle: RGB pixels, shape ``(1, size, size, 3)``."""
    image = photo.read()
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))[None]


@contextmanager
def _large_images() -> Iterator[None]:
    """Context in which Pillow opens wallpapers, which are larger than what it takes for an attack."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
