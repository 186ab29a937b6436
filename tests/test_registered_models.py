"""Every model that timm registers with feed-forward blocks, on the meta device."""

from __future__ import annotations

import math
import re

import pytest
import timm
import torch
from shapes import ShapesOnly
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
FURTHER = {
    "beit": 7,
    "cait": 10,
    "crossvit": 11,
    "davit": 8,
    "deepseek_vit": 3,
    "edgenext": 5,
    "efficientformer": 3,
    "efficientformer_v2": 4,
    "efficientvim": 8,
    "efficientvit_mit": 7,
    "efficientvit_msra": 6,
    "eva": 65,
    "fasternet": 6,
    "fastvit": 12,
    "focalnet": 12,
    "gcvit": 5,
    "gemma4_vit": 4,
    "hiera": 8,
    "hieradet_sam2": 5,
    "iformer": 9,
    "inception_next": 4,
    "levit": 20,
    "mambaout": 11,
    "maxxvit": 58,
    "metaformer": 18,
    "mlp_mixer": 15,
    "mobilevit": 10,
    "mvitv2": 8,
    "naflexvit": 14,
    "nest": 6,
    "nextvit": 3,
    "pvt_v2": 7,
    "qwen3_vit": 9,
    "repvit": 8,
    "sequencer": 3,
    "shvit": 4,
    "starnet": 7,
    "swiftformer": 4,
    "tiny_vit": 5,
    "tnt": 3,
    "vision_transformer_relpos": 14,
    "vision_transformer_sam": 4,
    "visformer": 2,
    "volo": 11,
    "xcit": 28,
}
COUNTS = SIX_FAMILIES | PLAIN | FURTHER

# The layers that read hidden activations, by the names that timm gives them; the first group is the block's name.
SECOND_LAYERS = {
    "coat": r"(serial_blocks\d\.\d+)\.mlp\.fc2|(parallel_blocks\.\d+\.mlp\d)\.fc2",
    "efficientformer_v2": r"(stages.*)\.mlp\.fc2\.conv",
    "efficientvim": r"(stages.*)\.ffn\.fc2\.conv",
    "efficientvit_mit": r"(stages\.\d+\.blocks\.\d+)\.(?:local_module\.)?main\.point_conv\.conv",
    "efficientvit_msra": r"(stages.*)\.m\.pw2\.conv",
    "fasternet": r"(stages.*)\.mlp\.3",
    "gemma4_vit": r"(.*blocks\.\d+)\.mlp\.down_proj\.linear",
    "iformer": r"(stages.*)\.mixer\.module\.(?:2|3)\.c",
    "levit": r"(stages.*)\.mlp\.ln2\.linear",
    "mambaout": r"(stages.*)\.fc2",
    "maxxvit": r"(stages.*)\.(?:mlp\.fc2|conv3_1x1)",
    "mlp_mixer": r"(blocks.*)\.mlp_channels\.fc2",
    "mobilevit": r"(stages.*)\.(?:mlp\.fc2|conv3_1x1\.conv)",
    "repvit": r"(stages.*?)(?:\.channel_mixer)?\.conv2\.c",
    "sequencer": r"(stages.*)\.mlp_channels\.fc2",
    "shvit": r"(stages.*?)(?:\.ffn)?\.m\.pw2\.c",
    "starnet": r"(stages.*)\.g\.conv",
    "swiftformer": r"(stages\.\d+\.blocks\.\d+)\.(?:linear\.fc2|pwconv2)",
    "tiny_vit": r"(stages\.\d+\.blocks\.\d+)\.(?:mlp\.fc2|conv3\.conv)",
    "tnt": r"(blocks\.\d+\.mlp(?:_in)?)\.fc2",
    "visformer": r"(stage\d\.\d+)\.mlp\.conv3",
}
MLP = r"((?:encoder\.)?\w*(?:blocks|layers|stages|levels|network|transformers)\w*\..*?)\.mlp\.(?:fc2|w2)"
# MLPs of the class token alone, and small ones that compute position biases.
FOREIGN = re.compile("blocks_token_only|cls_attn_blocks|post_network|rel_pos")

