"""Writes docs/models-served.md from the registered adapters; what CI compares the page with.

python tests/served.py      # builds every model of timm and torchvision on the meta device: some minutes
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

import captum_vit
from captum_vit.errors import UnsupportedModelError
from captum_vit.probes.adapter import Adapter
from captum_vit.probes.plugins import registry

PAGE = Path(__file__).parents[1] / "docs" / "models-served.md"
LIBRARIES = {
    "timm": "timm",
    "torchvision": "torchvision",
    "transformers": "transformers (Hugging Face)",
    "open_clip": "open_clip",
    "": "The authors' own code",
}
HEADING = """# Models served

Made by `python tests/served.py` from the registered adapters, and compared with them in the tests.
`captum-vit adapters` lists those of your environment, with what other packages add; `captum-vit sites MODEL` lists a
model's sites; `captum-vit draft MODEL` writes an adapter for one that is not here
([how](how-to/write-an-adapter.md)).

A *unit* is one channel of what stands in the third column: of a layer's input, which is the hidden activation of a
feed-forward block, or of a module's output. `*` stands for numbers of stages and blocks. *Prefix* is the number of
class, distillation and register tokens before the patches.
"""


@dataclass
class Served:
    """What was seen of the models that one adapter serves."""

    adapter: Adapter
    models: Counter[str] = field(default_factory=Counter)  # by library
    places: Counter[str] = field(default_factory=Counter)
    prefixes: set[int] = field(default_factory=set)

    def add(self, library: str, model: nn.Module, sites: tuple[captum_vit.Site, ...]) -> None:
        self.models[library] += 1
        paths = {module: path for path, module in model.named_modules()}
        self.places.update({place_of(site, paths) for site in sites})
        self.prefixes |= {site.prefix_tokens for site in sites}


def place_of(site: captum_vit.Site, paths: dict[nn.Module, str]) -> str:
    """Where a site's units are, with stars for numbers."""
    stars = re.sub(r"(?<=\.)\d+(?=\.|$)|(?<=[a-z])\d+(?=\.\d)", "*", paths[site.at])
    return f"{'output' if site.reads is None else 'input'} of `{stars}`"


def summary(adapter: Adapter) -> str:
    """First paragraph of an adapter's docstring, on one line."""
    return " ".join((type(adapter).__doc__ or "").strip().partition("\n\n")[0].split()).replace("|", "\\|")


def own_adapters() -> list[Adapter]:
    return [registered.adapter for registered in registry().adapters if registered.distribution == "captum-vit"]


def built() -> Iterator[tuple[str, nn.Module]]:
    """Every model that timm and torchvision have by name, without values."""
    for name in timm.list_models():
        with torch.device("meta"):
            yield "timm", timm.create_model(name).eval()
    for name in torchvision.models.list_models(module=torchvision.models):
        # RegNets compute their widths by tensors, which need values.
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            yield "torchvision", torchvision.models.get_model(name, weights=None).eval()


def survey() -> dict[str, Served]:
    """What is served of each adapter's families, by family."""
    found = {adapter.family: Served(adapter) for adapter in own_adapters()}
    for library, model in built():
        try:
            supported, registered = registry().find(model)
        except UnsupportedModelError:
            continue
        found[registered.adapter.family].add(library, supported, tuple(registered.adapter.sites(supported)))
    return found


def library_of(path: str) -> str:
    root = path.partition(".")[0]
    return root if root in LIBRARIES else ""


def classes_of(adapter: Adapter) -> dict[str, list[str]]:
    """Names of the classes that an adapter names, by library."""
    named: dict[str, list[str]] = {}
    for model in adapter.models:
        path = model if isinstance(model, str) else f"{model.__module__}.{model.__qualname__}"
        named.setdefault(library_of(path), []).append(path.rpartition(".")[2])
    return named


def rows(library: str, found: dict[str, Served]) -> list[str]:
    lines = []
    for family, served in sorted(found.items()):
        classes = classes_of(served.adapter).get(library, [])
        count = served.models[library]
        if not (count or classes or (library == "" and not served.adapter.models and not served.models)):
            continue
        models = f"{count}" if count else ", ".join(f"`{name}`" for name in dict.fromkeys(classes)) or "by structure"
        places = "; ".join(place for place, _ in served.places.most_common(2)) or "input of the second linear layer"
        prefix = "–".join(map(str, sorted({min(served.prefixes), max(served.prefixes)}))) if served.prefixes else ""
        lines.append(f"| {family} | {models} | {places} | {prefix} | {summary(served.adapter)} |")
    return lines


def page(found: dict[str, Served]) -> str:
    parts = [HEADING]
    for library, title in LIBRARIES.items():
        if lines := rows(library, found):
            total = sum(served.models[library] for served in found.values())
            counted = f": {total} models" if total else ""
            models = "Models" if total else "Classes"
            parts.append(
                f"## {title}{counted}\n\n| family | {models.lower()} | what has units | prefix | good to know |\n"
                "|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
            )
    return "\n".join(parts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(page(survey()), encoding="utf-8")
    print(f"wrote {PAGE}")
