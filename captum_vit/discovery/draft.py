"""Drafts of adapters: a file for a person to read, check and publish, made from what a forward pass showed."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from torch import nn

from captum_vit.discovery import code
from captum_vit.discovery.finding import Discovery, discover
from captum_vit.errors import UnsupportedModelError
from captum_vit.probes.adapter import Adapter
from captum_vit.probes.adapting import adapt
from captum_vit.probes.grid import Size
from captum_vit.testing import measure_order

_FILE = '''"""{kind} for captum-vit: a draft, to be checked before it is relied on.

{told}

{order}

To check by eye, then delete this list:

{to_check}
"""

from captum_vit import Adapter, PatchGrid, feed_forward, hookimpl


class {name}(Adapter):
    """{summary}"""

    family = "{family}"
    models = ("{path}",)
{stem}
    def sites(self, model):
        """{how}"""
{body}


@hookimpl
def captum_vit_adapters():
    """Hand the adapter to captum-vit."""
    return [{name}()]
'''
NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Draft:
    """A drafted adapter.

    Attributes
    ----------
    text
        The file.
    adapter
        The adapter that it makes.
    order
        What the order test said, in words.
    order_holds
        Whether each cell of each site was seen to look where the grid says; None if that was not tested.
    """

    text: str
    adapter: Adapter
    order: str
    order_holds: bool | None


def draft(
    model: nn.Module,
    found: Discovery | None = None,
    *,
    by: str = "captum_vit.draft",
    order: bool = True,
    progress: bool = True,
) -> Draft:
    """Write an adapter for a model, run it, and test the order of its cells.

    The file is for a person to read and check. Until then, ``adapt(model, adapter=draft(model).adapter)`` uses it.

    Parameters
    ----------
    model
        The model, in eval mode; random weights will do, but weights on the meta device have no order to test.
    found
        What :func:`captum_vit.discover` found in it; looked for when not given.
    by
        What the file says that it was written by.
    order
        Whether to test the order.
    progress
        Whether to show a bar over that test.

    Raises
    ------
    UnsupportedModelError
        No site was found, or the model cannot be traced.
    """
    found = found or discover(model)
    kind = type(model).__name__
    if not found.sites:
        unclear = "".join(f"; {names} left out, with {shape} there" for shape, names in found.left_out.items())
        raise UnsupportedModelError(
            f"no feed-forward block was found in {kind}: no linear layer or 1x1 convolution widens what it reads and "
            f"hands it, past no attention, to one that narrows it again{unclear}"
        )
    text = _written(model, found, by, loops=True)
    if not _says(text, model, found):
        text = _written(model, found, by, loops=False)
    adapter = _executed(text)
    holds, said = _order(model, adapter, found.image_sizes[0], progress) if order else (None, NOT_CHECKED)
    return Draft(text.replace(_order_words(NOT_CHECKED), _order_words(said)), adapter, said, holds)


def _written(model: nn.Module, found: Discovery, by: str, loops: bool) -> str:
    """The file, with loops or with a line for each site."""
    kind = type(model)
    names, lines = code.grids(model, found.sites)
    lines += code.site_lines(model, found.sites, names, loops)
    sizes = " and ".join(f"{height}x{width}" for height, width in found.image_sizes)
    units = sorted({site.units for site in found.sites})
    width = f"{units[0]}" if len(units) == 1 else f"{units[0]} to {units[-1]}"
    told = (
        f"Written by `{by}` from what a forward pass with images of {sizes} pixels showed: "
        f"{len(found.sites)} feed-forward blocks of {width} units."
    )
    path = f"{kind.__module__}.{kind.__qualname__}"
    return _FILE.format(
        kind=kind.__name__,
        told=textwrap.fill(told, code.WIDTH),
        order=_order_words(NOT_CHECKED),
        to_check="\n".join(_item(each) for each in _to_check(found)),
        name=re.sub(r"\W", "", kind.__name__),
        summary=f"Feed-forward blocks of {kind.__name__}.",
        family=re.sub(r"\W", "", kind.__name__).lower(),
        path=path,
        stem="" if found.stem in (None, "patch_embed") else f'    stem = "{found.stem}"\n',
        how="In the order of the forward pass.",
        body=textwrap.indent("\n".join(lines), 8 * " "),
    )


def _to_check(found: Discovery) -> list[str]:
    """What shapes cannot tell, or did not."""
    doubts = [f"{doubt}." for doubt in found.doubts]
    if found.stem is None:
        doubts.append("No module gets the image as it comes; name the one that first receives it: stem = ...")
    if len(found.image_sizes) == 1:
        doubts.append("The model takes one size of images, so grids at other sizes were not seen.")
    if any(step.by == "" for site in found.sites for step in site.steps):
        doubts.append("Steps that stand as numbers (then, then_same, resized) were told from numbers of tokens.")
    if any(site.prefix_tokens for site in found.sites):
        doubts.append("Numbers of prefix tokens are this variant's; read them off the model where they vary.")
    if found.in_stem:
        doubts.append(f"{len(found.in_stem)} blocks inside of the stem are left out, the first {found.in_stem[0]}.")
    for shape, names in found.left_out.items():
        doubts.append(f"{names} left out, with {shape} there, which forms no grid that could be told.")
    doubts.append("Is every feed-forward block there, and no other? Blocks fused with attention are not seen.")
    doubts.append("Say reaches_output=False of a block whose patch tokens nothing reads again (token pooling).")
    return doubts


def _item(words: str) -> str:
    return textwrap.fill(words, code.WIDTH, initial_indent="- ", subsequent_indent="  ")


def _order_words(said: str) -> str:
    return textwrap.fill(f"Order of the cells: {said}.", code.WIDTH)


def _executed(text: str) -> Adapter:
    """The adapter that a file makes."""
    namespace: dict[str, object] = {"__name__": "captum_vit_draft"}
    exec(compile(text, "<draft>", "exec"), namespace)  # what was written above, from the model's own module paths
    (adapter,) = namespace["captum_vit_adapters"]()  # type: ignore[operator]
    assert isinstance(adapter, Adapter)
    return adapter


def _says(text: str, model: nn.Module, found: Discovery) -> bool:
    """Whether a file, when it is run, lists the sites that were found."""
    try:
        sites = [*_executed(text).sites(model)]
    except (AttributeError, IndexError, TypeError):  # lists of a package's own kind, which take no slices
        return False
    told = [
        (site.name, site.reads, site.units, site.layout.pattern, site.prefix_tokens, site.suffix_tokens, site.grid)
        for site in sites
    ]
    at = model.get_submodule
    return told == [
        (each.name, at(each.reads), each.units, each.layout, each.prefix_tokens, each.suffix_tokens, each.grid)
        for each in found.sites
    ]


def _order(model: nn.Module, adapter: Adapter, size: Size, progress: bool) -> tuple[bool | None, str]:
    """Whether cells look where the grid says, and that in words."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return None, f"{NOT_CHECKED}, as the weights have no values"
    try:
        with adapt(model, adapter=adapter) as vit:
            orders = measure_order(vit, size, progress=progress)
    # A draft that cannot be used is still one that a person can read, with the reason in it.
    except Exception as error:
        return None, f"{NOT_CHECKED}, as the test failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    wrong = [result for result in orders if not result.right]
    if wrong:
        worst = "; ".join(map(str, wrong[:3]))
        return False, f"FAILED at {len(wrong)} of {len(orders)} sites, so that maps are wrong there: {worst}"
    return True, f"tested at all {len(orders)} sites, and each cell looks where its grid says"
