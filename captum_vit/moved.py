"""Modules that documentation has shown beside the package's root: their names there go on to where they are now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

PACKAGE = __name__.rpartition(".")[0]

MOVED = {
    f"{PACKAGE}.{name}": f"{PACKAGE}.{home}"
    for name, home in {
        "card": "cards.card",
        "card_figure": "cards.figure",
        "card_page": "cards.page",
        "crop": "data.crop",
        "gallery_figure": "cards.gallery",
        "images": "data.images",
        "models.build": "loading.build",
        "objectives": "optvis.objectives",
        "parametrizations": "optvis.parametrizations",
        "penalties": "optvis.penalties",
        "photos": "cards.photos",
        "recipes": "optvis.recipes",
        "render_folder": "optvis.folder",
        "rendering": "optvis.rendering",
        "renders": "optvis.results",
        "transforms": "optvis.transforms",
    }.items()
}


class _Finder(MetaPathFinder, Loader):
    """Finds the module of an earlier name: the very module, not a copy of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what stands in sys.modules after the loading.
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Make the earlier names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
