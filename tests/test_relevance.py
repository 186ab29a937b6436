"""Ranking by relevance: what a neuron contributes to the model's own output, as Captum has it, kept as rankings are."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation
from families import TINY_MODELS
from torch import nn
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import captum_vit
from captum_vit import TopImages, cli
from captum_vit.errors import RankingError, ZeroAttributionWarning
from captum_vit.models import default_photos
from captum_vit.ranking.measure import resolve_measure

# Token pooling and average pooling, several sites in one module, windows, gates, grids that shrink.
KINDS = ["deit", "vit_without_class_token", "vit_swiglu", "coat", "convit", "pit", "swin", "twins_svt"]

pytestmark = pytest.mark.filterwarnings("ignore::captum_vit.errors.ZeroAttributionWarning")


def adapted(name: str):
    return captum_vit.adapt(TINY_MODELS[name].build())


def images_for(name: str, number: int = 5) -> torch.Tensor:
    size = TINY_MODELS[name].image_size
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(0))


def ranked(vit, images, **settings) -> TopImages:
    settings = {"k": len(images), "by": "relevance", "batch_size": 2, "progress": False} | settings
    return captum_vit.top_images(vit, TensorDataset(images), **settings)


def by_captum(vit, site, images, target) -> torch.Tensor:
    """Relevance ``(B, units, rows, columns)`` as Captum gives it."""
    return LayerGradientXActivation(vit, vit.layer(site)).attribute(images, target=target).detach()


def values(top, site) -> torch.Tensor:
    """What was measured of each image and unit, ``(B, units)``."""
    units = top.units[site]
    order = torch.from_numpy(units.positions).argsort(dim=1)
    return torch.from_numpy(units.activations).gather(1, order).T


@pytest.mark.parametrize("name", KINDS)
def test_relevance_is_captums_gradient_times_activation_at_every_site(name):
    vit, images = adapted(name), images_for(name)
    top = ranked(vit, images)
    classes = vit(images).argmax(1)
    assert top.sites == tuple(site.name for site in vit.sites)
    for site in top.sites:
        expected = by_captum(vit, site, images, classes).sum((2, 3))
        torch.testing.assert_close(values(top, site), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("by", "of"),
    [
        ("relevance:3", lambda output: output[:, 3]),
        ("relevance:norm", lambda output: output.norm(dim=1)),
        ("relevance:sum", lambda output: output.sum(1)),
    ],
)
def test_relevance_is_to_the_output_that_was_asked_for(by, of):
    vit, images = adapted("swin"), images_for("swin")
    top = ranked(vit, images, by=by)
    scalar = LayerGradientXActivation(lambda batch: of(vit(batch)), vit.layer("layers.0.blocks.1"))
    expected = scalar.attribute(images).detach().sum((2, 3))
    torch.testing.assert_close(values(top, "layers.0.blocks.1"), expected, rtol=1e-4, atol=1e-6)
    assert top.by == by


def test_contributions_to_a_linear_readout_add_up_to_the_output():
    vit, images = adapted("vit_without_class_token"), images_for("vit_without_class_token")
    block = vit.model.blocks[-1]
    # The class scores as a linear function of the last site: what does not come from it is taken away.
    vit.model.norm, vit.model.fc_norm = nn.Identity(), nn.Identity()
    nn.init.zeros_(block.mlp.fc2.bias)
    with vit.collect(["blocks.2"]) as maps:
        vit(images)
    head = vit.model.head.weight @ block.mlp.fc2.weight
    mean = maps["blocks.2"].mean((2, 3))
    top = ranked(vit, images, by="relevance:4")
    torch.testing.assert_close(values(top, "blocks.2").sum(1), mean @ head[4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["deit", "swin"])
def test_the_patch_of_most_relevance_is_told_under_max(name):
    vit, images = adapted(name), images_for(name)
    top = ranked(vit, images, reduction="max", sites=[vit.sites[0].name])
    maps = by_captum(vit, vit.sites[0].name, images, vit(images).argmax(1))
    for unit in range(0, vit.sites[0].units, 7):
        for image in top.best(f"{vit.sites[0].name}:{unit}"):
            assert image.relevance == pytest.approx(maps[image.index, unit].max().item(), rel=1e-4, abs=1e-7)
            assert maps[image.index, unit][image.patch].item() == pytest.approx(image.relevance, rel=1e-4, abs=1e-7)


def test_a_pass_leaves_weights_hooks_and_flags_as_they_were():
    vit, images = adapted("deit"), images_for("deit")
    flags = [parameter.requires_grad for parameter in vit.parameters()]
    with torch.inference_mode():
        ranked(vit, images)
    assert [parameter.requires_grad for parameter in vit.parameters()] == flags
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert not any(probe.is_watched for probe in vit.ffn.values())


def test_a_ranking_by_relevance_comes_back_from_its_file(tmp_path):
    top = ranked(adapted("deit"), images_for("deit"))
    found = TopImages.load(top.save(tmp_path / "top.safetensors"))
    assert found.by == top.by == "relevance:top"
    assert found.best("blocks.0:3") == top.best("blocks.0:3")
    assert found.reduction == "sum"


def test_parts_merge_to_the_whole():
    vit, images = adapted("pit"), images_for("pit", 6)
    whole, first, second = (ranked(vit, part, k=3) for part in (images, images[:2], images[2:]))
    merged = first.merge(second)
    for site in whole.sites:
        for mine, its in zip(astuple(merged.units[site]), astuple(whole.units[site]), strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("other", ["activation", "relevance:2"])
def test_rankings_that_measure_different_things_do_not_merge(other):
    vit, images = adapted("deit"), images_for("deit")
    first, second = (ranked(vit, images, by=by, reduction="max") for by in ("relevance", other))
    with pytest.raises(RankingError, match=f"by is relevance:top in one and {other} in the other"):
        first.merge(second)


def test_an_image_does_not_pass_its_relevance_off_as_its_activation():
    vit, images = adapted("deit"), images_for("deit")
    by_relevance = ranked(vit, images).best("blocks.0:3")[0]
    by_activation = ranked(vit, images, by="activation").best("blocks.0:3")[0]
    assert by_relevance.relevance == by_relevance.value
    assert by_activation.activation == by_activation.value
    with pytest.raises(RankingError, match="ranked by relevance:top"):
        _ = by_relevance.activation
    with pytest.raises(RankingError, match="ranked by activation"):
        _ = by_activation.relevance


def test_a_model_without_a_classifier_is_measured_by_the_norm_of_its_embedding():
    vit = captum_vit.adapt(TINY_MODELS["deit"].build(num_classes=0))
    assert ranked(vit, images_for("deit")).by == "relevance:norm"
    assert resolve_measure(adapted("deit"), "relevance") == "relevance:top"
    assert resolve_measure(adapted("deit"), "relevance:04") == "relevance:4"


def test_relevance_of_patches_that_never_reach_the_output_is_zero_and_said_to_be():
    vit, images = adapted("deit"), images_for("deit")
    with pytest.warns(ZeroAttributionWarning, match=r"blocks\.2"):
        top = ranked(vit, images, sites=["blocks.2"])
    assert not values(top, "blocks.2").any()


def test_the_command_ranks_by_relevance(folder):
    photos = default_photos()[:4]
    Path("photos.txt").write_text("\n".join(map(str, photos)))
    asked = ["top-images", "deit_micro", "--images", "photos.txt", "--out", "top.safetensors", "--sites", "blocks.4"]
    result = CliRunner().invoke(cli.app, [*asked, "--by", "relevance:3", "--reduction", "sum"])
    assert result.exit_code == 0, result.output
    assert "the 10 best of each unit by sum relevance:3 over the patches" in result.stdout
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        expected = captum_vit.top_images(vit, photos, sites=["blocks.4"], by="relevance:3", progress=False)
    assert TopImages.load("top.safetensors").best("blocks.4:7") == expected.best("blocks.4:7")


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ("fame", 'not by "fame"'),
        ("relevance:best", 'no output "best"'),
        ("relevance:-1", 'no output "-1"'),
        ("relevance:5", "no output 5; it has 0 … 4"),
    ],
)
def test_a_measure_that_means_nothing_is_refused(by, told):
    with pytest.raises(RankingError, match=told):
        ranked(adapted("deit"), images_for("deit"), by=by)


@pytest.mark.parametrize(("by", "reduction"), [("activation", "sum"), ("relevance", "mean")])
def test_each_measure_has_reductions_of_its_own(by, reduction):
    with pytest.raises(RankingError, match=f'no reduction "{reduction}"'):
        ranked(adapted("deit"), images_for("deit"), by=by, reduction=reduction)


def test_an_output_that_is_no_tensor_of_classes_is_refused():
    class Dense(nn.Module):
        def __init__(self, several: bool) -> None:
            super().__init__()
            self.model, self.several = TINY_MODELS["deit"].build(), several
            self.eval()

        def forward(self, images: torch.Tensor):
            tokens = self.model.forward_features(images)
            return (tokens, tokens) if self.several else tokens

    with pytest.raises(RankingError, match=r"gives a tuple.*adapt the model with output="):
        ranked(captum_vit.adapt(Dense(several=True)), images_for("deit"))
    vit = captum_vit.adapt(Dense(several=False))
    with pytest.raises(RankingError, match="relevance:norm"):
        ranked(vit, images_for("deit"))
    assert ranked(vit, images_for("deit"), by="relevance:norm").images == 5
