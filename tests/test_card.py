"""The neuron card in Python: what it shows is what the model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from families import SIX_FAMILIES
from matplotlib.figure import Figure
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

import captum_vit
from captum_vit.card import Card, eval_crop, most_activating, neuron_card
from captum_vit.card_figure import draw_card
from captum_vit.errors import AddressError
from captum_vit.images import ImageError, read_image
from captum_vit.models import default_photos
from captum_vit.output import OutputError, check_output, replacing
from captum_vit.plots import FORMATS, save_figure

NEURON = "blocks.4:42"


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture(scope="module")
def card(vit) -> Card:
    return neuron_card(vit, NEURON, default_photos(), steps=3, model="deit_micro", progress=False)


def activations(vit, address: str, photos) -> list[float]:
    """The neuron's mean activation on each photo, by timm's own transform and a plain pass."""
    transform = create_transform(**resolve_model_data_config(vit.model), is_training=False)
    images = torch.stack([transform(Image.open(photo).convert("RGB")) for photo in photos])
    return vit.patch_map(images, address).mean(dim=(1, 2)).tolist()


@pytest.mark.parametrize("address", [NEURON, "blocks.0:7", "blocks.5:300"])
def test_the_photo_is_the_one_with_the_largest_mean_activation(vit, address):
    photos = default_photos()
    expected = activations(vit, address, photos)
    photo, skipped = most_activating(vit, address, photos, batch_size=4, progress=False)
    assert photo.path == photos[int(np.argmax(expected))]
    assert photo.activation == pytest.approx(max(expected), abs=1e-4)
    assert not skipped


def test_the_photo_does_not_depend_on_how_many_are_in_memory_at_a_time(vit):
    found = [most_activating(vit, NEURON, default_photos(), batch_size=n, progress=False)[0] for n in (1, 5, 50)]
    assert len({photo.path for photo in found}) == 1
    assert np.ptp([photo.activation for photo in found]) < 1e-5


def test_the_patch_map_and_the_crop_belong_together(vit, card):
    pixels = torch.from_numpy(card.photo.pixels).permute(2, 0, 1)[None]
    patch_map = vit.patch_map(vit.preprocessing.normalize(pixels), NEURON)
    torch.testing.assert_close(torch.from_numpy(card.photo.patch_map), patch_map[0])
    assert card.photo.activation == pytest.approx(patch_map.mean().item())
    heat = vit.site("blocks.4").to_image(patch_map[0], (64, 64))
    torch.testing.assert_close(torch.from_numpy(card.photo.heat), heat)


def test_the_activation_of_the_optimized_image_is_that_of_a_clean_pass(vit, card):
    pixels = torch.from_numpy(card.optimized.image).permute(2, 0, 1)[None]
    activation = vit.neuron(NEURON)(vit.preprocessing.normalize(pixels))
    assert card.optimized.activation == pytest.approx(activation.item(), rel=1e-4)


def test_the_optimized_image_excites_the_neuron_more_than_any_photo(vit):
    card = neuron_card(vit, NEURON, default_photos(), steps=40, progress=False)
    assert card.optimized.activation > card.photo.activation


def test_the_same_seed_gives_the_same_card_and_another_seed_another(vit, card):
    again = neuron_card(vit, NEURON, default_photos(), steps=3, progress=False)
    other = neuron_card(vit, NEURON, default_photos(), steps=3, seed=1, progress=False)
    np.testing.assert_array_equal(again.optimized.image, card.optimized.image)
    assert np.abs(other.optimized.image - card.optimized.image).max() > 0.05


def test_the_global_random_numbers_are_left_alone(vit):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(0)
    np.random.seed(0)
    neuron_card(vit, NEURON, default_photos()[:1], steps=2, progress=False)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("size", [(300, 200), (80, 400), (64, 64)])
@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_the_crop_is_that_of_timms_evaluation_transform(name, size, tmp_path: Path):
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    photo = Image.effect_noise(size, 90).convert("RGB")
    photo.save(tmp_path / "photo.png")
    expected = create_transform(**resolve_model_data_config(model), is_training=False)(photo)
    with captum_vit.adapt(model) as vit:
        pixels = eval_crop(vit)(read_image(tmp_path / "photo.png"))
        torch.testing.assert_close(vit.preprocessing.normalize(pixels), expected, atol=1e-5, rtol=1e-5)


def test_the_crop_of_a_wrapped_model_is_that_of_the_model_inside():
    model = captum_vit.load("deit_micro")
    image = read_image(default_photos()[0])
    with captum_vit.adapt(model) as vit:
        expected = eval_crop(vit)(image)
    with captum_vit.adapt(nn.Sequential(nn.Identity(), model).eval()) as vit:
        assert torch.equal(eval_crop(vit)(image), expected)


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_a_neuron_of_every_family_has_a_card(family, tmp_path: Path):
    tiny = SIX_FAMILIES[family]
    with captum_vit.adapt(tiny.build()) as vit:
        site = vit.sites[1]
        card = neuron_card(vit, f"{site.name}:3", default_photos()[:2], steps=2, progress=False)
        assert card.photo.patch_map.shape == site.grid(vit.preprocessing.size)
        assert card.optimized.image.shape == card.photo.pixels.shape == (*vit.preprocessing.size, 3)
        save_figure(draw_card(card), tmp_path / "card.png", dpi=40)
    assert Image.open(tmp_path / "card.png").width > 300


def test_the_model_has_no_hook_left_even_when_the_card_fails():
    model = captum_vit.load("deit_micro")
    with pytest.raises(ImageError), captum_vit.adapt(model) as vit:
        neuron_card(vit, NEURON, ["missing.jpg"], progress=False)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_files_that_cannot_be_read_are_skipped_and_named(vit, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    photos = [tmp_path / "broken.jpg", *default_photos()]
    card = neuron_card(vit, NEURON, photos, steps=1, progress=False)
    assert card.photos == len(default_photos())
    assert len(card.skipped) == 1
    assert "broken.jpg" in card.skipped[0]


def test_no_readable_photo_at_all_is_an_error(vit, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"none of 1 files.*broken\.jpg"):
        most_activating(vit, NEURON, [tmp_path / "broken.jpg"], progress=False)


def test_an_unknown_neuron_is_an_error_before_any_work(vit):
    with pytest.raises(AddressError, match=r'no site "blocks.9"'):
        neuron_card(vit, "blocks.9:1", ["missing.jpg"], progress=False)


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_the_figure_tells_everything_that_repeats_it(card):
    told = words(draw_card(card))
    for fact in ("blocks.4:42", "deit_micro", "3 steps", "fourier", "seed 0", card.photo.path.name, "8×8"):
        assert fact in told
    for activation in (card.optimized.activation, card.photo.activation):
        assert f"{activation:.3g}".replace("-", "−") in told


def test_the_figure_shows_the_three_images_and_a_bar_in_activations(card):
    figure = draw_card(card)
    optimized, photo, over, bar = figure.axes
    np.testing.assert_array_equal(optimized.images[0].get_array(), card.optimized.image)
    np.testing.assert_array_equal(photo.images[0].get_array(), card.photo.pixels)
    assert over.images[0].get_array().shape == card.photo.pixels.shape
    assert bar.get_ylim() == pytest.approx((card.photo.patch_map.min(), card.photo.patch_map.max()))


def test_nothing_of_the_figure_overlaps_or_leaves_it(card):
    figure = draw_card(card)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.get_tightbbox() for axes in figure.axes]
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    for index, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:index]) == 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_figures_are_saved_in_every_format_named(card, suffix, tmp_path: Path):
    path = tmp_path / f"card{suffix}"
    save_figure(draw_card(card), path, dpi=40)
    assert path.stat().st_size > 1000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_is_whole_or_not_there(tmp_path: Path):
    path = tmp_path / "card.png"
    path.write_text("before")

    def write_half() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [file.name for file in tmp_path.iterdir()] == ["card.png"]
    assert path.read_text() == "before"


def test_a_link_goes_on_pointing_at_the_file_that_is_replaced(tmp_path: Path):
    (tmp_path / "real.png").write_text("before")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    with replacing(tmp_path / "link.png") as partial:
        partial.write_text("after")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_text() == "after"


def test_checking_a_place_leaves_it_as_it_is(tmp_path: Path):
    (tmp_path / "card.png").write_text("before")
    check_output(tmp_path / "card.png", FORMATS)
    check_output(tmp_path / "new.PDF", FORMATS)
    assert [file.name for file in tmp_path.iterdir()] == ["card.png"]
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, FORMATS)
