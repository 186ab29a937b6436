"""The order test that ships for authors of adapters: right orders pass, every kind of wrong one is found."""

from __future__ import annotations

import pytest
import torch
from families import TINY_MODELS, plain
from torch import nn

import captum_vit
from captum_vit import Adapter, PatchGrid, feed_forward
from captum_vit.errors import OrderError
from captum_vit.testing import check_adapter, check_order, measure_order

WRONG = {
    "columns first": {"layout": "b (w h) c"},
    "blocks of 2 × 2": {"layout": "b (y x h w) c -> b c (y h) (x w)", "axes": {"h": 2, "w": 2}},
    "upside down, by blocks": {"layout": "b (y h w) c -> b c (h y) w", "axes": {"y": 2}},
    "one token on": {"prefix_tokens": 0, "suffix_tokens": 1},
}


class Plain(Adapter):
    """Plain transformers, described in whatever way."""

    family = "described"

    def __init__(self, **described) -> None:
        self.described = described

    def serves(self, model: nn.Module) -> bool:
        return hasattr(model, "patch_embed")

    def sites(self, model):
        for i, block in enumerate(model.blocks):
            described = {"prefix_tokens": 1} | self.described
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=PatchGrid.patches(8), **described)


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (128, 96)])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_order_is_found_where_shapes_cannot_tell(wrong, size):
    model = plain(img_size=size).build()
    with captum_vit.adapt(model, adapter=Plain(**WRONG[wrong])) as vit:
        # It has maps, of the right shape.
        assert vit.patch_map(torch.zeros(1, 3, *size), "blocks.0:0").shape == (1, size[0] // 8, size[1] // 8)
        with pytest.raises(OrderError, match=r"3 of 3 sites of VisionTransformer are in another order: blocks\.0"):
            check_order(vit, size)
    with captum_vit.adapt(model, adapter=Plain()) as vit:
        check_order(vit, size)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_adapter_passes_all_that_is_asked_of_an_adapter(name):
    check_adapter(TINY_MODELS[name].build(), image_size=TINY_MODELS[name].image_size)


def test_what_was_measured_is_told_site_by_site():
    with captum_vit.adapt(plain().build()) as vit:
        measured = measure_order(vit)
    assert [order.name for order in measured] == ["blocks.0", "blocks.1", "blocks.2"]
    for order in measured:
        assert order.right
        assert order.error < 0.3
        assert str(order).startswith(f"{order.name}: each cell looks where its grid says")


def test_the_model_and_its_gradients_are_left_alone():
    model = plain().build()
    with captum_vit.adapt(model) as vit:
        check_order(vit)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


class Leaking(Plain):
    """Leaves a hook of its own on the model."""

    def sites(self, model):
        model.norm.register_forward_hook(lambda module, args, output: output + 1)
        yield from super().sites(model)


class Doubled(Plain):
    """Names blocks that the model does not have."""

    def sites(self, model):
        yield feed_forward("blocks.7", reads=model.blocks[0].mlp.fc2, grid=PatchGrid.patches(8), prefix_tokens=1)


class TooCoarse(Plain):
    """Its grid does not fit."""

    def sites(self, model):
        yield feed_forward("blocks.0", reads=model.blocks[0].mlp.fc2, grid=PatchGrid.patches(16), prefix_tokens=1)


@pytest.mark.parametrize("adapter", [Leaking(), Doubled(), TooCoarse(), Plain(layout="b (w h) c")])
def test_whatever_else_an_adapter_does_wrongly_is_found(adapter):
    with pytest.raises((AssertionError, AttributeError, ValueError)):
        check_adapter(plain().build(), adapter)


def test_an_adapter_that_is_not_installed_serves_a_model_in_a_wrapper_too():
    model = nn.Sequential(nn.Identity(), plain().build()).eval()
    with captum_vit.adapt(model, adapter=Plain()) as vit:
        assert vit.family == "described"
        check_order(vit)


@pytest.mark.parametrize("adapter", [Plain, "deit", nn.Identity()])
def test_an_adapter_that_is_none_is_refused(adapter):
    with pytest.raises(
        captum_vit.errors.ArgumentError, match=r"adapter is .*; give an instance of a captum_vit.Adapter"
    ):
        captum_vit.adapt(plain().build(), adapter=adapter)
