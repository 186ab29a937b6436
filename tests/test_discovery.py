"""Finding sites without an adapter: what one forward pass shows is what the adapters say, and doubts are said."""

from __future__ import annotations

import pytest
import timm
import torch
from families import TINY_MODELS
from torch import nn
from torch.nn import functional

import captum_vit
from captum_vit.errors import ArgumentError, UnsupportedModelError
from captum_vit.probes.plugins import registry

# Their output projection is fused with the attention's: no layer reads the hidden activation alone.
FUSED = ("vit_parallel_scaling_fused", "vit_parallel_differential")
FOUND = [name for name in TINY_MODELS if name not in FUSED]
REGISTERED = (
    "beit_base_patch16_224",  # a projection by its weights, not by its module
    "coatnet_nano_rw_224",  # channels first, poolings
    "crossvit_9_240",  # two branches, the second of a resized image
    "levit_conv_128s",
    "maxvit_tiny_tf_224",  # squeeze-and-excite, both layouts, padding "same"
    "mvitv2_tiny",
    "naflexvit_base_patch16_gap",  # patches without a convolution
    "pvt_v2_b0",  # convolutions inside of feed-forward blocks
    "vit_relpos_small_patch16_224",  # an MLP for position biases
    "vit_small_r26_s32_224",  # a ResNet for a stem, with poolings that are padded by hand
    "vitamin_small_224",  # blocks in the stem
    "volo_d1_224",
)


def told(site) -> tuple:
    layout = site.layout if isinstance(site.layout, str) else site.layout.pattern
    return site.name, site.units, layout, site.prefix_tokens, site.suffix_tokens


def check(model: nn.Module, found: captum_vit.discovery.finding.Discovery) -> None:
    """Whether that was found which the installed adapter says."""
    with captum_vit.adapt(model) as vit:
        assert [told(site) for site in found.sites] == [told(site) for site in vit.sites]
        for ours, theirs in zip(found.sites, vit.sites, strict=True):
            for size in found.image_sizes:
                assert ours.grid(size) == theirs.grid(size), ours.name
    assert (found.unclear, found.doubts) == ((), ())


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found_in_a_small_model_is_what_its_adapter_says(name):
    model = TINY_MODELS[name].build()
    check(model, captum_vit.discover(model, TINY_MODELS[name].image_size))


@pytest.mark.parametrize("name", REGISTERED)
def test_what_is_found_in_a_registered_model_is_what_its_adapter_says(name):
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    check(model, captum_vit.discover(model))


@pytest.mark.parametrize("name", ["coat", "swin_v2", "twins_svt", "deit"])
def test_the_stem_that_is_found_is_the_adapters(name):
    model = TINY_MODELS[name].build()
    _, registered = registry().find(model)
    assert captum_vit.discover(model, TINY_MODELS[name].image_size).stem == registered.adapter.stem


@pytest.mark.parametrize("name", FUSED)
def test_of_blocks_that_are_fused_with_attention_nothing_wrong_is_said(name):
    model = TINY_MODELS[name].build()
    with captum_vit.adapt(model) as vit:
        expected = [told(site) for site in vit.sites]
    assert [told(site) for site in captum_vit.discover(model, 32).sites] in ([], expected)


def test_two_sizes_are_traced_where_the_model_takes_another():
    assert captum_vit.discover(TINY_MODELS["twins_svt"].build(), 64).image_sizes == ((64, 64), (64, 128))
    assert captum_vit.discover(TINY_MODELS["deit"].build(), 32).image_sizes == ((32, 32),)


def test_a_model_is_left_as_it_was():
    model = TINY_MODELS["convit"].build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    captum_vit.discover(model, 32)
    assert model.training
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.is_meta or not parameter.requires_grad for parameter in model.parameters())


def test_blocks_on_the_way_to_patches_are_left_out_and_told():
    with torch.device("meta"):
        model = timm.create_model("vitamin_small_224").eval()
    found = captum_vit.discover(model)
    assert found.in_stem[0] == "patch_embed.backbone.stages.0.0"
    assert "6 blocks inside of the stem are left out" in captum_vit.draft(model, found).text


# --- models of one's own


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens):
        return self.fc2(functional.gelu(self.fc1(tokens)))


class Block(nn.Module):
    def __init__(self, ffn: nn.Module) -> None:
        super().__init__()
        self.ffn = ffn

    def forward(self, tokens):
        return tokens + self.ffn(tokens)


class OneBlock(nn.Module):
    """Patches of 8 pixels, then one block."""

    def __init__(self, ffn: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 8, 8)
        self.block = Block(ffn or Mlp(12, 48))
        self.others = nn.Parameter(torch.zeros(1, 5, 12))

    def forward(self, images):
        return self.block(self.tokens(images))

    def tokens(self, images):
        return self.embed(images).flatten(2).transpose(1, 2)


