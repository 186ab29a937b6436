"""Queries, keys and values, and what feed-forward blocks give, are sites as the hidden activations are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from attending import ATTENDING, PARTS, rows_of
from captum.attr import LayerConductance, LayerGradientXActivation, NeuronGradient
from families import TINY_MODELS
from lucent.optvis import param, render
from photos import SIX_PHOTOS
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from torch import Tensor, nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import Adapter, Attention, Channels, PatchGrid, cli, feed_forward
from captum_vit.cards.card import neuron_card
from captum_vit.errors import AddressError, ArgumentError, GridError, UnsupportedModelError
from captum_vit.probes.hooks import SiteHook
from captum_vit.probes.plugins import registry
from captum_vit.testing import check_adapter

NEURON = "blocks.1.query:3"
QUICK = {"steps": 2, "progress": False}


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"), sites="all")


def watched(vit: captum_vit.AdaptedModel, images: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A model's output, its maps and its prefix maps, all probes watched."""
    maps: dict[str, Tensor] = {}
    prefixes: dict[str, Tensor] = {}

    def keep(into: dict[str, Tensor], name: str) -> Callable[..., None]:
        return lambda module, inputs, output: into.update({name: output})

    for site in vit.sites:
        vit.probe(site.name).register_forward_hook(keep(maps, site.name))
        if site.prefix_tokens:
            vit.prefix_layer(site.name).register_forward_hook(keep(prefixes, site.name))
    with torch.no_grad():
        return vit(images), maps, prefixes


# --- where they are


@pytest.mark.parametrize("name", ATTENDING)
def test_maps_are_queries_keys_and_values_by_hand_and_outputs_stay_bit_for_bit(name):
    attending = ATTENDING[name]
    model, images = attending.build(), attending.images()
    with torch.no_grad():
        expected = model(images)
    by_hand = attending.by_hand(model, images)
    vit = captum_vit.adapt(model, sites="attention")
    with torch.no_grad():
        assert torch.equal(vit(images), expected)
    output, maps, prefixes = watched(vit, images)
    assert torch.equal(output, expected)
    assert [site.name for site in vit.sites] == list(by_hand)
    for site in vit.sites:
        prefix, patch_map = by_hand[site.name]
        assert maps[site.name].shape == (2, site.units, *site.grid(attending.size)) == patch_map.shape
        torch.testing.assert_close(maps[site.name], patch_map, rtol=0, atol=1e-6)
        assert site.prefix_tokens == prefix.shape[-1]
        if site.prefix_tokens:
            torch.testing.assert_close(prefixes[site.name], prefix, rtol=0, atol=1e-6)
    vit.restore()
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("name", ["deit", "convit", "pit", "coat", "swin", "twins_svt"])
def test_each_cell_looks_where_its_grid_says_at_sites_of_all_kinds(name):
    attending = ATTENDING[name]
    check_adapter(attending.build(), image_size=attending.size, sites="all", cells=6)


@pytest.mark.parametrize("name", ATTENDING)
@torch.no_grad()
def test_a_query_channel_that_is_silenced_is_the_rows_of_the_weights_that_are_zero(name):
    attending = ATTENDING[name]
    images, block = attending.images(), attending.blocks[1]
    silenced = attending.build()
    for row in rows_of(block.attention_in(silenced), "query"):
        if row is not None:
            row[3] = 0
    site = block.named("query")
    with captum_vit.adapt(attending.build(), sites="attention") as vit:
        whole = vit(images)
        vit.probe(site).register_forward_hook(silence)
        if block.prefix:
            vit.prefix_layer(site).register_forward_hook(silence)
        output = vit(images)
    assert not torch.equal(output, whole)
    torch.testing.assert_close(output, silenced(images), rtol=0, atol=1e-6)


