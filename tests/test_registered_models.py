"""Every model that timm registers for the six families and for plain vision transformers, on the meta device."""

from __future__ import annotations

import math
import re

import pytest
import timm
import torch
from torch import nn

import captum_vit

# How many models each of timm's modules registers in timm 1.0.31. A later timm may have more, and all must adapt.
SIX_FAMILIES = {
    "deit": 16,
    "coat": 8,
    "convit": 3,
    "pit": 8,
    "swin_transformer": 9,
    "swin_transformer_v2": 12,
    "swin_transformer_v2_cr": 16,
    "twins": 6,
}
# These build the same class, two of them behind a convolutional stem.
PLAIN = {"vision_transformer": 163, "vision_transformer_hybrid": 14, "vitamin": 13}
COUNTS = SIX_FAMILIES | PLAIN
PREFIX_TOKENS = {"coat": {1}, "convit": {0, 1}, "pit": {1, 2}, "swin": {0}, "twins": {0}}
FEED_FORWARD = re.compile(r"(\w*(?:blocks|layers|stages|transformers)\w*\.[\w.]*?)(?:\.mlp|(?<=\.mlp\d))")


def feed_forward_blocks(model: nn.Module) -> dict[str, int]:
    """Names and widths of the feed-forward blocks, by nothing but the names of timm's modules."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        match = FEED_FORWARD.fullmatch(path)
        if match and "attn" not in path:  # where V2 and V2-CR compute their position biases by small MLPs
            found[match[1]] = (module.w2 if hasattr(module, "w2") else module.fc2).in_features
        elif hasattr(module, "mlp_act"):  # attention and feed-forward side by side, in one projection
            found[path] = module.in_proj.out_features - 3 * module.in_proj.in_features
    return found


def test_timm_has_at_least_the_models_that_are_known():
    registered = {module: len(timm.list_models(module=module)) for module in COUNTS}
    assert all(registered[module] >= COUNTS[module] for module in COUNTS), registered
    assert sum(registered[module] for module in SIX_FAMILIES) >= 78
    assert registered["vision_transformer"] >= 163


@pytest.mark.parametrize(
    ("module", "part"), [(module, part) for module in COUNTS for part in range(math.ceil(COUNTS[module] / 24))]
)
def test_every_registered_model_adapts(module, part):
    names = timm.list_models(module=module)[part :: math.ceil(COUNTS[module] / 24)]
    assert names
    for name in names:
        check(name)


def check(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        size = model.default_cfg["input_size"][-2:]
        images = torch.empty(2, 3, *size)
    expected = feed_forward_blocks(model)
    depth = len(expected)
    vit = captum_vit.adapt(model)

    assert {site.name: site.units for site in vit.sites} == expected, name
    assert len(vit.sites) == depth >= 3, name
    assert [*vit.ffn] == [site.key for site in vit.sites], name
    assert all(isinstance(model.get_submodule(site.name), nn.Module) for site in vit.sites), name

    passed: list[tuple[str, tuple[int, ...]]] = []
    prefixes: dict[str, tuple[int, ...]] = {}
    tokens: list[int] = []
    for site in vit.sites:
        site_hook = lambda probe, args, output, site=site: passed.append((site.name, tuple(output.shape)))  # noqa: E731
        vit.ffn[site.key].register_forward_hook(site_hook)
        if site.prefix_tokens:
            prefix_hook = lambda probe, args, output, site=site: prefixes.update({site.name: tuple(output.shape)})  # noqa: E731
            vit.prefix[site.key].register_forward_hook(prefix_hook)
    for layer in dict.fromkeys(site.reads for site in vit.sites):
        layer.register_forward_hook(lambda layer, args, output: tokens.append(args[0].shape[1]))
    with torch.no_grad():
        vit(images)

    assert [site for site, _ in passed] == [site.name for site in vit.sites], name
    for site, (_, shape), count in zip(vit.sites, passed, tokens, strict=True):
        assert site.prefix_tokens in PREFIX_TOKENS.get(vit.family, {getattr(model, "num_prefix_tokens", None)}), name
        side = math.isqrt(count - site.prefix_tokens)  # all of timm's own sizes are square
        assert shape == (2, site.units, side, side), (name, site)
        assert site.grid(size) == (side, side), (name, site)
        if site.prefix_tokens:
            assert prefixes[site.name] == (2, site.units, 1, site.prefix_tokens), (name, site)
        for centres, pixels in zip(site.grid.centres(size), size, strict=True):
            assert 0 <= centres[0] < centres[-1] <= pixels if side > 1 else 0 < centres[0] < pixels, (name, site)
