"""What a render gives: images, activation histories and the settings that repeat them; saved as PNG and JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_vit.storage.files import replacing


@dataclass(frozen=True)
class Render:
    """The optimized image of one neuron.

    Attributes
    ----------
    neuron
        Its address, or the description of the objective.
    image
        Pixels in [0, 1], shape ``(H, W, 3)``.
    history
        Activation at each step, on the transformed copies; shape ``(steps,)``.
    activation
        Activation of the finished image, without transforms.
    start
        The same of the first, random image.
    settings
        All that repeats the render: model, recipe, steps, size, seed, versions.
    problem
        What went wrong, in words; None if nothing did.
    """

    neuron: str
    image: NDArray[np.float32]
    history: NDArray[np.float32]
    activation: float
    start: float
    settings: Mapping[str, Any]
    problem: str | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the image as PNG and the rest as JSON beside it, and return the PNG's path."""
        path = png_path(Path(folder), self.neuron)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            to_pil(self.image).save(partial, format="PNG")
        # The JSON comes last: where it is, the render is whole.
        record = {
            "neuron": self.neuron,
            "activation": self.activation,
            "start": self.start,
            "problem": self.problem,
            "settings": dict(self.settings),
            "history": [round(float(value), 6) for value in self.history],
        }
        with replacing(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(record, indent=1))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Render:
        """Read a saved render back, from the path of its PNG; pixels have the PNG's 8 bits.

        Raises
        ------
        OSError, ValueError
            One of the two files is missing, or is not what :meth:`save` wrote.
        """
        path = Path(path)
        record = json.loads(path.with_suffix(".json").read_text())
        with Image.open(path) as image:
            pixels = (np.asarray(image.convert("RGB")) / 255).astype(np.float32)
        names = ("neuron", "activation", "start", "problem", "settings")
        history = np.array(record["history"], dtype=np.float32)
        return cls(image=pixels, history=history, **{name: record[name] for name in names})


@dataclass(frozen=True)
class Renders:
    """The optimized images of several neurons, in the order in which they were asked for."""

    renders: tuple[Render, ...]

    def __len__(self) -> int:
        return len(self.renders)

    def __iter__(self) -> Iterator[Render]:
        return iter(self.renders)

    def __getitem__(self, index: int) -> Render:
        return self.renders[index]

    @property
    def images(self) -> NDArray[np.float32]:
        """All images, pixels in [0, 1], shape ``(N, H, W, 3)``."""
        return np.stack([render.image for render in self.renders])

    @property
    def activations(self) -> NDArray[np.float32]:
        """Activation of each finished image, without transforms; shape ``(N,)``."""
        return np.array([render.activation for render in self.renders], dtype=np.float32)

    @property
    def history(self) -> NDArray[np.float32]:
        """Activation at each step, shape ``(N, steps)``."""
        return np.stack([render.history for render in self.renders])

    @property
    def problems(self) -> dict[str, str]:
        """What went wrong, by neuron; empty if nothing did."""
        return {render.neuron: render.problem for render in self.renders if render.problem}

    def save(self, folder: str | Path) -> list[Path]:
        """Write a PNG and a JSON for each neuron and a contact sheet; return the paths of the PNGs."""
        paths = [render.save(folder) for render in self.renders]
        self.save_sheet(folder)
        return paths

    def save_sheet(self, folder: str | Path) -> Path:
        """Write the contact sheet alone, and return its path."""
        path = Path(folder) / "contact-sheet.png"
        with replacing(path) as partial:
            to_pil(self.grid()).save(partial, format="PNG")
        return path

    def grid(self, columns: int | None = None, gap: int = 4) -> NDArray[np.float32]:
        """Contact sheet of all images, pixels in [0, 1], on white.

        Parameters
        ----------
        columns
            Images in a row; as many as make the sheet about square when not given.
        gap
            White pixels between images.
        """
        images = self.images
        count, height, width, _ = images.shape
        columns = min(count, columns or math.ceil(math.sqrt(count)))
        rows = -(-count // columns)
        sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), dtype=np.float32)
        for index, image in enumerate(images):
            top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
            sheet[top : top + height, left : left + width] = image
        return sheet


def png_path(folder: Path, neuron: str) -> Path:
    """Where the render of a neuron is saved in a folder."""
    return folder / (re.sub(r"[^\w.+-]+", "-", neuron).strip("-") + ".png")


def to_pil(image: NDArray[np.float32]) -> Image.Image:
    """An image of pixels in [0, 1], shape ``(H, W, 3)``, as Pillow's."""
    return Image.fromarray((image * 255).round().astype(np.uint8))
