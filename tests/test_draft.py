"""Drafted adapters: files that say what was found, readably, and whether the order of tokens was tested."""

from __future__ import annotations

import ast

import pytest
import timm
import torch
from families import TINY_MODELS
from test_cli import run
from test_discovery import FOUND, OneBlock, TokensFirst, Unequal, told
from timm.models.hiera import Hiera
from timm.models.tnt import TNT

import captum_vit
from captum_vit.probes.plugins import registry
from captum_vit.probes.unsupported import advice

SMALL_TNT = {"img_size": 32, "embed_dim": 24, "inner_dim": 8, "depth": 3, "num_heads_inner": 2, "num_heads_outer": 2}


def small_hiera() -> Hiera:
    """Its tokens lie in the order of mask units, which no shape shows."""
    settings = {"img_size": (64, 64), "embed_dim": 24, "num_heads": 1, "stages": (1, 1, 1), "q_pool": 2}
    return Hiera(**settings, mask_unit_size=(4, 4), num_classes=3).eval()


@pytest.mark.parametrize("name", FOUND)
def test_a_draft_adapts_a_model_as_its_adapter_does(name):
    model, size = TINY_MODELS[name].build(), TINY_MODELS[name].image_size
    found = captum_vit.discover(model, size)
    drafted = captum_vit.draft(model, found, order=False)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with captum_vit.adapt(model) as vit:
        expected = [told(site) for site in vit.sites]
        maps = [vit.patch_map(images, f"{site.name}:0") for site in (vit.sites[0], vit.sites[-1])]
    with captum_vit.adapt(model, adapter=drafted.adapter) as vit:
        assert [told(site) for site in vit.sites] == expected
        for site, patch_map in zip((vit.sites[0], vit.sites[-1]), maps, strict=True):
            assert torch.equal(vit.patch_map(images, f"{site.name}:0"), patch_map)


def test_a_draft_reads_as_a_person_would_write_it():
    drafted = captum_vit.draft(TINY_MODELS["convit"].build(), captum_vit.discover(TINY_MODELS["convit"].build(), 32))
    assert (
        '''
    family = "convit"
    models = ("timm.models.convit.ConVit",)

    def sites(self, model):
        """In the order of the forward pass."""
        grid = PatchGrid().through(model.patch_embed.proj)
        for i, block in enumerate(model.blocks[:2]):
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid)
        for i, block in enumerate(model.blocks[2:], start=2):
            yield feed_forward(f"blocks.{i}", reads=block.mlp.fc2, grid=grid, prefix_tokens=1)
'''
        in drafted.text
    )


@pytest.mark.parametrize(
    ("name", "loop"),
    [
        (
            "coat",
            """
        for i, parallel_block in enumerate(model.parallel_blocks):
            yield feed_forward(
                f"parallel_blocks.{i}.mlp2", reads=parallel_block.mlp2.fc2, grid=grid2, prefix_tokens=1
            )
""",
        ),
        (
            "twins_svt",
            """
        for i, block in enumerate(model.blocks[0]):
            yield feed_forward(f"blocks.0.{i}", reads=block.mlp.fc2, grid=grid1)
""",
        ),
        (
            "vit_parallel_things",
            """
        for i, block in enumerate(model.blocks):
            yield feed_forward(f"blocks.{i}.ffns.0", reads=block.ffns[0].mlp.fc2, grid=grid, prefix_tokens=1)
            yield feed_forward(f"blocks.{i}.ffns.1", reads=block.ffns[1].mlp.fc2, grid=grid, prefix_tokens=1)
""",
        ),
    ],
)
def test_blocks_that_repeat_are_written_as_loops(name, loop):
    model = TINY_MODELS[name].build()
    drafted = captum_vit.draft(model, captum_vit.discover(model, TINY_MODELS[name].image_size), order=False)
    assert "".join(loop.split()) in "".join(drafted.text.split()).replace(",)", ")")
    assert max(map(len, drafted.text.splitlines())) <= 120


def test_without_weights_the_order_is_not_tested_and_the_file_says_so():
    model = TINY_MODELS["deit"].build().to("meta")
    drafted = captum_vit.draft(model, captum_vit.discover(model, 32))
    assert drafted.order_holds is None
    assert "Order of the cells: not checked, as the weights have no values." in drafted.text


