"""The neuron card in Python: what it shows is what the model computes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from families import SIX_FAMILIES, plain
from figures import overlaps, shown, words
from hypothesis import given
from hypothesis import strategies as st
from photos import SIX_PHOTOS
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

import captum_vit
from captum_vit.cards.card import Card, neuron_card, neuron_cards
from captum_vit.cards.figure import draw_card, draw_cards
from captum_vit.cards.histogram import HistogramLayout
from captum_vit.cards.photos import Photo
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import read_image
from captum_vit.errors import AddressError, CardError, ImageError, OutputError, StaleRankingError
from captum_vit.plots import FORMATS, save_figure
from captum_vit.probes.grid import PatchGrid
from captum_vit.ranking.result import Histogram, TopImages
from captum_vit.storage.files import check_output, replacing

NEURON = "blocks.4:42"


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture(scope="module")
def card(vit) -> Card:
    return neuron_card(vit, NEURON, SIX_PHOTOS, steps=3, model="deit_micro", progress=False)


@pytest.fixture(scope="module")
def ranking(vit) -> TopImages:
    return captum_vit.top_images(vit, SIX_PHOTOS, k=3, sites=["blocks.3", "blocks.4"], progress=False)


def quick(vit, photos, addresses=(NEURON,), **settings) -> tuple[Card, ...]:
    return neuron_cards(vit, addresses, photos, steps=1, progress=False, **settings)


def activations(vit, address: str, photos) -> list[float]:
    """The neuron's mean activation on each photo, by timm's own transform and a plain pass."""
    transform = create_transform(**resolve_model_data_config(vit.model), is_training=False)
    images = torch.stack([transform(Image.open(photo).convert("RGB")) for photo in photos])
    return vit.patch_map(images, address).mean(dim=(1, 2)).tolist()


# --- photos


@pytest.mark.parametrize("address", [NEURON, "blocks.0:7", "blocks.5:300"])
def test_the_photos_are_those_with_the_largest_mean_activations_best_first(vit, address):
    photos = SIX_PHOTOS
    expected = activations(vit, address, photos)
    order = np.argsort(expected)[::-1][:4]
    (card,) = quick(vit, photos, [address], k=4)
    assert [photo.path for photo in card.photos] == [photos[index] for index in order]
    assert [photo.activation for photo in card.photos] == pytest.approx([expected[index] for index in order], abs=1e-4)
    assert card.photo is card.photos[0]
    assert card.images == len(photos)
    assert not card.skipped


def test_the_histogram_counts_every_image_where_its_activation_is(vit):
    photos = SIX_PHOTOS
    (card,) = quick(vit, photos)
    expected, _ = np.histogram(activations(vit, NEURON, photos), card.histogram.edges)
    np.testing.assert_array_equal(card.histogram.counts, expected)


def test_where_there_are_fewer_photos_than_asked_for_the_card_shows_those(vit):
    (card,) = quick(vit, SIX_PHOTOS[:2], k=4)
    assert len(card.photos) == 2
    assert len(draw_card(card).axes) == 2 + 2 * 3 + 1


def test_cards_of_many_neurons_are_the_cards_of_each(vit):
    addresses = ["blocks.4:42", "blocks.0:7", "ffn_blocks_4:43"]
    together = quick(vit, SIX_PHOTOS, addresses, batch_size=2)
    assert [card.address for card in together] == ["blocks.4:42", "blocks.0:7", "blocks.4:43"]
    for card in together:
        (alone,) = quick(vit, SIX_PHOTOS, [card.address])
        assert [photo.path for photo in card.photos] == [photo.path for photo in alone.photos]
        for photo, same in zip(card.photos, alone.photos, strict=True):
            np.testing.assert_allclose(photo.patch_map, same.patch_map, atol=1e-5)
        np.testing.assert_allclose(card.optimized.image, alone.optimized.image, atol=1e-4)
        np.testing.assert_array_equal(card.histogram.counts, alone.histogram.counts)


def test_the_patch_map_and_the_crop_belong_together(vit, card):
    for photo in card.photos:
        pixels = torch.from_numpy(photo.pixels).permute(2, 0, 1)[None]
        patch_map = vit.patch_map(vit.preprocessing.normalize(pixels), NEURON)
        torch.testing.assert_close(torch.from_numpy(photo.patch_map), patch_map[0])
        assert photo.activation == pytest.approx(patch_map.mean().item(), abs=1e-5)
        heat = vit.site("blocks.4").to_image(patch_map[0], (64, 64))
        torch.testing.assert_close(torch.from_numpy(photo.heat), heat)


def test_the_photos_of_a_card_share_one_scale_of_colours(card):
    low, high = card.scale
    assert low == min(photo.patch_map.min() for photo in card.photos)
    assert high == max(photo.patch_map.max() for photo in card.photos)
    for photo in card.photos:
        np.testing.assert_allclose(card.relative_heat(photo) * (high - low) + low, photo.heat, atol=1e-5)


def photo_with_peak(grid: PatchGrid, size: tuple[int, int], peak: tuple[int, int]) -> Photo:
    patch_map = np.zeros(grid(size), dtype=np.float32)
    patch_map[peak] = 1
    return Photo(Path("photo.jpg"), np.zeros((*size, 3), dtype=np.float32), 0.1, patch_map, grid)


@given(
    data=st.data(),
    patch=st.integers(1, 16),
    overlap=st.integers(0, 15),
    cells=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_the_crop_lies_in_the_photo_and_holds_the_peak_and_its_neighbours(data, patch, overlap, cells):
    stride = max(1, patch - overlap)
    grid = PatchGrid.patches(patch, stride=stride)
    height, width = size = tuple(patch + stride * (count - 1) for count in cells)
    peak = data.draw(st.tuples(*(st.integers(0, count - 1) for count in cells)))
    photo = photo_with_peak(grid, size, peak)
    assert photo.peak == peak
    assert photo.crop.shape[:2] == (min(height, 3 * stride), min(width, 3 * stride)) or 1 in cells
    for box, centres, index, pixels in zip(photo.box, grid.centres(size), peak, size, strict=True):
        assert 0 <= box.start < box.stop <= pixels
        assert box.start <= centres[index] <= box.stop


def test_the_crop_is_centred_on_a_peak_away_from_the_border():
    photo = photo_with_peak(PatchGrid.patches(8), (64, 96), (4, 2))
    assert photo.box == (slice(24, 48), slice(8, 32))


def test_files_that_cannot_be_read_are_skipped_and_named(vit, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    (card,) = quick(vit, [tmp_path / "broken.jpg", *SIX_PHOTOS])
    assert card.images == len(SIX_PHOTOS)
    assert len(card.skipped) == 1
    assert "broken.jpg" in card.skipped[0]


def test_no_readable_photo_at_all_is_an_error(vit, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"none of 1 files.*broken\.jpg"):
        quick(vit, [tmp_path / "broken.jpg"])


def test_an_unknown_neuron_is_an_error_before_any_work(vit):
    with pytest.raises(AddressError, match=r'no site "blocks.9"'):
        neuron_card(vit, "blocks.9:1", ["missing.jpg"], progress=False)


def test_no_neuron_at_all_is_an_error(vit):
    with pytest.raises(CardError, match="addresses is empty; give at least one, such as"):
        quick(vit, SIX_PHOTOS, [])


# --- rankings made before


def test_a_saved_ranking_gives_the_same_card_as_the_photos(vit, ranking, tmp_path: Path):
    (expected,) = quick(vit, SIX_PHOTOS, k=3)
    (card,) = quick(vit, TopImages.load(ranking.save(tmp_path / "top.safetensors")), k=3)
    assert [photo.path for photo in card.photos] == [photo.path for photo in expected.photos]
    np.testing.assert_array_equal(card.histogram.counts, expected.histogram.counts)
    assert card.images == expected.images


@pytest.fixture
def own_photos(tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(photo, tmp_path)) for photo in SIX_PHOTOS[:3]]


def test_a_photo_that_changed_since_the_ranking_is_an_error(vit, own_photos):
    ranked = captum_vit.top_images(vit, own_photos, k=3, sites=["blocks.4"], progress=False)
    shutil.copy(own_photos[1], own_photos[0])
    with pytest.raises(StaleRankingError, match=f"{own_photos[0].name} is not the file that was ranked"):
        quick(vit, ranked)


def test_a_photo_that_is_gone_since_the_ranking_is_an_error(vit, own_photos):
    ranked = captum_vit.top_images(vit, own_photos, k=3, sites=["blocks.4"], progress=False)
    own_photos[2].unlink()
    with pytest.raises(StaleRankingError, match=f"{own_photos[2].name} was ranked but cannot be read"):
        quick(vit, ranked)


def test_the_ranking_of_other_weights_is_an_error(ranking):
    model = captum_vit.load("deit_micro")
    nn.init.zeros_(model.head.bias) if isinstance(model.head, nn.Linear) else nn.init.zeros_(model.norm.bias)
    with captum_vit.adapt(model) as other, pytest.raises(StaleRankingError, match="other weights"):
        quick(other, ranking)


def test_the_ranking_of_another_class_of_models_is_an_error(vit, ranking):
    with captum_vit.adapt(SIX_FAMILIES["swin"].build()) as other, pytest.raises(StaleRankingError, match="ranked by a"):
        quick(other, ranking, [f"{other.sites[0].name}:3"])


def test_a_ranking_at_another_input_size_is_an_error():
    with captum_vit.adapt(plain().build(img_size=32, dynamic_img_size=True)) as vit:
        ranked = captum_vit.top_images(vit, SIX_PHOTOS[:2], k=2, sites=["blocks.1"], progress=False)
        with pytest.raises(StaleRankingError, match="ranked at 48×32 pixels, and this model takes 32×32"):
            quick(vit, replace(ranked, settings={**ranked.settings, "size": [48, 32]}), ["blocks.1:3"])


def test_a_site_that_was_not_ranked_is_an_error_that_lists_those_that_were(vit, ranking):
    with pytest.raises(AddressError, match=r"blocks\.3, blocks\.4"):
        quick(vit, ranking, ["blocks.0:1"])


def test_a_ranking_of_images_without_files_is_an_error(vit):
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    ranked = captum_vit.top_images(vit, images, k=2, sites=["blocks.4"], progress=False)
    with pytest.raises(StaleRankingError, match="images without files"):
        quick(vit, ranked)


def test_a_ranking_of_another_crop_is_an_error(vit):
    class Upside(torch.utils.data.Dataset):
        files = tuple(map(str, SIX_PHOTOS))

        def __len__(self):
            return len(self.files)

        def __getitem__(self, index):
            return vit.preprocessing.normalize(eval_crop(vit)(read_image(self.files[index])).flip(1) * 0.2)

    ranked = captum_vit.top_images(vit, Upside(), k=2, sites=["blocks.4"], progress=False)
    with pytest.raises(StaleRankingError, match="another crop"):
        quick(vit, ranked, ["blocks.4:307"])


def test_photos_may_be_ranked_by_their_largest_patch(vit):
    ranked = captum_vit.top_images(vit, SIX_PHOTOS, k=2, sites=["blocks.4"], reduction="max", progress=False)
    (card,) = quick(vit, ranked)
    assert card.photos[0].activation == pytest.approx(card.photos[0].patch_map.max(), abs=1e-5)
    assert "max over 8×8 patches" in words(draw_card(card))
    assert HistogramLayout.of(card).optimized is None  # a mean over patches does not compare


# --- optimized images


def test_the_activation_of_the_optimized_image_is_that_of_a_clean_pass(vit, card):
    pixels = torch.from_numpy(card.optimized.image).permute(2, 0, 1)[None]
    activation = vit.neuron(NEURON)(vit.preprocessing.normalize(pixels))
    assert card.optimized.activation == pytest.approx(activation.item(), rel=1e-4)


def test_the_optimized_image_excites_the_neuron_more_than_any_photo(vit):
    card = neuron_card(vit, NEURON, SIX_PHOTOS, steps=40, progress=False)
    assert card.optimized.activation > card.photos[0].activation


def test_the_same_seed_gives_the_same_card_and_another_seed_another(vit, card):
    again = neuron_card(vit, NEURON, SIX_PHOTOS, steps=3, progress=False)
    other = neuron_card(vit, NEURON, SIX_PHOTOS, steps=3, seed=1, progress=False)
    np.testing.assert_array_equal(again.optimized.image, card.optimized.image)
    assert np.abs(other.optimized.image - card.optimized.image).max() > 0.05


def test_the_global_random_numbers_are_left_alone(vit):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(0)
    np.random.seed(0)
    neuron_card(vit, NEURON, SIX_PHOTOS[:1], steps=2, progress=False)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


# --- crops and families


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
    image = read_image(SIX_PHOTOS[0])
    with captum_vit.adapt(model) as vit:
        expected = eval_crop(vit)(image)
    with captum_vit.adapt(nn.Sequential(nn.Identity(), model).eval()) as vit:
        assert torch.equal(eval_crop(vit)(image), expected)


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_a_neuron_of_every_family_has_a_card(family, tmp_path: Path):
    tiny = SIX_FAMILIES[family]
    with captum_vit.adapt(tiny.build()) as vit:
        site = vit.sites[1]
        card = neuron_card(vit, f"{site.name}:3", SIX_PHOTOS[:2], steps=2, progress=False)
        for photo in card.photos:
            assert photo.patch_map.shape == site.grid(vit.preprocessing.size)
            assert card.optimized.image.shape == photo.pixels.shape == (*vit.preprocessing.size, 3)
        save_figure(draw_card(card), tmp_path / "card.png", dpi=40)
    assert Image.open(tmp_path / "card.png").width > 250


def test_the_model_has_no_hook_left_even_when_the_card_fails():
    model = captum_vit.load("deit_micro")
    with pytest.raises(ImageError), captum_vit.adapt(model) as vit:
        neuron_card(vit, NEURON, ["missing.jpg"], progress=False)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


# --- the histogram's layout


@given(
    counts=st.lists(st.integers(0, 10**6), min_size=3, max_size=40),
    optimized=st.floats(-1e4, 1e4),
    start=st.floats(-100, 100),
)
def test_bars_and_ticks_of_any_histogram_have_their_places(card, counts, optimized, start):
    edges = np.linspace(start, start + 7, len(counts) + 1, dtype=np.float32)
    histogram = Histogram(edges, np.array(counts, dtype=np.int32))
    changed = replace(card, photos=(), histogram=histogram, optimized=replace(card.optimized, activation=optimized))
    layout = HistogramLayout.of(changed)
    assert len(layout.bars) == sum(count > 0 for count in counts)
    for left, width, height in layout.bars:
        assert left >= -1e-6
        assert left + width <= 1 + 1e-6
        assert 0 < height <= 1
    places = [place for place, _ in layout.ticks]
    assert places == sorted(places)
    assert len(places) >= 2
    assert all(-1e-6 <= place <= 1 + 1e-6 for place in places)


def test_higher_bars_and_places_further_right_mean_more(card):
    histogram = Histogram(np.array([0, 1, 3, 10], dtype=np.float32), np.array([1, 100, 10], dtype=np.int32))
    changed = replace(card, photos=(), histogram=histogram, optimized=replace(card.optimized, activation=5))
    layout = HistogramLayout.of(changed)
    lefts, widths, heights = zip(*layout.bars, strict=True)
    assert lefts[0] < lefts[1] < lefts[2] < layout.optimized < lefts[2] + widths[2]
    assert heights[0] < heights[2] < heights[1]
    assert heights[1] - heights[2] == pytest.approx(heights[2] - heights[0])  # logarithmic
    assert [label for _, label in layout.ticks] == ["0", "1", "3", "10"]


@pytest.mark.parametrize("activation", [float("nan"), float("inf")])
def test_an_activation_that_is_not_finite_has_no_place(card, activation):
    changed = replace(card, optimized=replace(card.optimized, activation=activation))
    assert HistogramLayout.of(changed).optimized is None
    assert overlaps(draw_card(changed)) == 0


def test_an_optimized_image_far_off_is_off_the_scale(card):
    histogram = Histogram(np.arange(200, dtype=np.float32), np.eye(1, 199, dtype=np.int32)[0])
    for activation, told in ((150.0, "optimized →"), (0.5, None)):
        changed = replace(
            card, photos=(), histogram=histogram, optimized=replace(card.optimized, activation=activation)
        )
        assert (HistogramLayout.of(changed).optimized > 1) == (told is not None)
        texts = [text.get_text() for axes in draw_card(changed).axes for text in axes.texts]
        assert texts == ([told] if told else [])


# --- the figure


def test_the_figure_tells_everything_that_repeats_it(card):
    told = words(draw_card(card))
    names = [photo.path.name for photo in card.photos]
    for fact in ("blocks.4:42", "deit_micro", "3 steps", "steady", "seed 0", "8×8", "best 4 of 6 images", *names):
        assert fact in told
    for activation in (card.optimized.activation, *(photo.activation for photo in card.photos)):
        assert f"{activation:.3g}".replace("-", "−") in told


def test_the_figure_shows_each_photo_its_map_and_its_crop_on_one_scale(card):
    optimized, *tiles, bar, _ = draw_card(card).axes
    np.testing.assert_array_equal(shown(optimized), card.optimized.image)
    for column, photo in enumerate(card.photos):
        whole, over, crop = tiles[3 * column : 3 * column + 3]
        np.testing.assert_array_equal(shown(whole), photo.pixels)
        assert shown(over).shape == photo.pixels.shape
        np.testing.assert_array_equal(shown(crop), photo.crop)
        rows, columns = photo.box
        for boxed in (whole, over):
            for box in boxed.patches:
                assert box.get_bbox().bounds == (columns.start - 0.5, rows.start - 0.5, 24, 24)
    assert bar.get_ylim() == pytest.approx(card.scale)


def test_the_histogram_marks_the_photos_and_the_optimized_image(card):
    card = replace(card, optimized=replace(card.optimized, activation=-0.1))
    histogram = draw_card(card).axes[-1]
    layout = HistogramLayout.of(card)
    assert [line.get_xdata()[0] for line in histogram.lines] == [*layout.photos, layout.optimized]
    assert len(histogram.patches) == len(layout.bars)


def test_a_problem_with_the_optimized_image_is_on_the_card(card):
    dead = replace(card, optimized=replace(card.optimized, problem="dead: it never rose"))
    assert "Means little: dead: it never rose" in words(draw_card(dead))


def test_a_neuron_without_a_finite_activation_has_a_card(card):
    empty = replace(card, photos=())
    assert "No image has a finite activation" in words(draw_card(empty))
    with pytest.raises(CardError, match=r"blocks\.4:42 has a finite activation on no image"):
        _ = empty.photo


def test_file_names_are_shown_as_they_are_or_shortened(card):
    names = ("$x^2$.jpg", "a_very_long_name_of_a_photo_of_a_flower.jpg", "f\udce9.jpg")
    photos = tuple(replace(photo, path=Path("photos") / name) for photo, name in zip(card.photos, names, strict=False))
    figure = draw_card(replace(card, photos=photos))
    figure.canvas.draw()
    assert "$x^2$.jpg" in words(figure)
    assert "a_very_long…flower.jpg" in words(figure)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize("problem", [None, "dead: the activation never rose above its start (-0.159, at first -0.159)"])
def test_nothing_of_the_figure_overlaps_or_leaves_it(card, count, problem):
    changed = replace(card, photos=card.photos[:count], optimized=replace(card.optimized, problem=problem))
    assert overlaps(draw_card(changed)) == 0


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_nothing_overlaps_where_images_are_not_square(size):
    with captum_vit.adapt(plain().build(img_size=size)) as vit:
        card = neuron_card(vit, "blocks.1:3", SIX_PHOTOS, steps=2, progress=False)
    assert overlaps(draw_card(card)) == 0


def test_cards_are_drawn_below_one_another_as_they_are_alone(card):
    other = replace(card, photos=card.photos[:1], address="blocks.4:43")
    figure, heights = draw_cards([card, other]), [draw_card(each).get_figheight() for each in (card, other)]
    assert figure.get_figheight() == pytest.approx(sum(heights))
    assert overlaps(figure) == 0
    assert words(figure).index("blocks.4:42") < words(figure).index("blocks.4:43")
    with pytest.raises(CardError, match="no card to draw"):
        draw_cards([])


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
