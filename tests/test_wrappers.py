"""What stands around a model: the image reaches the model as it should, once, and maps keep their place in it."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation
from families import SIX_FAMILIES
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

import captum_vit
from captum_vit.errors import GridError, PreprocessingWarning, UnsupportedModelError, ZeroAttributionWarning
from captum_vit.probes.preprocessing import Preprocessing

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Scaled(nn.Module):
    """From 0 … 255 to [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return images / 255


class Lightning(nn.Module):
    """Keeps the model as an attribute, and normalizes in its own forward."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone((images - self.mean) / torch.tensor(STD)[:, None, None])


def tiny(family="deit"):
    return SIX_FAMILIES[family].build()


# What is wrapped around a model.
WRAPPERS = {
    "nothing but a box": nn.Sequential,
    "normalization": lambda m: nn.Sequential(transforms.Normalize(MEAN, STD), m),
    "twice boxed": lambda m: nn.Sequential(nn.Sequential(transforms.Normalize(MEAN, STD)), nn.Sequential(m)),
    "0 to 255": lambda m: nn.Sequential(Scaled(), transforms.Normalize(MEAN, STD), m),
    "another normalization": lambda m: nn.Sequential(transforms.Normalize([0.5] * 3, [0.25] * 3), m),
    "Lightning": Lightning,
    "DataParallel": nn.DataParallel,
}


def reaching_the_stem(vit, work):
    """The images that came to the model's stem during some work."""
    seen: list[Tensor] = []
    stem = vit._path.stem
    hook = stem.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    try:
        work()
    finally:
        hook.remove()
    return seen


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("name", WRAPPERS)
def test_pixels_come_to_the_model_normalized_once(name, photo):
    wrapper = WRAPPERS[name](tiny()).eval()
    vit = captum_vit.adapt(wrapper)
    bare = captum_vit.adapt(tiny())
    pixels = torch.from_numpy(np.asarray(Image.open(photo))).permute(2, 0, 1)[None] / 255
    expected = bare.preprocessing.normalize(pixels)

    def near(images):
        return torch.allclose(images[-1:], expected, atol=1e-4)

    assert all(near(x) for x in reaching_the_stem(vit, lambda: vit(vit.preprocessing.normalize(pixels))))
    ranked = {}
    for each in (vit, bare):
        work = partial(captum_vit.top_images, each, [photo], 1, progress=False)
        seen = reaching_the_stem(each, lambda work=work, each=each: ranked.update({each: work()}))
        ranked[each] = seen[-1], ranked[each].best("blocks.1:7")[0].activation
    torch.testing.assert_close(ranked[vit][0], ranked[bare][0], rtol=0, atol=1e-4)
    assert ranked[vit][1] == pytest.approx(ranked[bare][1], abs=1e-5)
    torch.testing.assert_close(
        vit.patch_map(vit.preprocessing.normalize(pixels), "blocks.1:7"), bare.patch_map(expected, "blocks.1:7")
    )


@pytest.mark.parametrize("name", WRAPPERS)
def test_renders_of_a_wrapper_are_those_of_the_model(name):
    vit, bare = captum_vit.adapt(WRAPPERS[name](tiny()).eval()), captum_vit.adapt(tiny())
    one, other = (
        captum_vit.render(each, "blocks.1:7", recipe="fourier", steps=4, progress=False) for each in (vit, bare)
    )
    np.testing.assert_allclose(one.images, other.images, atol=1e-3)
    torch.manual_seed(0)
    np.random.seed(0)
    first = captum_vit.render_vis(vit, "blocks.1:7", thresholds=(3,), show_image=False, progress=False)
    torch.manual_seed(0)
    np.random.seed(0)
    second = captum_vit.render_vis(bare, "blocks.1:7", thresholds=(3,), show_image=False, progress=False)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_what_a_wrapper_expects_can_be_told():
    told = Preprocessing((32, 32), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    vit = captum_vit.adapt(nn.Sequential(transforms.Normalize(MEAN, STD), tiny()).eval(), preprocessing=told)
    assert vit.preprocessing == told


class Mixed(nn.Module):
    """Colours of one channel depend on the others: BGR, grey …"""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images):
        return self.model(self.change(images))


@pytest.mark.parametrize(
    "change", [lambda x: x.flip(1), lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1), lambda x: x**2]
)
def test_colours_that_cannot_be_told_are_a_warning_that_says_what_to_do(change):
    with pytest.warns(
        PreprocessingWarning, match=r"cannot be told from test images.*adapt\(model, preprocessing=...\)"
    ):
        captum_vit.adapt(Mixed(tiny(), change).eval())


