"""The ranking of units: the best k by value, then by place; whole or in parts, in any order; saved and read back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from families import TINY_MODELS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import captum_vit
from captum_vit import TopImages
from captum_vit.errors import AddressError, CaptumViTError, RankingError, RankingFileError
from captum_vit.ranking import topk
from captum_vit.ranking.ranker import Ranker
from captum_vit.ranking.search import REDUCTIONS
from captum_vit.ranking.topk import (
    EDGES,
    POSITIONS,
    Standings,
    UnitRanking,
    choose_peaks,
    find_peaks,
    from_keys,
    peaks_of_all,
    row_maxima,
    to_keys,
)

# Few different values, so that there are many ties, and what must never be ranked.
ACTIVATIONS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 24), st.just(3)),
    elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3e4, np.nan, np.inf, -np.inf]),
)


def ranking(activations, k=4, *, place=0, with_patches=True, order=None, size=5, find=None) -> TopImages:
    """The ranking of images ``(N, units)`` at one site, added in batches of ``size`` in some order."""
    units = Standings([UnitRanking.empty(activations.shape[1], k, with_patches)], torch.device("cpu"))
    order = np.arange(len(activations)) if order is None else np.array(order)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        peaks = partial(find or look_at_some, maps(activations[batch], batch + place)) if with_patches else None
        units.add(torch.from_numpy(activations[batch]), torch.from_numpy(batch), peaks)
    return TopImages(
        k=k,
        reduction="max" if with_patches else "mean",
        images=len(activations),
        positions=len(activations),
        skipped=(),
        settings={"model": "tiny"},
        units={"blocks.0": units.rankings()[0]},
        sources={n: source(n + place) for n in range(len(activations))},
    )


def maps(activations, images) -> torch.Tensor:
    """Maps ``(B, units, rows, columns)`` whose peaks tell image (the row) and unit (the column)."""
    units = np.arange(activations.shape[1])
    found = np.full((*activations.shape, max(images) + 1, len(units)), -np.inf, dtype=np.float32)
    found[np.arange(len(images))[:, None], units, images[:, None], units] = activations
    return torch.from_numpy(found)


def source(image: int) -> tuple[str, str]:
    return f"{image}.png", f"{image:064x}"


def expected(values, k):
    finite = [(-value, place) for place, value in enumerate(values.tolist()) if np.isfinite(value)]
    return [(place, -value) for value, place in sorted(finite)[:k]]


def saved(result: TopImages, folder) -> bytes:
    return result.save(folder / "ranking.safetensors").read_bytes()


@given(ACTIVATIONS, st.integers(1, 6), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_best_are_those_of_sorting_everything_whatever_the_order_of_batches(activations, k, size, random):
    order = list(range(len(activations)))
    random.shuffle(order)
    result = ranking(activations, k, order=order, size=size)
    for unit in range(3):
        best = result.best(f"blocks.0:{unit}")
        assert [(image.index, image.activation) for image in best] == expected(activations[:, unit], k)
        assert [image.patch for image in best] == [(image.index, unit) for image in best]
        assert [(image.path, image.sha256) for image in best] == [source(image.index) for image in best]


@given(ACTIVATIONS, st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_an_accelerators_way_of_finding_patches_finds_the_same(tmp_path_factory, activations, k, size):
    folder = tmp_path_factory.mktemp("ways")
    expected = saved(ranking(activations, k, size=size), folder)
    assert saved(ranking(activations, k, size=size, find=look_at_all), folder) == expected


def look_at_all(maps, *asked) -> torch.Tensor:
    return choose_peaks(peaks_of_all(maps), *asked)


def look_at_some(maps, *asked) -> torch.Tensor:
    return find_peaks(maps, row_maxima(maps), *asked)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["coat", "pit", "swin"])  # whose grids differ from site to site
def test_sites_are_ranked_together_as_each_by_itself(name, reduction):
    vit = captum_vit.adapt(TINY_MODELS[name].build())
    images = torch.randn(8, 3, *TINY_MODELS[name].image_size, generator=torch.Generator().manual_seed(0))
    before = {site.name: UnitRanking.empty(site.units, 3, reduction == "max") for site in vit.sites}
    found = []
    for together in (False, True):
        ranker = Ranker(vit, REDUCTIONS[reduction], before, together)
        ranker.add(images[:5], range(5))
        ranker = Ranker(vit, REDUCTIONS[reduction], ranker.units(), together)  # as after an interruption
        ranker.add(images[5:], range(5, 8))
        found.append(ranker.units())
    for site in vit.sites:
        by_itself, with_others = (asdict(units[site.name]) for units in found)
        assert all(np.array_equal(by_itself[kind], with_others[kind]) for kind in by_itself)


@pytest.mark.parametrize("find", [look_at_all, look_at_some])
def test_of_several_peaks_the_first_in_row_major_order_is_kept(find):
    # Few different values in maps that lie in memory as tokens do.
    tokens = torch.randint(0, 3, (5, 12, 7), generator=torch.Generator().manual_seed(0)).float()
    found = tokens.unflatten(1, (4, 3)).permute(0, 3, 1, 2)
    columns = torch.arange(5).expand(7, 5)
    kept = find(found, columns, torch.ones(7, 5, dtype=torch.bool), torch.full((7, 5, 2), -1, dtype=torch.int16))
    for unit in range(7):
        for image in range(5):
            assert tuple(kept[unit, image]) == divmod(int(found[image, unit].numpy().argmax()), 3)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["deit", "convit", "swin", "pit_distilled", "twins_svt"])
def test_batches_on_an_accelerator_are_ranked_without_a_read(name, reduction):
    vit = captum_vit.adapt(TINY_MODELS[name].build())
    images = torch.zeros(4, 3, *TINY_MODELS[name].image_size)
    # Tensors without content, on a device that need not be there: whatever the host wants to know of them is an error.
    with FakeTensorMode(allow_non_fake_inputs=True):
        vit.to("cuda")
        units = {site.name: UnitRanking.empty(site.units, 5, reduction == "max") for site in vit.sites}
        ranker = Ranker(vit, REDUCTIONS[reduction], units)
        ranker.add(images, range(4))
        ranker.add(images, range(4, 8))
        (standings,) = ranker._standings
        assert {kept.device.type for kept in (standings.keys, standings.patches, standings.counts)} == {"cuda"}
        with pytest.raises(DataDependentOutputException):
            standings.keys.max().item()


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, POSITIONS - 1))))
def test_keys_are_ordered_as_images_are_ranked_and_give_both_back(images):
    images = [(-np.inf, -1), *images]
    activations, positions = (torch.tensor(column) for column in zip(*images, strict=True))
    keys = to_keys(activations.float(), positions)
    assert [values.tolist() for values in from_keys(keys)] == [activations.tolist(), positions.tolist()]
    assert keys[0] == topk._NOTHING
    by_key = sorted(images, key=dict(zip(images, keys.tolist(), strict=True)).__getitem__, reverse=True)
    assert by_key == sorted(images, key=lambda image: (-image[0], image[1]))


@given(ACTIVATIONS, st.integers(1, 6), st.integers(0, 24), st.booleans())
@settings(max_examples=60, deadline=None)
def test_two_parts_merge_to_the_file_of_the_whole(tmp_path_factory, activations, k, cut, with_patches):
    folder = tmp_path_factory.mktemp("merged")
    whole = ranking(activations, k, with_patches=with_patches)
    first = ranking(activations[:cut], k, with_patches=with_patches)
    second = ranking(activations[cut:], k, place=len(activations[:cut]), with_patches=with_patches)
    assert saved(first.merge(second), folder) == saved(whole, folder)


@given(ACTIVATIONS)
@settings(max_examples=40, deadline=None)
def test_every_image_is_in_one_bin_or_counted_as_not_finite(activations):
    result = ranking(activations)
    for unit in range(3):
        histogram = result.histogram(f"blocks.0:{unit}")
        finite = activations[:, unit][np.isfinite(activations[:, unit])]
        within = np.clip(finite, EDGES[0], EDGES[-1])
        np.testing.assert_array_equal(histogram.counts, np.histogram(within, histogram.edges)[0])
    assert result.not_finite.get("blocks.0", 0) == (~np.isfinite(activations)).sum()


def test_every_number_is_in_the_bin_whose_edges_enclose_it():
    # All beginnings of numbers with several endings, the edges, and what is next to them.
    beginnings = np.arange(2**16, dtype=np.uint32)[:, None] << 16
    numbers = (beginnings | np.array([0, 1, 0x7FFF, 0x8000, 0xFFFF], dtype=np.uint32)).view(np.float32).ravel()
    neighbours = [np.nextafter(EDGES, np.float32(side)) for side in (-np.inf, np.inf)]
    numbers = np.concatenate((numbers, EDGES, *neighbours))
    numbers = numbers[np.isfinite(numbers)]
    bins = Standings([UnitRanking.empty(1, 1, False)], torch.device("cpu")).bins(torch.from_numpy(numbers))
    np.testing.assert_array_equal(bins, np.searchsorted(EDGES[1:-1], numbers, side="right"))


def test_bins_are_narrow_around_zero_and_a_fifth_of_the_activation_further_out():
    widths = np.diff(EDGES)
    assert 0 in EDGES
    assert widths.min() < 0.002
    far = EDGES[:-1] > 0.1
    assert (widths[far] / EDGES[:-1][far]).max() < 0.22
    assert EDGES[-1] == pytest.approx(1000)


def test_a_file_gives_back_what_was_saved(tmp_path):
    activations = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    result = ranking(activations)
    path = result.save(tmp_path / "ranking.safetensors")
    loaded = TopImages.load(path)
    for name in ("k", "reduction", "images", "positions", "skipped", "settings", "sites"):
        assert getattr(loaded, name) == getattr(result, name)
    for unit in range(3):
        address = f"blocks.0:{unit}"
        assert loaded.best(address) == result.best(address)
        np.testing.assert_array_equal(loaded.histogram(address).counts, result.histogram(address).counts)
    before = path.read_bytes()
    assert loaded.save(path).read_bytes() == before


def test_a_file_holds_only_the_images_that_are_ranked(tmp_path):
    def size(images: int) -> int:
        activations = np.random.default_rng(0).normal(size=(images, 3)).astype(np.float32)
        return ranking(activations, with_patches=False).save(tmp_path / "ranking.safetensors").stat().st_size

    assert abs(size(4000) - size(400)) < 200


def test_names_of_files_need_not_be_unicode(tmp_path):
    odd = b"gr\xfc\xdfe \n\x01.png".decode("utf-8", "surrogateescape")
    result = ranking(np.ones((1, 3), dtype=np.float32))
    result.sources[0] = (odd, "00" * 32)
    loaded = TopImages.load(result.save(tmp_path / "ranking.safetensors"))
    assert loaded.best("blocks.0:0")[0].path == odd


@pytest.mark.parametrize("address", ["blocks.0:1", "ffn_blocks_0:1"])
def test_a_unit_is_found_by_the_names_of_this_package_and_of_lucent(address):
    result = ranking(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert [image.index for image in result.best(address)] == [1, 0]


@pytest.mark.parametrize(
    ("address", "message"),
    [("blocks.1:0", 'no site "blocks.1"'), ("blocks.0:3", "0 … 2"), ("blocks.0", "not an address")],
)
def test_a_unit_that_was_not_ranked_is_told(address, message):
    result = ranking(np.ones((1, 3), dtype=np.float32))
    for ask in (result.best, result.histogram):
        with pytest.raises(AddressError, match=message):
            ask(address)


def test_rankings_of_different_things_do_not_merge():
    activations = np.ones((2, 3), dtype=np.float32)
    mean, four = ranking(activations, with_patches=False), ranking(activations)
    with pytest.raises(RankingError, match="reduction is max in one and mean in the other"):
        four.merge(mean)
    with pytest.raises(RankingError, match="k is 4 in one and 5"):
        four.merge(ranking(activations, k=5))


def test_rankings_of_too_many_images_together_do_not_merge():
    half = replace(ranking(np.ones((2, 3), dtype=np.float32)), positions=POSITIONS // 2 + 1)
    with pytest.raises(RankingError, match="of more than"):
        half.merge(half)


@pytest.mark.parametrize(
    "change",
    [{"activations": np.ones((3, 4))}, {"positions": np.ones((3, 3), dtype=np.int64)}, {"patches": np.ones(3)}],
)
def test_a_file_whose_arrays_are_not_of_a_ranking_is_damaged(change, tmp_path):
    result = ranking(np.ones((9, 3), dtype=np.float32))
    result = replace(result, units={"blocks.0": replace(result.units["blocks.0"], **change)})
    with pytest.raises(RankingFileError, match="damaged"):
        TopImages.load(result.save(tmp_path / "ranking.safetensors"))


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "other safetensors", "folder"])
def test_what_is_not_a_ranking_is_an_error_that_names_the_file(kind, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "ranking.safetensors"
    whole = saved(ranking(np.ones((9, 3), dtype=np.float32)), tmp_path)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "other safetensors":
        save_file({"weight": np.ones(3)}, path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"not a ranking" * 9, "truncated": whole[: len(whole) // 2]}[kind])
    with pytest.raises(RankingFileError, match=r"ranking\.safetensors") as caught:
        TopImages.load(path)
    assert isinstance(caught.value, CaptumViTError)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_that_error_or_still_a_ranking(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(saved(ranking(np.ones((3, 3), dtype=np.float32)), folder))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 2500))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    with suppress(RankingFileError):
        assert TopImages.load(path).best
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(RankingFileError):
        TopImages.load(path)


def test_a_file_of_another_format_says_so(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("captum_vit.ranking.storage.FORMAT", "captum-vit top images 9")
        path = ranking(np.ones((1, 3), dtype=np.float32)).save(tmp_path / "ranking.safetensors")
    with pytest.raises(RankingFileError, match='has the format "captum-vit top images 9"'):
        TopImages.load(path)