def silence(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Hook that makes channel 3 zero."""
    output = output.clone()
    output[:, 3] = 0
    return output


@pytest.mark.parametrize("name", ["deit", "convit", "pit", "coat", "twins_pcpvt", "eva_of_shared_keys"])
@pytest.mark.parametrize("part", PARTS)
@torch.no_grad()
def test_the_output_depends_on_patches_where_a_site_says_so(name, part):
    attending = ATTENDING[name]
    images = attending.images()
    with captum_vit.adapt(attending.build(), sites="attention") as vit:
        whole = vit(images)
        for block in attending.blocks:
            hook = vit.probe(block.named(part)).register_forward_hook(lambda m, i, output: output.flip(0) * 3 + 1)
            # A key that is moved for all tokens alike changes no softmax; one that is swapped between images does.
            changed = not torch.equal(vit(images), whole)
            hook.remove()
            assert changed == vit.site(block.named(part)).reaches_output == (part != "query" or not block.last)


@pytest.mark.parametrize("name", ["deit", "vit_swiglu", "vit_parallel_things", "coat", "swin_v2", "twins_svt"])
def test_outputs_of_blocks_are_what_the_second_linear_layer_gives(name):
    tiny = TINY_MODELS[name]
    model, images = tiny.build(), torch.randn(2, 3, *tiny.image_size, generator=torch.Generator().manual_seed(0))
    with captum_vit.adapt(model) as plain:
        hidden = watched(plain, images)[1:]
        layers = {site.name: site.reads for site in plain.sites}
    with captum_vit.adapt(model, sites="output") as vit:
        assert [site.name for site in vit.sites] == [f"{block}.output" for block in layers]
        found = watched(vit, images)[1:]
    for name, layer in layers.items():
        for ours, before in zip(found, hidden, strict=True):
            if name in before:
                expected = torch.nn.functional.linear(before[name].movedim(1, -1), layer.weight, layer.bias)
                torch.testing.assert_close(ours[f"{name}.output"], expected.movedim(-1, 1), rtol=0, atol=1e-5)


# --- which there are


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_sites_of_old_are_the_default_and_are_among_all_in_their_order(name):
    model = TINY_MODELS[name].build()
    supported, registered = registry().find(model)
    listed = [site.name for site in registered.adapter.sites(supported)]
    for kinds in ("feed_forward", ["feed_forward"]):
        with captum_vit.adapt(model, sites=kinds) as vit:
            assert [site.name for site in vit.sites] == listed
            assert not len(vit.attn)
    if name in ATTENDING:
        with captum_vit.adapt(model, sites="all") as vit:
            assert [site.name for site in vit.sites if site.kind == "feed_forward"] == listed
            assert {site.kind for site in vit.sites} == {"feed_forward", "attention", "output"}


def test_sites_come_in_the_order_of_the_forward_pass(vit):
    assert [site.name for site in vit.sites[:6]] == [
        "blocks.0.query", "blocks.0.key", "blocks.0.value", "blocks.0", "blocks.0.output", "blocks.1.query",
    ]  # fmt: skip
    assert [site.layer for site in vit.sites[:5]] == [
        "attn_blocks_0_query", "attn_blocks_0_key", "attn_blocks_0_value", "ffn_blocks_0", "ffn_blocks_0_output",
    ]  # fmt: skip
    assert {site.block for site in vit.sites[:5]} == {"blocks.0"}


def test_keys_of_sub_sampled_attention_have_fewer_cells_and_shared_ones_fewer_channels():
    with captum_vit.adapt(ATTENDING["twins_svt"].build(), sites="attention") as twins:
        local, global_ = ([twins.site(f"blocks.0.{i}.{part}").grid((64, 96)) for part in PARTS] for i in range(2))
        assert local == [(16, 24)] * 3
        assert global_ == [(16, 24), (2, 3), (2, 3)]
    with captum_vit.adapt(ATTENDING["eva_of_shared_keys"].build(), sites="attention") as shared:
        assert [site.units for site in shared.sites[:3]] == [24, 12, 12]


def test_a_convnets_own_outputs_are_its_outputs():
    model = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=5).eval()
    with captum_vit.adapt(model) as vit:
        own = [site for site in vit.sites if site.name.endswith(".output")]
    with captum_vit.adapt(model, sites="output") as vit:
        assert list(vit.sites) == own


# --- what there is not


def multi_head_attention() -> nn.Module:
    small = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    return torchvision.models.VisionTransformer(**small, num_classes=5).eval()


class Unaware(Adapter):
    """An adapter from before attention's channels were sites."""

    family = "unaware"

    def sites(self, model):
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=PatchGrid.patches(8), prefix_tokens=1)


