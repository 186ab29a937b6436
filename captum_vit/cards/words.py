"""What every picture of a card says in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from captum_vit.storage.files import shown
from captum_vit.storage.part import Part

if TYPE_CHECKING:
    from captum_vit.cards.card import Card
    from captum_vit.cards.photos import Photo


def number(value: float) -> str:
    """An activation in three digits, with a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def shortened(name: str, longest: int = 22) -> str:
    """A file name as it can be shown, its middle left out if it is long."""
    name = shown(name)
    if len(name) <= longest:
        return name
    tail = longest // 2 - 1
    return f"{name[: longest - tail - 1]}…{name[-tail:]}"


def photo_name(photo: Photo, longest: int = 22) -> str:
    """The name of a photo's file, and of a part of it where that lies: ``"cat.jpg, upper left"``."""
    where = _place(photo.part)
    return shortened(Path(photo.part.file).name, longest - len(where)) + where


def _place(part: Part) -> str:
    if part.box is None:
        return ""
    left, top, width, height = part.box
    words = (_side(top + height / 2, "upper", "lower"), _side(left + width / 2, "left", "right"))
    return f", {' '.join(filter(None, words)) or 'middle'}"


def _side(centre: float, first: str, last: str) -> str:
    return first if centre < 40 else last if centre > 60 else ""


def candidates(card: Card) -> str:
    """How many images the card's photos were chosen from: ``"1,200 images"``, or ``"720 crops"`` of fewer photos."""
    return counted(card.images, "crop" if any(photo.part.box for photo in card.photos) else "image")


def counted(count: int, noun: str) -> str:
    """A number of things: ``"1 image"``, ``"1,200 images"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def origin(card: Card) -> str:
    """What the optimized image is called, which never hides that it started from a photo."""
    photo = card.optimized.started_from
    return "Optimized image" if photo is None else f"Accentuated from {shortened(photo, 16)}"


def scores(card: Card) -> tuple[str, ...]:
    """What the optimized image is worth, a line each: its activation over the strongest photo's, and agreement.

    What cannot be told is left out.
    """
    lines = []
    if card.ratio is not None:
        worst = "" if card.worst_ratio is None else f", {number(card.worst_ratio)}× at its worst view"
        lines.append(f"{number(card.ratio)}× the strongest photo{worst}")
    if (agreed := card.agreement) is not None:
        lines.append(f"agreement {agreed.value:.2f} ({agreed.photos} strongest photos, {agreed.others} others)")
    return tuple(lines)


def small_print(card: Card) -> tuple[str, ...]:
    """What repeats a card: recipe, steps and seed, the choice of photos, the patch grid, versions."""
    settings, versions = card.optimized.settings, card.optimized.settings["versions"]
    grid = "".join(f"{rows}×{columns} " for rows, columns in {photo.patch_map.shape for photo in card.photos})
    return (
        f"{settings['steps']} steps of recipe {settings['recipe']}, seed {settings['seed']}",
        f"best {len(card.photos)} of {candidates(card)}",
        f"activation: {card.reduction} over {grid}patches",
        ", ".join(f"{name} {versions[name]}" for name in ("captum-vit", "torch", "timm")),
    )
