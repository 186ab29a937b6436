"""Going on with an atlas: what is asked for has to be what its manifest says, neurons aside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captum_vit.atlas.manifest import Manifest
from captum_vit.errors import AtlasError

# What may differ: on another machine, perhaps after an update.
_MAY_DIFFER = ("versions", "device")


def check_goes_on(found: Manifest, asked: Manifest, folder: Path) -> None:
    """Make sure that what is asked for is what the atlas in a folder is of, neurons aside.

    Raises
    ------
    AtlasError
        It differs.
    """
    if found.images != asked.images:
        raise AtlasError(
            f"{folder} is an atlas of {found.images.count:,} other photos than these {asked.images.count:,}: names "
            "or sizes of files differ; give the same --images in the same order, or another folder"
        )
    pairs = [
        ("k", found.k, asked.k),
        ("what images are ranked by", dict(found.rankings), dict(asked.rankings)),
        *_compared("model", found.model, asked.model),
        *_compared("render", found.renders, asked.renders),
        *_compared("picture", asdict(found.pictures), asdict(asked.pictures)),
        *_compared("work", asdict(found.work), asdict(asked.work)),
        ("its sites", found.sites, asked.sites),
    ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise AtlasError(
                f"{folder} is another atlas: {what} is {_shortly(ours)} there and {_shortly(theirs)} here; ask for "
                "the same, or give another folder"
            )


def _compared(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**ours, **theirs}:
        if name not in _MAY_DIFFER:
            # What comes from a file has lists for tuples.
            yield f"{what}'s {name}", _plainly(ours.get(name)), _plainly(theirs.get(name))


def _plainly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shortly(value: Any) -> str:
    words = str(value)
    return words if len(words) <= 80 else f"{words[:79]}…"