@pytest.mark.parametrize(
    ("build", "settings", "told"),
    [
        (TINY_MODELS["swin_v2"].build, {"sites": "attention"}, "multiplies by the weights of its layer qkv and does"),
        (TINY_MODELS["swin_v2"].build, {"sites": "all"}, 'Adapt it without sites of kind "attention"'),
        (multi_head_attention, {"sites": "attention"}, r"torch\.nn\.MultiheadAttention, computes them inside of one"),
        (lambda: Eva(img_size=32, embed_dim=24, depth=1, num_heads=2).eval(), {"sites": "attention"}, "does not call"),
        (
            TINY_MODELS["deit"].build,
            {"sites": "attention", "adapter": Unaware()},
            r'adapter "unaware" .* does not tell which modules give them, by feed_forward\(\.\.\., attention=\.\.\.\)',
        ),
        (TINY_MODELS["vit_parallel_scaling_fused"].build, {"sites": "output"}, "one output projection sums what"),
    ],
)
def test_a_model_whose_channels_cannot_be_had_is_refused_with_the_reason(build, settings, told):
    model = build()
    with pytest.raises(UnsupportedModelError, match=told):
        captum_vit.adapt(model, **settings)
    with captum_vit.adapt(model, **settings | {"sites": "feed_forward"}) as vit:
        assert vit.sites


def test_an_adapter_that_knows_nothing_of_outputs_has_those_of_its_layers():
    with captum_vit.adapt(TINY_MODELS["deit"].build(), adapter=Unaware(), sites="output") as vit:
        assert [(site.name, site.units) for site in vit.sites] == [(f"blocks.{i}.output", 24) for i in range(3)]


@pytest.mark.parametrize("sites", ["queries", [], ["attention", "head"], None])
def test_what_is_no_kind_of_site_is_refused_with_those_that_there_are(sites):
    with pytest.raises(ArgumentError, match="there are feed_forward, attention, output, and all"):
        captum_vit.adapt(TINY_MODELS["deit"].build(), sites=sites)


@pytest.mark.parametrize(("name", "kind"), [("blocks.1.query", "attention"), ("ffn_blocks_1_output", "output")])
def test_a_site_of_a_kind_that_was_not_asked_for_is_told_how_to_be_had(name, kind):
    with captum_vit.adapt(TINY_MODELS["deit"].build()) as vit:
        with pytest.raises(AddressError, match=rf"adapt\(model, sites='{kind}'\)"):
            vit.site(name)
        with pytest.raises(UnsupportedModelError, match="without sites of kind"):
            captum_vit.adapt(vit, sites=kind)
        assert captum_vit.adapt(vit) is vit


def test_swin_whose_shift_is_changed_after_adapt_is_an_error_and_not_another_order():
    swin = ATTENDING["swin"].build()
    with captum_vit.adapt(swin, sites="attention") as vit:
        swin.layers[0].blocks[1].shift_size = (0, 0)
        vit.patch_map(torch.zeros(1, 3, 44, 56), "layers.0.blocks.0.query:1")
        with pytest.raises(GridError, match="restore it and adapt it again"):
            vit.patch_map(torch.zeros(1, 3, 44, 56), "layers.0.blocks.1.query:1")


@pytest.mark.parametrize(("parts", "expected"), [(3, [(0, 4), (4, 4), (8, 4)]), ((6, 3, 3), [(0, 6), (6, 3), (9, 3)])])
def test_a_layers_channels_are_divided(parts, expected):
    layer = nn.Linear(2, 12)
    divided = Channels.split(layer, parts)
    assert [(part.first, part.count) for part in divided] == expected
    assert {part.width for part in divided} == {12}
    assert Channels.all_of(layer) == Channels(layer, 0, 12, 12)


@pytest.mark.parametrize(
    ("module", "parts", "told"),
    [(nn.Linear(2, 12), 5, "cannot be divided into 5"), (nn.GELU(), 3, "GELU has no out_features or out_channels")],
)
def test_channels_that_cannot_be_divided_are_an_error(module, parts, told):
    with pytest.raises(TypeError, match=told):
        Channels.split(module, parts)


def test_an_adapter_may_say_that_other_channels_lie_beside_units():
    class Last(Unaware):
        """Keys behind values."""

        def sites(self, model):
            for site, block in zip(super().sites(model), model.blocks, strict=True):
                query, key, value = Channels.split(block.attn.qkv, 3)
                described = {"reads": site.reads, "grid": site.grid, "prefix_tokens": 1}
                yield feed_forward(site.name, **described, attention=Attention(query, value, key))

    images = torch.randn(1, 3, 32, 32)
    with captum_vit.adapt(TINY_MODELS["deit"].build(), sites="attention") as vit:
        keys = vit.patch_map(images, "blocks.1.key:5")
    with captum_vit.adapt(TINY_MODELS["deit"].build(), adapter=Last(), sites="attention") as vit:
        assert torch.equal(vit.patch_map(images, "blocks.1.value:5"), keys)