PREFIX_TOKENS = {"cait": {0}, "coat": {1}, "convit": {0, 1}, "crossvit": {1}, "pit": {1, 2}, "tnt": {0, 1}, "xcit": {0}}


def feed_forward_blocks(module: str, model: nn.Module) -> dict[str, int]:
    """Names and widths of the feed-forward blocks, by nothing but the names of timm's modules."""
    found = {}
    second_layer = re.compile(SECOND_LAYERS.get(module, MLP))
    for path, layer in model.named_modules(remove_duplicate=False):
        match = second_layer.fullmatch(path)
        if match and not FOREIGN.search(path):
            name = next(group for group in match.groups() if group)
            found[name] = getattr(layer, "in_features", None) or layer.in_channels
        elif hasattr(layer, "mlp_act"):  # attention and feed-forward side by side, in one projection
            found[path] = layer.in_proj.out_features - 3 * layer.in_proj.in_features
    return found


def test_timm_has_at_least_the_models_that_are_known():
    registered = {module: len(timm.list_models(module=module)) for module in COUNTS}
    assert all(registered[module] >= COUNTS[module] for module in COUNTS), registered
    assert sum(registered[module] for module in SIX_FAMILIES) >= 78
    assert registered["vision_transformer"] >= 163
    assert sum(registered.values()) >= 742


@pytest.mark.parametrize(
    ("module", "part"), [(module, part) for module in COUNTS for part in range(math.ceil(COUNTS[module] / 24))]
)
def test_every_registered_model_adapts(module, part):
    names = timm.list_models(module=module)[part :: math.ceil(COUNTS[module] / 24)]
    assert names
    for name in names:
        check(module, name)


def check(module: str, name: str) -> None:
    with torch.device("meta"), ShapesOnly():
        model = timm.create_model(name).eval()
    size = model.default_cfg["input_size"][-2:]
    expected = feed_forward_blocks(module, model)
    vit = captum_vit.adapt(model)

    assert {site.name: site.units for site in vit.sites} == expected, name
    assert len(vit.sites) >= 3, name
    assert [*vit.ffn] == [site.key for site in vit.sites], name
    assert all(isinstance(model.get_submodule(site.name), nn.Module) for site in vit.sites), name
    if module != "vitamin":  # timm builds one of them for other images than it records
        assert vit.preprocessing.size == tuple(size), name

    passed: list[tuple[str, tuple[int, ...]]] = []
    prefixes: dict[str, tuple[int, ...]] = {}
    numbers: list[int] = []
    for site in vit.sites:
        site_hook = lambda probe, args, output, site=site: passed.append((site.name, tuple(output.shape)))  # noqa: E731
        vit.ffn[site.key].register_forward_hook(site_hook)
        if site.prefix_tokens:
            prefix_hook = lambda probe, args, output, site=site: prefixes.update({site.name: tuple(output.shape)})  # noqa: E731
            vit.prefix[site.key].register_forward_hook(prefix_hook)
    for layer in dict.fromkeys(site.reads for site in vit.sites):
        layer.register_forward_hook(lambda layer, args, output: numbers.append(args[0].numel()))
    with torch.no_grad(), ShapesOnly():
        vit(torch.empty(2, 3, *size, device="meta"))

    assert [site for site, _ in passed] == [site.name for site in vit.sites], name
    for site, (_, shape), number in zip(vit.sites, passed, numbers, strict=True):
        assert site.prefix_tokens in PREFIX_TOKENS.get(module, {getattr(model, "num_prefix_tokens", 0)}), name
        cells = number / (2 * site.units) - site.prefix_tokens
        rows = round(math.sqrt(cells * size[0] / size[1]))  # cells are square in all of timm's models
        columns = cells / rows
        assert rows * size[1] == columns * size[0], (name, site)
        assert shape == (2, site.units, rows, columns), (name, site)
        assert site.grid(size) == (rows, columns), (name, site)
        if site.prefix_tokens:
            assert prefixes[site.name] == (2, site.units, 1, site.prefix_tokens), (name, site)
        for centres, pixels in zip(site.grid.centres(size), size, strict=True):
            assert 0 <= centres[0] < centres[-1] <= pixels if len(centres) > 1 else 0 < centres[0] < pixels, (
                name,
                site,
            )
