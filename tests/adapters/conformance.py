"""A small model of one structure, and what its sites are, found by hand; what every adapter's tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import captum_vit
from captum_vit.testing import check_order

Size = tuple[int, int]


@dataclass(frozen=True)
class Expected:
    """One site, as the architecture's own code gives it, in words that know nothing of layouts.

    ``at`` is the path of the module whose input is the activation (its output where ``written``); ``to_map`` takes what
    is there to prefix tokens ``(B, units, 1, prefix)``, or None, and the map ``(B, units, rows, columns)``.
    """

    at: str
    units: int
    grid: Size
    to_map: Callable[[Tensor], tuple[Tensor | None, Tensor]]
    written: bool = False
    reaches_output: bool = True


@dataclass(frozen=True)
class Case:
    """How to build a model, in eval mode, the size of its images, which is not square, and its sites in order."""

    build: Callable[[], nn.Module]
    size: Size
    sites: dict[str, Expected]
    family: str
    channels: int = 3
    ordered: bool = True

    def images(self, seed: int = 0) -> Tensor:
        return torch.randn(2, self.channels, *self.size, generator=torch.Generator().manual_seed(seed))


def tokens(
    rows: int, columns: int, prefix: int = 0, suffix: int = 0
) -> Callable[[Tensor], tuple[Tensor | None, Tensor]]:
    """Tokens ``(B, prefix + rows * columns + suffix, units)``, taken apart one by one."""

    def to_map(activation: Tensor) -> tuple[Tensor | None, Tensor]:
        assert activation.shape[1] == prefix + rows * columns + suffix
        patch_map = activation.new_empty(len(activation), activation.shape[2], rows, columns)
        for row in range(rows):
            for column in range(columns):
                patch_map[:, :, row, column] = activation[:, prefix + row * columns + column]
        before = activation[:, :prefix].permute(0, 2, 1)[:, :, None] if prefix else None
        return before, patch_map

    return to_map


def channels_first(activation: Tensor) -> tuple[None, Tensor]:
    """``(B, units, rows, columns)``: a map already."""
    return None, activation


def channels_last(activation: Tensor) -> tuple[None, Tensor]:
    """``(B, rows, columns, units)``."""
    return None, activation.permute(0, 3, 1, 2)


def tensor_of(output: object) -> Tensor:
    """The first tensor of a model's output."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if hasattr(output, "values") else output[0]
    return output


def reads(model: nn.Module, case: Case, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A model's output, and the activations at its sites, by plain hooks."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, site in case.sites.items():
        module = model.get_submodule(site.at)
        if site.written:
            handles.append(module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out})))
        else:
            handles.append(module.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0]})))
    try:
        output = tensor_of(model(images))
    finally:
        for handle in handles:
            handle.remove()
    return output, {name: value if isinstance(value, Tensor) else value[0] for name, value in seen.items()}


def check_sites(case: Case) -> None:
    """Sites are listed as they are: names in order, units, grids, prefix tokens."""
    with captum_vit.adapt(case.build()) as vit:
        found = [(site.name, site.units, site.grid(case.size)) for site in vit.sites]
        assert vit.family == case.family
    assert found == [(name, site.units, site.grid) for name, site in case.sites.items()]


@torch.no_grad()
def check_maps(case: Case) -> None:
    """Maps and prefix maps are the hidden activation, and outputs are the model's own, bit for bit."""
    model, images = case.build(), case.images()
    expected, activations = reads(model, case, images)
    vit = captum_vit.adapt(model)
    assert torch.equal(tensor_of(vit(images)), expected), "nothing watched"
    maps: dict[str, Tensor] = {}
    prefixes: dict[str, Tensor] = {}
    for site in vit.sites:
        vit.ffn[site.key].register_forward_hook(lambda m, args, out, name=site.name: maps.update({name: out}))
        if site.prefix_tokens:
            vit.prefix[site.key].register_forward_hook(lambda m, a, out, name=site.name: prefixes.update({name: out}))
    assert torch.equal(tensor_of(vit(images)), expected), "everything watched"
    for name, site in case.sites.items():
        prefix, patch_map = site.to_map(activations[name])
        assert torch.equal(maps[name], patch_map), name
        assert (prefix is None) == (name not in prefixes), name
        assert prefix is None or torch.equal(prefixes[name], prefix), name
    vit.restore()
    assert torch.equal(tensor_of(model(images)), expected), "after restore"
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._forward_pre_hooks_with_kwargs


@torch.no_grad()
def check_replacing(case: Case) -> None:
    """What a probe returns is what the model goes on with: silenced patches change the output if they reach it."""
    images = case.images()
    with captum_vit.adapt(case.build()) as vit:
        expected = tensor_of(vit(images))
        for name, site in case.sites.items():
            probe = vit.ffn[vit.site(name).key]
            hook = probe.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
            changed = not torch.equal(tensor_of(vit(images)), expected)
            hook.remove()
            assert changed == site.reaches_output, name
            assert vit.site(name).reaches_output == site.reaches_output, name


def check_looks(case: Case, cells: int = 32) -> None:
    """Each cell looks where the grid says."""
    with captum_vit.adapt(case.build()) as vit:
        check_order(vit, case.size, cells=cells)
