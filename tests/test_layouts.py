"""Layouts: an activation that lies in any order is shown as a map, and laid out again as it was."""

from __future__ import annotations

import einops
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import captum_vit
from captum_vit import Adapter, PatchGrid, feed_forward
from captum_vit.errors import GridError, LayoutError
from captum_vit.probes.layout import Layout

BY_HAND = {
    "b (h w) c": lambda m: m.flatten(2).transpose(1, 2),
    "b c h w": lambda m: m,
    "b h w c": lambda m: m.permute(0, 2, 3, 1),
    "(h w) b c": lambda m: m.flatten(2).permute(2, 0, 1),
}


@st.composite
def layouts(draw) -> tuple[str, str, dict[str, int]]:
    """A pattern for rows and columns in up to three parts each, and units in up to two; and the length of each part."""
    names = {
        "units": [f"c{i}" for i in range(draw(st.integers(1, 2)))],
        "rows": [f"y{i}" for i in range(draw(st.integers(1, 3)))],
        "columns": [f"x{i}" for i in range(draw(st.integers(1, 3)))],
    }
    order = draw(st.permutations(["b", *names["units"], *names["rows"], *names["columns"]]))
    left, rest = [], list(order)
    while rest:
        size = draw(st.integers(1, len(rest)))
        group, rest = rest[:size], rest[size:]
        left.append(f"({' '.join(group)})" if draw(st.booleans()) or len(group) > 1 else group[0])
    right = " ".join(["b", *(f"({' '.join(parts)})" for parts in names.values())])
    return " ".join(left), right, {name: draw(st.integers(1, 3)) for name in order}


@settings(deadline=None, max_examples=150)
@given(layouts())
def test_any_order_of_axes_is_shown_as_einops_shows_it_and_comes_back_bit_for_bit(drawn):
    left, right, lengths = drawn
    sizes = {name: length for name, length in lengths.items() if name != "b"}
    units, rows, columns = (
        torch.Size([length for name, length in sizes.items() if name[0] == kind]).numel() for kind in "cyx"
    )
    patch_map = torch.randn(lengths["b"], units, rows, columns)
    activation = einops.rearrange(patch_map, f"{right} -> {left}", **sizes)
    # One of several parts need not be told.
    told = {name: length for name, length in sizes.items() if not name.endswith("0")}
    layout = Layout(f"{left} -> {right}", tuple(told.items()))
    assert layout.fits(activation.shape, units, (rows, columns))
    assert torch.equal(layout.to_map(activation, units, (rows, columns)), patch_map)
    assert torch.equal(layout.from_map(patch_map, units, (rows, columns)), activation)


@pytest.mark.parametrize("pattern", BY_HAND)
@pytest.mark.parametrize(("prefix", "suffix"), [(0, 0), (2, 0), (0, 3), (1, 2)])
def test_prefix_and_suffix_tokens_are_taken_off_the_axis_that_holds_the_patches(pattern, prefix, suffix):
    patch_map = torch.randn(2, 5, 3, 4)
    if (prefix or suffix) and Layout(pattern).token_axis is None:
        with pytest.raises(LayoutError, match="has no axis of tokens"):
            Layout(pattern, (), prefix, suffix)
        return
    layout = Layout(pattern, (), prefix, suffix)
    patches = BY_HAND[pattern](patch_map)
    axis = 0 if pattern[0] == "(" else 1
    before, after = (patches.narrow(axis, 0, n) + 7 for n in (prefix, suffix))
    activation = torch.cat((before, patches, after), dim=axis)
    assert layout.fits(activation.shape, 5, (3, 4))
    found = layout.split(activation)
    for part, expected in zip(found, (before, patches, after), strict=True):
        assert (part is None and not expected.numel()) or torch.equal(part, expected)
    assert torch.equal(layout.to_map(found[1], 5, (3, 4)), patch_map)
    if prefix:
        shown = layout.prefix_to_map(found[0], 5)
        assert shown.shape == (2, 5, 1, prefix)
        assert torch.equal(shown[:, :, 0], before.movedim(-1, 1) if axis else before.permute(1, 2, 0))
        assert torch.equal(layout.prefix_from_map(shown, 5), before)


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (1, 4), (9, 2)])
@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (2, 1)])
def test_shifted_windows_that_are_filled_up_are_put_together_in_image_order(grid, shift):
    patch_map = torch.randn(2, 5, *grid)
    cells = patch_map.roll((-shift[0], -shift[1]), (2, 3))
    rows, columns = (-side % 3 for side in grid)
    cells = nn.functional.pad(cells, (0, columns, 0, rows), value=7.0)
    activation = einops.rearrange(cells, "b c (y h) (x w) -> (b y x) (h w) c", h=3, w=3)
    layout = Layout.windows((3, 3), shift)
    assert layout.fits(activation.shape, 5, grid)
    assert not layout.fits(activation[1:].shape, 5, grid)
    assert torch.equal(layout.to_map(activation, 5, grid), patch_map)
    # What fills windows up stays what it was, whatever becomes of the map.
    doubled = layout.from_map(2 * patch_map, 5, grid, activation)
    assert torch.equal(doubled, torch.where(activation == 7, activation, 2 * activation))
    if rows or columns:
        with pytest.raises(LayoutError, match="what only the activation itself tells"):
            layout.from_map(patch_map, 5, grid)