# --- transformers


def small(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    settings = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    settings |= {"intermediate_size": 36, "image_size": (32, 48)}
    if kind in ("CLIPVision", "SiglipVision", "Dinov2"):  # which take square ones, and interpolate
        settings["image_size"] = 48
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}Model")(config).eval()


@pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")
@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "DINOv3ViT", "CLIPVision", "SiglipVision"])
@torch.no_grad()
def test_models_of_transformers_have_them_as_their_layers_give_them(kind):
    model, more = small(kind), {}
    if kind in ("CLIPVision", "SiglipVision"):
        more = {"interpolate_pos_encoding": True}
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    layers = {path: layer for path, layer in model.named_modules() if path.endswith(("q_proj", "k_proj", "v_proj"))}
    given: dict[str, Tensor] = {}
    for path, layer in layers.items():
        layer.register_forward_hook(lambda m, inputs, output, path=path: given.update({path: (inputs[0], output)}))
    expected = model(images, **more).last_hidden_state
    with captum_vit.adapt(model, sites="attention", output="last_hidden_state") as vit:
        by_site = dict(zip((site.name for site in vit.sites), by_part(given), strict=True))
        maps: dict[str, Tensor] = {}
        for site in vit.sites:
            vit.probe(site.name).register_forward_hook(lambda m, i, out, name=site.name: maps.update({name: out}))
        assert torch.equal(vit(images, **more), expected)
        for site in vit.sites:
            layer, (tokens, _) = layers[by_site[site.name]], given[by_site[site.name]]
            by_hand = torch.nn.functional.linear(tokens[:, site.prefix_tokens :], layer.weight, layer.bias)
            by_hand = by_hand.transpose(1, 2).reshape(2, 24, 4, 6)
            torch.testing.assert_close(maps[site.name], by_hand, rtol=0, atol=1e-6)


def by_part(paths: Any) -> list[str]:
    """Queries, keys and values of each block, whatever the order in which they are computed."""
    number = [int(next(word for word in path.split(".") if word.isdigit())) for path in paths]
    return [path for _, path in sorted(zip(number, paths, strict=True), key=lambda p: (p[0], "qkv".index(p[1][-6])))]


# --- what tools make of them


def test_an_image_is_rendered_and_is_the_same_whatever_other_sites_there_are(vit):
    images = {}
    for kinds in ("all", "attention"):
        with captum_vit.adapt(captum_vit.load("deit_micro"), sites=kinds) as adapted:
            (images[kinds],) = captum_vit.render(adapted, [NEURON], **QUICK)
    assert images["all"].neuron == NEURON
    np.testing.assert_array_equal(images["all"].image, images["attention"].image)
    (hidden,) = captum_vit.render(vit, ["blocks.1:3"], **QUICK)
    assert not np.array_equal(hidden.image, images["all"].image)


def test_a_render_takes_no_other_site_apart(vit, monkeypatch):
    taken: list[str] = []

    def arrived(hook: SiteHook, activation: Tensor, call: int, before: Any = SiteHook._arrived) -> Any:
        site, grid = before(hook, activation, call)
        taken.append(site.name)
        return site, grid

    monkeypatch.setattr(SiteHook, "_arrived", arrived)
    captum_vit.render(vit, [NEURON], **QUICK)
    assert set(taken) == {"blocks.1.query"}


@pytest.mark.parametrize("address", [NEURON, "blocks.1.output:3"])
def test_gradients_of_a_render_are_those_of_the_plain_loss(vit, address):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(vit.neuron(address)(images).sum(), images)
    by_hand = images.detach().requires_grad_()
    kept: list[Tensor] = []
    layer = vit.site(address.split(":")[0]).writes
    with layer.register_forward_hook(lambda module, inputs, output: kept.append(output)):
        vit(by_hand)
    (expected,) = torch.autograd.grad(kept[0][:, 1:, 3].mean(), by_hand)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("layer", ["attn_blocks_1_query", "attn_blocks_1_value", "ffn_blocks_1_output"])
def test_stock_lucent_renders_them_by_their_layer(layer):
    tiny = TINY_MODELS["deit"]
    with captum_vit.adapt(tiny.build(), sites="all") as vit:
        torch.manual_seed(0)
        np.random.seed(0)
        start, last = render.render_vis(
            vit,
            f"{layer}:3",
            lambda: param.image(32),
            thresholds=(1, 3),
            fixed_image_size=tiny.image_size,
            show_image=False,
            progress=False,
        )
    assert last.shape == (1, 32, 32, 3)
    assert not np.array_equal(start, last), "the objective has no gradient on the image"


