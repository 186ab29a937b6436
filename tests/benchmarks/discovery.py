"""How often `captum_vit.discover` finds what an adapter says, over the timm models that adapters serve.

    python tests/benchmarks/discovery.py [MODULE ...]

builds every model that timm registers (in the modules of timm.models that are named) on the meta device and compares
names in order, units, layout, prefix tokens and the grid's shape at all traced sizes. A model is *exact* if all are
equal, *extra* if sites beyond the adapter's are the only difference, *missed* if sites are lacking, and *wrong* if one
is another. *said* counts those that are not exact where the discovery itself names a doubt or a block without a grid,
*doubted* those that are exact and where it does so too.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict

import timm
import torch

import captum_vit
from captum_vit.discovery.finding import Discovery
from captum_vit.errors import UnsupportedModelError

KINDS = ("exact", "extra", "missed", "wrong")
COLUMNS = (*KINDS, "said", "doubted")


def main(modules: list[str]) -> None:
    names = [name for module in modules for name in timm.list_models(module=module)] or timm.list_models()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name).eval()
        try:
            vit = captum_vit.adapt(model)
        except UnsupportedModelError:
            continue
        expected = {site.name: site for site in vit.sites}
        vit.restore()
        found = captum_vit.discover(model)
        kind, where = compare(expected, found)
        doubts = bool(found.doubts or found.unclear)
        module = type(model).__module__.removeprefix("timm.models.")
        table[module][kind] += 1
        table[module]["doubted" if kind == "exact" else "said"] += doubts
        if kind != "exact" or doubts:
            print(f"{name}: {kind}: {where:.300}", *found.doubts, *found.unclear[:1], flush=True)
    print(f"\n| module | models | {' | '.join(COLUMNS)} |\n|---|{'---|' * (len(COLUMNS) + 1)}")
    total: Counter[str] = sum(table.values(), Counter())
    for module, counts in [*sorted(table.items()), ("all", total)]:
        models = sum(counts[kind] for kind in KINDS)
        print(f"| {module} | {models} | " + " | ".join(str(counts[column]) for column in COLUMNS) + " |")


def compare(expected: dict[str, captum_vit.Site], found: Discovery) -> tuple[str, str]:
    """What kind of difference there is, and where it is first."""
    got = {site.name: site for site in found.sites}
    for name, site in expected.items():
        if name in got:
            there, here = (described(each, found) for each in (site, got[name]))
            if there != here:
                return "wrong", f"{name} is {there} and was found as {here}"
    if missed := [name for name in expected if name not in got]:
        return "missed", ", ".join(missed)
    if [name for name in got if name in expected] != [*expected]:
        return "wrong", f"the order {[*got]}"
    extra = [name for name in got if name not in expected]
    return ("extra", ", ".join(extra)) if extra else ("exact", "")


def described(site: captum_vit.Site, found: Discovery) -> tuple[object, ...]:
    layout = site.layout if isinstance(site.layout, str) else site.layout.pattern
    grids = tuple(site.grid(size) for size in found.image_sizes)
    return site.units, layout, site.prefix_tokens, site.suffix_tokens, grids


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