def test_the_order_test_is_run_and_its_result_is_in_the_file():
    model = TINY_MODELS["pit"].build()
    drafted = captum_vit.draft(model, captum_vit.discover(model, 64))
    assert drafted.order_holds
    assert "tested at all 4 sites, and each cell looks where its grid says" in ast.get_docstring(
        ast.parse(drafted.text)
    )


def test_a_draft_with_tokens_in_another_order_says_so():
    model = small_hiera()
    drafted = captum_vit.draft(model, captum_vit.discover(model, 64))
    assert drafted.order_holds is False
    assert "Order of the cells: FAILED at" in ast.get_docstring(ast.parse(drafted.text))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unequal(), "1 tokens beside those of the image are taken for prefix tokens"),
        (TINY_MODELS["deit"].build(), "The model takes one size of images"),
        (TINY_MODELS["swin"].build(), "were told from numbers of tokens"),
        (TNT(**SMALL_TNT).eval(), "blocks.0.mlp_in and 2 more are left out"),
    ],
)
def test_what_a_person_should_check_is_in_the_file(model, words):
    size = 44 if type(model).__name__ == "SwinTransformer" else 32
    drafted = captum_vit.draft(model, captum_vit.discover(model, size), order=False)
    assert words in " ".join(drafted.text.split())


def test_a_layout_other_than_tokens_is_in_the_file():
    assert (
        'layout="(h w) b c"'
        in captum_vit.draft(TokensFirst(), captum_vit.discover(TokensFirst(), 32), order=False).text
    )


# --- the command, and the error that leads to it


def test_the_command_writes_a_file_that_adapts_the_model(folder):
    result = run("draft", "deit_micro", "--out", "mine.py")
    assert result.exit_code == 0, result.output
    assert "each cell looks where its grid says" in " ".join(result.output.split())
    names: dict[str, object] = {}
    exec((folder / "mine.py").read_text(), names)
    model = captum_vit.load("deit_micro")
    with captum_vit.adapt(model, adapter=names["captum_vit_adapters"]()[0]) as vit:
        drafted = [told(site) for site in vit.sites]
    with captum_vit.adapt(model) as vit:
        assert drafted == [told(site) for site in vit.sites]


def test_the_command_leaves_a_file_that_is_there(folder):
    (folder / "mine.py").write_text("# edited")
    result = run("draft", "deit_micro", "--out", "mine.py")
    assert result.exit_code == 2
    assert "may have been edited" in " ".join(result.output.split())
    assert (folder / "mine.py").read_text() == "# edited"


def test_an_unsupported_model_is_named_with_its_module_and_a_draft_is_offered():
    said = advice(TNT(**SMALL_TNT), [registered.adapter for registered in registry().adapters])
    assert "To adapt timm.models.tnt.TNT itself, draft an adapter with captum_vit.draft(model)" in said
    assert "create_model" not in said


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("transformers.models.dinov2.modeling_dinov2.Dinov2Model", "vit_base_patch14_dinov2"),
        ("transformers.models.swinv2.modeling_swinv2.Swinv2ForImageClassification", "swinv2_tiny_window8_256"),
        ("torchvision.models.vision_transformer.VisionTransformer", "vit_base_patch16_224"),
        ("dinov2.models.vision_transformer.DinoVisionTransformer", "vit_base_patch14_dinov2"),
        ("transformers.models.focalnet.modeling_focalnet.FocalNetModel", None),
    ],
)
def test_another_name_of_the_same_architecture_is_told_if_it_is_served(path, name):
    module, _, kind = path.rpartition(".")
    model = type(kind, (OneBlock,), {"__module__": module})()
    adapters = [registered.adapter for registered in registry().adapters]
    if name is None:
        assert "is served as timm's" not in advice(model, adapters)
    else:
        assert f'timm.create_model("{name}")' in advice(model, adapters)
        with torch.device("meta"):
            assert captum_vit.adapt(timm.create_model(name).eval()).sites
    assert "is served as timm's" not in advice(model, [])
