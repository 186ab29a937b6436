"""What a render gives: images, activation histories and the settings that repeat them; saved as PNG and JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from captum_vit.optvis.keeping import kept, mark_of_render, place_of_render, place_of_sheet
from captum_vit.optvis.notebook import beside, figure, png
from captum_vit.optvis.sheet import labelled, tiled
from captum_vit.storage.files import replacing
from captum_vit.storage.part import Part

NAMED = ""  # the key of a render that is told by its name


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
    worst
        The same of the worst of six views of the finished image: shifts by a fifth of it, zooms by 1.25 and 0.8. NaN
        where it was not looked at.
    made_by
        Which of several contending recipes made it; None where there was one.
    settings
        All that repeats the render: model, recipe, steps, size, seed, versions.
    problem
        What went wrong, in words; None if nothing did.
    key
        What tells the neuron or objective from others: the address, or the checksum of all that is in the objective;
        None for an objective that has no content to be compared.
    """

    neuron: str
    image: NDArray[np.float32]
    history: NDArray[np.float32]
    activation: float
    start: float
    settings: Mapping[str, Any]
    problem: str | None = None
    worst: float = math.nan
    made_by: str | None = None
    key: str | None = NAMED

    def __post_init__(self) -> None:
        if self.key == NAMED:
            object.__setattr__(self, "key", str(self.neuron))

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        problem = f", {self.problem}" if self.problem else ""
        return f"Render({self.neuron}, {height}x{width}, activation {self.activation:.3g}{problem})"

    def _repr_png_(self) -> bytes:
        """The image, for notebooks."""
        return png(to_pil(self.image))

    def _repr_html_(self) -> str:
        """The image with its address, for notebooks."""
        origin = f"started from {self.started_from}" if self.started_from else ""
        words = (f"activation {self.activation:.3g}", origin, self.problem or "")
        return figure(to_pil(self.image), words, heading=self.neuron)

    @property
    def started_from(self) -> str | None:
        """Name of the photo from which it started (accentuation); None if it started at random."""
        start = self.settings.get("start")
        return None if start is None else Path(Part.of(start[0]).file).name

    @cached_property
    def record(self) -> dict[str, Any]:
        """All but the image, in words and numbers that JSON holds."""
        return {
            "neuron": self.neuron,
            "key": self.key,
            "activation": self.activation,
            "start": self.start,
            "worst": None if math.isnan(self.worst) else self.worst,
            "made_by": self.made_by,
            "problem": self.problem,
            "settings": dict(self.settings),
            "history": [round(float(value), 6) for value in self.history],
        }

    @cached_property
    def mark(self) -> str:
        """What tells the render's files from those of others: equal for one neuron or objective and equal plans."""
        pixels = hashlib.sha256(np.ascontiguousarray(self.image).tobytes()).hexdigest()
        return mark_of_render(self.key, self.settings, [self.record, pixels])

    def save(self, folder: str | Path) -> Path:
        """Write the image as PNG and the rest as JSON beside it, and return the PNG's path.

        The files are named after the neuron. Where a file of that name holds something else, such as the same neuron by
        another plan, it stays, and a part of the plan's checksum is added to the name.
        """
        path = place_of_render(Path(folder), self.neuron, self.key, self.settings, self.mark)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(to_pil(self.image), path, self.mark)
        # The JSON comes last: where it is, the render is whole.
        with replacing(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps({"mark": self.mark, **self.record}, indent=1), encoding="utf-8")
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
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with Image.open(path) as image:
            pixels = (np.asarray(image.convert("RGB")) / 255).astype(np.float32)
        names = ("neuron", "activation", "start", "problem", "settings")
        history = np.array(record["history"], dtype=np.float32)
        key = record.get("key", NAMED)
        worst = record.get("worst")
        return cls(
            image=pixels,
            history=history,
            key=key,
            worst=math.nan if worst is None else worst,
            made_by=record.get("made_by"),
            **{name: record[name] for name in names},
        )


@dataclass(frozen=True)
class Renders:
    """The optimized images of several neurons, in the order in which they were asked for.

    Attributes
    ----------
    renders
        One for each neuron.
    sheet
        Path of the contact sheet; None if none was written with them.
    """

    renders: tuple[Render, ...]
    sheet: Path | None = field(default=None, compare=False)

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

    def __repr__(self) -> str:
        return f"Renders({', '.join(render.neuron for render in self.renders)})"

    def _repr_png_(self) -> bytes:
        """The contact sheet, for notebooks."""
        shown = [np.asarray(to_pil(render.image)) for render in self.renders]
        return png(labelled(shown, [render.neuron for render in self.renders]))

    def _repr_html_(self) -> str:
        """The images with their addresses, for notebooks."""
        return beside(render._repr_html_() for render in self.renders)

    def save(self, folder: str | Path) -> list[Path]:
        """Write a PNG and a JSON for each neuron and a contact sheet; return the paths of the PNGs.

        Different renders get different files, and nothing else that is in the folder is written over; see
        :meth:`Render.save`.
        """
        paths = [render.save(folder) for render in self.renders]
        self.save_sheet(folder)
        return paths

    def save_sheet(self, folder: str | Path) -> Path:
        """Write the contact sheet alone, and return its path.

        It shows what the folder holds of the plan: these renders, and those that were put there before.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.renders[0].settings
        path, mark = place_of_sheet(folder, settings, [render.mark for render in self.renders])
        own = {render.mark for render in self.renders}
        shown = [np.asarray(to_pil(render.image)) for render in self.renders]
        names = [render.neuron for render in self.renders]
        for other, record in kept(folder, settings):
            if record.get("mark") not in own:
                try:
                    with Image.open(other) as image:
                        pixels = np.asarray(image.convert("RGB"))
                except (OSError, SyntaxError):  # damaged, or not there
                    continue
                if pixels.shape == shown[0].shape:
                    shown.append(pixels)
                    names.append(str(record["neuron"]))
        _save(labelled(shown, names), path, mark)
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
        return tiled(self.images, columns, gap)


def to_pil(image: NDArray[np.float32]) -> Image.Image:
    """An image of pixels in [0, 1], shape ``(H, W, 3)``, as Pillow's."""
    return Image.fromarray((image * 255).round().astype(np.uint8))


def _save(image: Image.Image, path: Path, mark: str) -> None:
    """Write a PNG that carries a mark."""
    info = PngInfo()
    info.add_text("Comment", mark)
    with replacing(path) as partial:
        image.save(partial, format="PNG", pnginfo=info)
