"""Studies of renders: structure and trends on cases worked out by hand, and what the tables say of models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_vit.studies.structure import correlation_width, mean_frequency
from captum_vit.studies.trend import rising_pairs

# J0(1.5211) = 0.5: where a wave that runs in all directions is half correlated, in units of its length over 2 pi.
HALF_CORRELATED = 1.5211 / (2 * np.pi)


def wave(cycles: int, amplitude: float = 0.25, height: int = 64, width: int = 64) -> torch.Tensor:
    """Vertical stripes around grey, (1, 3, height, width)."""
    line = 0.5 + amplitude * torch.cos(2 * torch.pi * cycles * torch.arange(width) / width)
    return line.expand(1, 3, height, width)


@pytest.mark.parametrize("cycles", [1, 4, 16, 31])
def test_a_wave_has_its_own_frequency_and_a_width_of_correlation_that_is_a_part_of_its_length(cycles: int) -> None:
    image = wave(cycles)
    assert mean_frequency(image).item() == pytest.approx(cycles, rel=1e-5)
    assert correlation_width(image).item() == pytest.approx(HALF_CORRELATED / cycles, rel=1e-3)
    assert mean_frequency(image.mT).item() == pytest.approx(cycles, rel=1e-5)  # whichever way it runs


def test_the_mean_frequency_is_weighted_by_the_squares_of_the_amplitudes() -> None:
    image = wave(2, 0.3) + wave(12, 0.1)
    assert mean_frequency(image).item() == pytest.approx((0.09 * 2 + 0.01 * 12) / (0.09 + 0.01), rel=1e-5)


def test_colours_of_one_brightness_have_structure() -> None:
    image = wave(4).clone()
    image[:, 1] = 1 - image[:, 0]
    image[:, 2] = 0.5
    assert mean_frequency(image).item() == pytest.approx(4, rel=1e-5)


def test_frequencies_count_cycles_of_the_shorter_side() -> None:
    assert mean_frequency(wave(8, height=32, width=64)).item() == pytest.approx(4, rel=1e-5)
    assert correlation_width(wave(8, height=32, width=64)).item() == pytest.approx(HALF_CORRELATED / 4, rel=1e-3)


def test_noise_is_correlated_within_a_pixel_and_a_blob_over_its_own_size() -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert correlation_width(noise).item() < 1 / 64
    places = torch.arange(64) - 32
    # A Gauss function of deviation s is half correlated at 2 s sqrt(ln 2); images around the border are far away.
    blob = torch.exp(-(places[:, None] ** 2 + places**2) / (2 * 4.0**2)).expand(1, 3, 64, 64)
    assert correlation_width(blob).item() == pytest.approx(2 * 4 * np.log(2) ** 0.5 / 64, rel=0.05)


def test_images_of_a_batch_are_measured_each_by_itself_and_one_of_one_colour_has_no_structure() -> None:
    batch = torch.cat([wave(3), torch.full((1, 3, 64, 64), 0.3), wave(9)])
    assert mean_frequency(batch).tolist() == pytest.approx([3, float("nan"), 9], rel=1e-5, nan_ok=True)
    assert correlation_width(batch).isnan().tolist() == [False, True, False]


def test_rising_pairs_are_counted_between_groups_and_ties_count_half() -> None:
    assert rising_pairs([[1, 2], [3, 4], [5]]) == (1, 1, 1)
    assert rising_pairs([[5], [3, 4], [1, 2]]) == (0, 0, 0)
    found = rising_pairs([[1, 4], [2, 4]])  # 2 > 1, 2 < 4, 4 > 1, 4 = 4
    assert found is not None
    assert found[0] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert found[1] <= found[0] <= found[2]


def test_groups_without_values_and_groups_alone_tell_no_trend() -> None:
    assert rising_pairs([[1, 2], []]) is None
    assert rising_pairs([[1], [], [2]]) == (1, 1, 1)


def test_the_interval_of_a_trend_narrows_with_the_neurons_and_holds_chance_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    few, many = (rising_pairs(rng.normal(size=(4, count)).tolist(), seed=1) for count in (5, 80))
    assert few is not None
    assert many is not None
    assert few[1] < 0.5 < few[2]
    assert many[2] - many[1] < (few[2] - few[1]) / 2
