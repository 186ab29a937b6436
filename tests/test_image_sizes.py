"""Images of other sizes and shapes, where a model takes them; and its own error where it does not."""

from __future__ import annotations

import re

import pytest
import torch
from families import TINY_MODELS
from oracle import Oracle

import captum_vit
from captum_vit.errors import AddressError

Size = tuple[int, int]


def grids(*sizes: Size, of: tuple[int, ...] = (4,)) -> dict[Size, Size]:
    """Which grid takes the place of that which the model has by default."""
    return dict(zip([(side, side) for side in of], sizes, strict=True))


FOUR, SWIN, PIT = (16, 8, 4, 2), (11, 6, 3), (7, 4, 2)
ANY = {"strict_img_size": False}

# Model, how it is built, the image's size, and the grids that its own arithmetic gives, stage by stage.
SIZES = [
    ("deit", {"img_size": (24, 40)}, (24, 40), grids((3, 5))),
    ("deit", {"patch_size": (4, 16)}, (32, 32), grids((8, 2))),
    ("deit", {"dynamic_img_size": True}, (72, 24), grids((9, 3))),
    ("deit_distilled", {"img_size": (40, 24)}, (40, 24), grids((5, 3))),
    ("vit_with_registers", {}, (24, 48), grids((3, 6))),
    ("vit_swiglu", {"img_size": (24, 40)}, (24, 40), grids((3, 5))),
    ("vit_parallel_scaling_fused", {"img_size": (24, 40)}, (24, 40), grids((3, 5))),
    ("vit_padded", {}, (30, 45), grids((4, 6))),
    ("vit_padded", {}, (3, 17), grids((1, 3))),
    ("convit", {"img_size": 48}, (48, 48), grids((6, 6))),
    ("coat", {"img_size": (64, 96)}, (64, 96), grids((16, 24), (8, 12), (4, 6), (2, 3), of=FOUR)),
    ("coat", {"img_size": (64, 32)}, (64, 32), grids((16, 8), (8, 4), (4, 2), (2, 1), of=FOUR)),
    ("coat_lite", {"img_size": (96, 64)}, (96, 64), grids((24, 16), (12, 8), (6, 4), (3, 2), of=FOUR)),
    ("pit", {"img_size": (64, 96)}, (64, 96), grids((7, 11), (4, 6), (2, 3), of=PIT)),
    ("pit_distilled", {"img_size": (90, 66)}, (90, 66), grids((10, 7), (5, 4), (3, 2), of=PIT)),
    ("swin", {"img_size": (36, 60)}, (36, 60), grids((9, 15), (5, 8), (3, 4), of=SWIN)),
    ("swin", ANY, (28, 52), grids((7, 13), (4, 7), (2, 4), of=SWIN)),
    ("swin_v2", {"img_size": (36, 60)}, (36, 60), grids((9, 15), (5, 8), of=(11, 6))),
    ("swin_v2", ANY, (28, 52), grids((7, 13), (4, 7), of=(11, 6))),
    ("swin_v2_cr", {"img_size": (36, 60)}, (36, 60), grids((9, 15), (5, 8), of=(11, 6))),
    ("swin_v2_cr", ANY, (30, 45), grids((7, 11), (4, 6), of=(11, 6))),
    ("twins_pcpvt", {}, (64, 96), grids((16, 24), (8, 12), (4, 6), (2, 3), of=FOUR)),
    ("twins_svt", {}, (90, 66), grids((22, 16), (11, 8), (5, 4), (2, 2), of=FOUR)),
]


def images(size: Size, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def assert_maps_are_right(vit: captum_vit.AdaptedModel, oracle: Oracle, batch: torch.Tensor) -> None:
    read = oracle.read(batch)
    for site in vit.sites:
        expected = oracle.split(site.name, read[site.name])[1]
        assert site.grid(tuple(batch.shape[-2:])) == tuple(expected.shape[-2:]), site
        with vit.until(site.name), torch.no_grad():
            assert torch.equal(vit(batch), expected), site


@pytest.mark.parametrize(("name", "changes", "size", "grids"), SIZES)
def test_maps_are_right_for_every_image_that_the_model_takes(name, changes, size, grids):
    tiny = TINY_MODELS[name]
    plain, vit = tiny.build(**changes), captum_vit.adapt(tiny.build(**changes))
    batch = images(size)
    assert_maps_are_right(vit, Oracle(name, plain, grids), batch)
    for site in vit.sites:  # so that the tokens are taken apart and put together again
        vit.ffn[site.key].register_forward_hook(lambda module, args, output: output.clone())
    assert torch.equal(vit(batch), plain(batch))


def test_sizes_may_change_from_pass_to_pass():
    tiny = TINY_MODELS["vit_with_registers"]
    plain, vit = tiny.build(), captum_vit.adapt(tiny.build())
    for rows, columns in ((4, 4), (2, 8), (8, 2), (1, 5), (4, 4)):  # two of them with the same number of tokens
        batch = images((8 * rows, 8 * columns), seed=rows)
        assert_maps_are_right(vit, Oracle("vit_with_registers", plain, grids((rows, columns))), batch)


@pytest.mark.parametrize("name", sorted(TINY_MODELS.keys() - {"vit_padded"}))  # which takes images of any size
def test_an_image_of_the_wrong_size_is_an_error_that_names_both_sizes_and_leaves_no_trace(name):
    tiny = TINY_MODELS[name]
    plain, vit = tiny.build(), captum_vit.adapt(tiny.build())
    wrong = images((23, 29))
    with pytest.raises((AssertionError, RuntimeError)) as by_itself:
        plain(wrong)
    site = vit.sites[-1]
    for call in (vit, vit.neuron(f"{site.name}:0"), lambda batch: vit.patch_map(batch, f"{site.name}:0")):
        with pytest.raises((AssertionError, RuntimeError)) as adapted:
            call(wrong)
        own = adapted.value if vit.preprocessing.any_size else adapted.value.__cause__
        assert (type(own), str(own)) == (type(by_itself.value), str(by_itself.value))
        if own is not adapted.value:
            height, width = tiny.image_size
            told = f"takes images of {height}x{width} pixels, and this is 23x29 .*any_size=True"
            assert re.search(told, str(adapted.value))
    right = images(tiny.image_size)
    assert torch.equal(vit(right), plain(right))
    assert_maps_are_right(vit, Oracle(name, plain), right)


def test_a_patch_outside_the_grid_of_these_images_is_an_error():
    vit = captum_vit.adapt(TINY_MODELS["vit_with_registers"].build())
    at_last_row = vit.neuron("blocks.1:3", patch=(3, 1))
    assert at_last_row(images((32, 16))).shape == (2,)
    with pytest.raises(AddressError, match=r'no patch \(3, 1\) at "blocks\.1"; its grid here is 2x4'):
        at_last_row(images((16, 32)))
    with pytest.raises(AddressError, match=r"no patch \(-1, 0\)"):
        vit.neuron("blocks.1:3", patch=(-1, 0))(images((16, 32)))