@pytest.mark.parametrize("pattern", BY_HAND)
@pytest.mark.parametrize(("before", "after"), [(0, 4), (5, 0), (2, 3)])
def test_units_are_taken_from_among_other_channels_and_put_back(pattern, before, after):
    whole = torch.randn(2, before + 5 + after, 3, 4)
    layout = Layout(pattern, channels_before=before, channels_after=after)
    activation = BY_HAND[pattern](whole)
    assert layout.fits(activation.shape, 5, (3, 4))
    assert not layout.fits(activation.shape, 6, (3, 4))
    own = layout.own(activation)
    assert torch.equal(layout.to_map(own, 5, (3, 4)), whole[:, before : before + 5])
    doubled = whole.clone()
    doubled[:, before : before + 5] *= 2
    assert torch.equal(layout.among_others(2 * own, activation), BY_HAND[pattern](doubled))


def test_other_channels_need_an_axis_of_units():
    with pytest.raises(LayoutError, match="no axis with all units and nothing else"):
        Layout("b (h c) w", channels_before=3)


@pytest.mark.parametrize(
    ("pattern", "axes", "told"),
    [
        ("b (h w)", {}, "does not lead to a map"),
        ("b (h w) c k", {}, "does not lead to a map"),
        ("b h h c", {}, "does not lead to a map"),
        ("(b y x) (h w) c", {}, "does not lead to a map"),
        ("(b y x) (h w) c -> b c (y h) x", {}, "does not lead to a map"),
        ("b (h w) c", {"k": 3}, "has no axis k; it has b, h, w, c"),
    ],
)
def test_a_pattern_that_leads_to_no_map_is_refused_with_the_sites_name(pattern, axes, told):
    with pytest.raises(LayoutError, match=rf'site "blocks.0": .*{told}'):
        feed_forward("blocks.0", reads=nn.Linear(3, 4), grid=PatchGrid.patches(8), layout=pattern, axes=axes)


def test_lengths_that_cannot_be_told_are_asked_for():
    layout = Layout("(b y x) (h w) c -> b c (y h) (x w)")
    with pytest.raises(LayoutError, match=r"lengths of y, h .* give all but one with axes="):
        layout.to_map(torch.zeros(8, 4, 3), 3, (4, 4))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give reads=.*or else writes="),
        ({"reads": nn.Linear(3, 4), "writes": nn.Linear(3, 4)}, "give reads=.*or else writes="),
        ({"reads": nn.Dropout()}, "Dropout has no in_features or in_channels"),
        ({"writes": nn.ReLU()}, "ReLU has no out_features or out_channels"),
    ],
)
def test_a_site_is_at_the_input_of_one_module_or_at_the_output_of_one(given, told):
    with pytest.raises(TypeError, match=told):
        feed_forward("blocks.0", grid=PatchGrid.patches(8), **given)


