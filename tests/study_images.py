"""Images for tests of studies: what is in them is known, and so is what a model makes of them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def quarters(path: Path, colours: tuple[tuple[int, int, int], ...], side: int = 32) -> None:
    """Write an image of four squares of one colour each: upper left, upper right, lower left, lower right."""
    image = Image.new("RGB", (side, side))
    half = side // 2
    for number, colour in enumerate(colours):
        image.paste(colour, (number % 2 * half, number // 2 * half, (number % 2 + 1) * half, (number // 2 + 1) * half))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def two_classes(folder: Path, count: int = 6) -> dict[str, str]:
    """Write so many images of each of two classes, each with a quarter of its own; gives files and labels."""
    labels = {}
    for label, colour in (("red", RED), ("blue", BLUE)):
        for number in range(count):
            path = folder / label / f"{label}{number}.png"
            quarters(path, (colour, colour, colour, (40 * number, 200 - 30 * number, 120)))
            labels[str(path)] = label
    return labels