@pytest.mark.parametrize("site", ["blocks.1.key", "blocks.2.value", "blocks.1.output"])
def test_captums_layer_and_neuron_methods_take_them(vit, site):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    probe, kept = vit.layer(site), []
    conductance = LayerConductance(vit, probe).attribute(images, target=0, n_steps=8)
    by_captum = LayerGradientXActivation(vit, probe).attribute(images, target=0)
    with probe.register_forward_hook(lambda module, inputs, output: kept.append(output)):
        total = vit(images.requires_grad_())[:, 0].sum()
    (gradient,) = torch.autograd.grad(total, kept)
    torch.testing.assert_close(by_captum, gradient * kept[0], rtol=1e-3, atol=1e-6)
    assert conductance.shape == kept[0].shape
    assert conductance.abs().sum() > 0
    by_neuron = NeuronGradient(vit, probe).attribute(images, (3, 2, 5))
    with vit.until(site):
        (expected,) = torch.autograd.grad(vit(images)[:, 3, 2, 5].sum(), images)
    torch.testing.assert_close(by_neuron, expected, rtol=1e-3, atol=1e-6)


def test_top_images_ranks_them_as_their_maps_do(vit):
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    found = captum_vit.top_images(vit, images, k=2, sites=["blocks.1.query", "blocks.1.output"], progress=False)
    for name in ("blocks.1.query", "blocks.1.output"):
        means = vit.patch_map(images, f"{name}:3").mean(dim=(1, 2))
        assert [image.index for image in found.best(f"{name}:3")] == means.topk(2).indices.tolist()


def test_a_card_shows_one(vit):
    card = neuron_card(vit, NEURON, SIX_PHOTOS[:3], steps=1, model="deit_micro", progress=False)
    assert card.address == NEURON
    assert len(card.photos) == 3
    assert card.photo.patch_map.shape == (8, 8)


def test_a_copy_has_probes_of_its_own():
    tiny = TINY_MODELS["deit"]
    vit = captum_vit.adapt(tiny.build(), sites="all")
    other = copy.deepcopy(vit)
    images = torch.randn(1, 3, *tiny.image_size)
    seen: list[Tensor] = []
    other.layer("blocks.1.key").register_forward_hook(lambda module, inputs, output: seen.append(output))
    vit(images)
    assert not seen
    other(images)
    assert len(seen) == 1
    assert torch.equal(vit.patch_map(images, "blocks.1.key:2"), seen[0][:, 2])


# --- commands


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("folder")
def test_commands_take_their_addresses_as_they_are(tmp_path):
    run("render", "deit_micro", "blocks.1.query:0", "blocks.1:3", "--steps", 1, "--out", tmp_path / "renders")
    names = {path.stem for path in (tmp_path / "renders").glob("blocks*.png")}
    assert names == {"blocks.1.query-0", "blocks.1-3"}
    run("patch-map", "deit_micro", "blocks.1.output:3", SIX_PHOTOS[0], "--out", tmp_path / "maps")
    assert np.load(next((tmp_path / "maps").glob("*.npy"))).shape == (8, 8)
    out = tmp_path / "top.safetensors"
    run("top-images", "deit_micro", "--images", SIX_PHOTOS[0], "--sites", "attn_blocks_1_key", "--out", out)
    assert captum_vit.TopImages.load(out).sites == ("blocks.1.key",)


@pytest.mark.usefixtures("folder")
def test_sites_are_listed_by_kind():
    assert "blocks.1.query" not in run("sites", "deit_micro")
    listed = run("sites", "deit_micro", "--kind", "attention", "--kind", "output")
    assert "attn_blocks_1_query" in listed
    assert "ffn_blocks_1_output" in listed
    assert "24 sites" in listed
    assert "30 sites" in run("sites", "deit_micro", "--kind", "all")
    result = CliRunner().invoke(cli.app, ["sites", "deit_micro", "--kind", "heads"])
    assert result.exit_code == 2
    assert "there are feed_forward, attention, output, and all" in result.output


def test_a_model_is_loaded_with_them():
    with captum_vit.load_model("deit_micro", sites=["attention", "output"]) as vit:
        assert {site.kind for site in vit.sites} == {"attention", "output"}