def test_units_are_read_off_the_layer():
    grid = PatchGrid.patches(8)
    widths = [
        feed_forward("a", reads=nn.Linear(3, 4), grid=grid).units,
        feed_forward("a", writes=nn.Linear(3, 4), grid=grid).units,
        feed_forward("a", reads=nn.Conv2d(5, 6, 1), grid=grid, layout="b c h w").units,
        feed_forward("a", writes=nn.Conv2d(5, 6, 1), grid=grid, layout="b c h w").units,
    ]
    assert widths == [3, 4, 5, 6]


class Mixer(nn.Module):
    """A toy whose hidden activation lies in a given order, and which goes on from there, perhaps with other memory."""

    def __init__(self, lay_out) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.hidden = nn.Identity()
        self.end = nn.Identity()
        self.lay_out = lay_out

    def forward(self, images: Tensor) -> Tensor:
        activation = self.hidden(self.lay_out(self.stem(images)))
        return self.end((activation * 2, "more"))[0].sum(dim=-1)


class Toy(Adapter):
    family = "toy"
    models = (Mixer,)
    stem = "stem"

    def __init__(self, layout: str, written: bool) -> None:
        self.layout, self.written = layout, written

    def sites(self, model):
        at = {"writes": model.hidden} if self.written else {"reads": model.hidden}
        yield feed_forward("hidden", grid=PatchGrid.patches(4), layout=self.layout, units=6, **at)


@pytest.mark.parametrize("written", [True, False], ids=["output", "input"])
@pytest.mark.parametrize("pattern", BY_HAND)
def test_at_an_input_or_an_output_a_probe_shows_and_replaces_the_map_whatever_the_order(pattern, written):
    torch.manual_seed(0)
    model, images = Mixer(BY_HAND[pattern]).eval(), torch.randn(2, 3, 12, 20)
    with torch.no_grad():
        patch_map, expected = model.stem(images), model(images)
        with captum_vit.adapt(model, adapter=Toy(pattern, written)) as vit:
            assert torch.equal(vit(images), expected)
            assert torch.equal(vit.patch_map(images, "hidden:2"), patch_map[:, 2])
            hook = vit.layer("hidden").register_forward_hook(lambda module, args, output: 4 * output)
            assert torch.equal(vit(images), 4 * expected)
            hook.remove()
            assert torch.equal(vit(images), expected)
        assert not model.hidden._forward_hooks
        assert not model.hidden._forward_pre_hooks


@pytest.mark.parametrize("order", ["as it is", "channels last", "transposed"])
def test_an_activation_goes_on_in_the_memory_in_which_it_came(order):
    lay_out = {
        "as it is": lambda m: m.contiguous(),
        "channels last": lambda m: m.contiguous(memory_format=torch.channels_last),
        "transposed": lambda m: m.transpose(2, 3).contiguous().transpose(2, 3),
    }[order]
    model, strides = Mixer(lay_out).eval(), []
    model.end.register_forward_pre_hook(lambda module, args: strides.append(args[0][0].stride()))
    images = torch.randn(2, 3, 12, 20)
    model(images)
    with captum_vit.adapt(model, adapter=Toy("b c h w", False)) as vit:
        vit.layer("hidden").register_forward_hook(lambda module, args, output: None)
        vit(images)
    assert strides[0] == strides[1]


def test_an_activation_of_another_shape_is_an_error_that_says_what_was_expected():
    model = Mixer(BY_HAND["b h w c"]).eval()
    with captum_vit.adapt(model, adapter=Toy("b c h w", False)) as vit:
        told = r'3x5 cells of 6 units laid out as "b c h w" at hidden, but Mixer computes on \(1, 3, 5, 6\)'
        with pytest.raises(GridError, match=told):
            vit.patch_map(torch.randn(1, 3, 12, 20), "hidden:0")
