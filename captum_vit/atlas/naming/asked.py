"""What an atlas' neurons are to be named with: a CLIP, which each worker loads for itself, and words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from captum_vit.atlas.naming.clip import Clip, load_clip
from captum_vit.atlas.naming.lexicon import Lexicon
from captum_vit.errors import AtlasError

FOLDER = "names"
LEXICON = f"{FOLDER}/lexicon.safetensors"


@dataclass(frozen=True)
class Naming:
    """What an atlas' neurons are to be named with.

    Attributes
    ----------
    source
        The CLIP, or its name, by which :func:`captum_vit.atlas.naming.clip.load_clip` loads it.
    words
        Ten or more.
    quantile
        Of the best word's score over random sets of crops, to be the threshold.
    device
        Where a CLIP of a name computes.
    """

    source: Clip | str
    words: tuple[str, ...]
    quantile: float
    device: str

    @cached_property
    def clip(self) -> Clip:
        """The CLIP.

        Raises
        ------
        NamingError
            There is none of that name.
        """
        return load_clip(self.source, self.device) if isinstance(self.source, str) else self.source

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: of a CLIP with a name no more than that."""
        return {name: value for name, value in vars(self).items() if name != "clip"}

    def check(self, folder: Path) -> None:
        """Make sure that an atlas is not named with something else.

        Raises
        ------
        AtlasError
            It is.
        NamingError
            What it is named with is damaged.
        """
        if not (folder / LEXICON).exists():
            return
        found = Lexicon.load(folder / LEXICON)
        if (found.clip_sha256, found.words, found.quantile) != (self.clip.sha256, self.words, self.quantile):
            raise AtlasError(
                f"{folder} has names by {found.clip} of {len(found.words):,} words, and asked for are others, by "
                f"{self.clip.name} of {len(self.words):,}; ask for the same, or delete {folder / FOLDER} to name anew"
            )