# --- places


SPATIAL = {
    "resized": (transforms.Resize((32, 32), antialias=True), lambda r, c, h, w: (r * h / 32, c * w / 32)),
    "cropped": (transforms.CenterCrop(32), lambda r, c, h, w: (r + round((h - 32) / 2), c + round((w - 32) / 2))),
    "resized, then cropped": (
        nn.Sequential(transforms.Resize(40, antialias=True), transforms.CenterCrop(32)),
        lambda r, c, h, w: ((r + 4) * h / 40, (c + round((40 * w / h - 32) / 2)) * h / 40),
    ),
}


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("size", [(40, 60), (64, 64)])
def test_maps_keep_their_place_in_the_callers_image(name, size):
    transform, place = SPATIAL[name]
    vit = captum_vit.adapt(nn.Sequential(transform, transforms.Normalize(MEAN, STD), tiny()).eval())
    site = vit.sites[1]
    images = torch.rand(1, 3, *size)
    patch_map = vit.patch_map(images, "blocks.1:7")
    assert site.grid(size) == tuple(patch_map.shape[1:]) == (4, 4)
    rows, columns = site.grid.centres(size)
    expected = [place(8 * cell + 4, 8 * cell + 4, *size) for cell in range(4)]
    np.testing.assert_allclose(rows, [down for down, _ in expected], atol=0.75)
    np.testing.assert_allclose(columns, [across for _, across in expected], atol=0.75)
    assert site.to_image(patch_map, size).shape == (1, *size)
    assert site.feature_mask(size).shape == (1, 1, *size)


def test_a_wrapper_that_turns_the_image_has_no_grid_and_says_so():
    vit = captum_vit.adapt(Mixed(tiny(), lambda x: torch.rot90(x, 1, (2, 3))).eval())
    assert vit.patch_map(torch.rand(1, 3, 32, 32), "blocks.1:7").shape == (1, 4, 4)
    with pytest.raises(GridError, match="keeps no rows and columns"):
        vit.site("blocks.1").grid((32, 32))


# --- what reads the last block


class Dense(nn.Module):
    """Reads the last block's patches, which the model itself never does."""

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, nn.Linear(model.num_features, 3)

    def forward(self, images):
        return self.head(self.model.forward_features(images)[:, 1:].mean(1))


def test_a_wrapper_that_reads_the_last_blocks_patches_gets_no_warning_and_its_attributions():
    vit = captum_vit.adapt(Dense(tiny()).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = vit.layer("blocks.2")
    assert LayerGradientXActivation(vit, layer).attribute(torch.rand(1, 3, 32, 32), target=1).any()


def test_another_pooling_after_adapt_is_followed():
    vit = captum_vit.adapt(tiny())
    with pytest.warns(ZeroAttributionWarning):
        vit.layer("blocks.2")
    vit.model.reset_classifier(4, global_pool="avg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vit.layer("blocks.2")


def test_an_adapted_model_inside_a_wrapper_is_told_apart():
    vit = captum_vit.adapt(tiny())
    with pytest.raises(UnsupportedModelError, match="adapted already"):
        captum_vit.adapt(nn.Sequential(transforms.Normalize(MEAN, STD), vit))