class TokensFirst(OneBlock):
    def tokens(self, images):
        return super().tokens(images).transpose(0, 1)


class Suffixed(OneBlock):
    def tokens(self, images):
        others = self.others.expand(len(images), -1, -1)
        return torch.cat((others[:, :2], super().tokens(images), others[:, 2:]), dim=1)


class Looking(OneBlock):
    """Looks at values, which the meta device does not have."""

    def tokens(self, images):
        return super().tokens(images) + float(images.mean().item())


class Windowed(OneBlock):
    def tokens(self, images):
        return super().tokens(images).unflatten(1, (-1, 4))


class Unequal(OneBlock):
    """Adds tokens of another kind, which no concatenation shows."""

    def tokens(self, images):
        return functional.pad(super().tokens(images), (0, 0, 1, 0))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OneBlock, ("b (h w) c", 0, 0)),
        (TokensFirst, ("(h w) b c", 0, 0)),
        (Suffixed, ("b (h w) c", 2, 3)),
        (Looking, ("b (h w) c", 0, 0)),
    ],
)
def test_how_an_activation_lies_is_told(kind, expected):
    found = captum_vit.discover(kind(), (24, 40))
    (site,) = found.sites
    assert told(site) == ("block", 48, *expected)
    assert (site.reads, site.grid((24, 40)), found.stem) == ("block.ffn.fc2", (3, 5), "embed")


class Stages(nn.Module):
    """The first stage gets the image and holds both the patch embedding and blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([OneBlock(), Block(Mlp(12, 48)), Block(Mlp(12, 48))])

    def forward(self, images):
        for stage in self.stages:
            images = stage(images)
        return images


def test_a_stage_that_gets_the_image_is_no_stem():
    found = captum_vit.discover(Stages(), 32)
    assert [site.name for site in found.sites] == ["stages.0.block", "stages.1", "stages.2"]
    assert (found.stem, found.in_stem) == ("stages.0.embed", ())


class Shuffled(OneBlock):
    """Tokens in blocks of 2 × 2, as in mask units."""

    def tokens(self, images):
        cells = self.embed(images).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        return cells.permute(0, 2, 4, 3, 5, 1).reshape(len(images), -1, 12)


def test_an_order_that_no_shape_shows_is_told():
    found = captum_vit.discover(Shuffled(), 32)
    assert told(found.sites[0]) == told(captum_vit.discover(OneBlock(), 32).sites[0])
    assert found.doubts == ("block: the cells are in another order than that of rows, which the layout does not say",)


def test_tokens_that_nothing_was_seen_to_put_there_are_a_doubt():
    found = captum_vit.discover(Unequal(), (24, 40))
    assert found.sites[0].prefix_tokens == 1
    assert "block: 1 tokens beside those of the image are taken for prefix tokens" in found.doubts[0]


def test_a_block_whose_tokens_form_no_grid_is_left_out_and_named():
    found = captum_vit.discover(Windowed(), 32)
    assert found.sites == ()
    assert [name for name, _ in found.unclear] == ["block"]
    with pytest.raises(UnsupportedModelError, match=r"no feed-forward block.*block is left out, with \(3, 4, 4, 48\)"):
        captum_vit.draft(Windowed(), found)


class Gate(nn.Module):
    """Squeeze-and-excite: widens and narrows, but for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp(12, 48)

    def forward(self, tokens):
        return tokens * self.mlp(tokens.mean(dim=1, keepdim=True))


class Biased(nn.Module):
    """An MLP on constants, as for position biases."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp(12, 48)

    def forward(self, tokens):
        return tokens + self.mlp(torch.ones(tokens.shape[1], 12, device=tokens.device))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, tokens):
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        return self.proj((q @ k.transpose(1, 2)).softmax(dim=-1) @ v)


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp(12, 6)

    def forward(self, tokens):
        return self.mlp(tokens)


@pytest.mark.parametrize("layer", [Gate, Biased, Attention, Narrow])
def test_what_is_no_feed_forward_block_is_not_found(layer):
    found = captum_vit.discover(OneBlock(layer()), 32)
    assert (found.sites, found.unclear) == ((), ())


@pytest.mark.parametrize(
    ("model", "size", "error", "words"),
    [
        ("deit_micro", None, ArgumentError, "give the model itself"),
        (OneBlock(), (32, 32, 32), ArgumentError, "image_size"),
        (OneBlock(), 0, ArgumentError, "image_size"),
        (OneBlock(), 4, UnsupportedModelError, r"cannot be traced with images of 4x4 pixels.*image_size=\(height"),
    ],
)
def test_what_cannot_be_traced_is_an_error_for_people(model, size, error, words):
    with pytest.raises(error, match=words):
        captum_vit.discover(model, size)
