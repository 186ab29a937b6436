"""A few of the bundled photos, unlike one another, for tests that need some and not all."""

from __future__ import annotations

from captum_vit.models import default_photos

UNLIKE = ("astronaut", "cat", "coffee", "dandelion", "mountains", "rocket")
SIX_PHOTOS = tuple(path for path in default_photos() if path.stem in UNLIKE)
CAT, ROCKET = (path for path in SIX_PHOTOS if path.stem in ("cat", "rocket"))
