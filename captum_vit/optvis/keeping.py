"""How renders are kept in a folder: which files are whose, the contact sheet, and what is there of a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captum_vit.storage.marks import SUFFIX, checksum, file_name, mark_of, place

SHEET = "contact-sheet"

# Addresses that have a file name for themselves alone, whatever a file system thinks of capital letters.
_PLAIN = re.compile(r"[a-z0-9_.-]+:\d+")
_NUMBERED = re.compile(r" \(\d+\)$")


def mark_of_render(key: str | None, settings: Mapping[str, Any], content: Any) -> str:
    """What tells a render from others: its neuron or objective and its plan, or its content where one is unknown."""
    known = key is not None and settings.get("recipe_sha256") is not None
    return mark_of([key, dict(settings)] if known else content)


def place_of_render(folder: Path, name: str, key: str | None, settings: Mapping[str, Any], mark: str) -> Path:
    """Path of the PNG of a render: where it was put before, or where nothing else is."""
    stem = file_name(name)
    if key != name or not _PLAIN.fullmatch(name):  # several have this name, or would have this file name
        told = checksum(name) if key == name else (key or mark).rpartition(":")[2]
        # Lower case is the same to all file systems; the number is among the objectives of one call.
        stem = f"{file_name(_NUMBERED.sub('', name)).lower()}-{told[:SUFFIX]}"
    return place(folder, stem, (".png", ".json"), mark, checksum(dict(settings))[:SUFFIX])


def place_of_sheet(folder: Path, settings: Mapping[str, Any], content: Any) -> tuple[Path, str]:
    """Path of the contact sheet of a plan, and its mark."""
    mark = mark_of_render(SHEET, settings, content)
    return place(folder, SHEET, (".png",), mark, checksum(dict(settings))[:SUFFIX]), mark


def kept(folder: Path, settings: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The renders of a plan that are in a folder, by their PNGs and records, in the order of their names."""
    if settings.get("recipe_sha256") is None:
        return
    for path in sorted(folder.glob("*.json"), key=_in_reading_order):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["settings"] == settings:
                yield path.with_suffix(".png"), record
        except (OSError, ValueError, KeyError, TypeError):  # not a render's
            continue


def _in_reading_order(path: Path) -> list[tuple[int, str]]:
    """Numbers in names by their size: blocks.10 after blocks.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
