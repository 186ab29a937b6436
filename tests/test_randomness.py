"""Counter-based random numbers: the published generator, and nothing in a number but its coordinates."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_vit.optvis.foreign import seeded_generators
from captum_vit.optvis.randomness import Draws, philox, round_keys, stream_key

CPU = torch.device("cpu")

# From kat_vectors of Random123, the authors' own code (Salmon et al. 2011): counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def by_integers(counter, key):
    """Philox 4x32-10 in Python's own integers."""
    a, b, c, d = counter
    for number in range(10):
        k0, k1 = (key[0] + number * 0x9E3779B9) % 2**32, (key[1] + number * 0xBB67AE85) % 2**32
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = q // 2**32 ^ b ^ k0, q % 2**32, p // 2**32 ^ d ^ k1, p % 2**32
    return [a, b, c, d]


def draws(*names, seed=0, steps=10):
    return Draws([stream_key(seed, name) for name in names], steps, CPU)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_the_generator_gives_the_published_words(counter, key, expected):
    assert philox(words(counter), round_keys([tuple(words(key))], CPU)).flatten().tolist() == words(expected)


WORD = st.integers(0, 2**32 - 1)


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
@settings(max_examples=50, deadline=None)
def test_the_generator_is_right_for_any_counter_and_key(counter, key):
    assert philox(counter, round_keys([key], CPU)).flatten().tolist() == by_integers(counter, key)


@given(
    seed=st.integers(0, 2**40),
    step=st.integers(0, 30),
    purpose=st.integers(0, 20),
    count=st.integers(1, 40),
    company=st.lists(st.text(max_size=5), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_a_number_depends_on_seed_neuron_step_purpose_and_element_alone(seed, step, purpose, count, company):
    alone = draws("blocks.1:7", seed=seed, steps=31).at(step, purpose).uniform(count)
    together = draws(*company, "blocks.1:7", seed=seed, steps=500)
    together.at(0, purpose).uniform(count)  # from the start of the run, and not from its middle
    torch.testing.assert_close(together.at(step, purpose).uniform(count)[-1:], alone, rtol=0, atol=0)
    key = stream_key(seed, "blocks.1:7")
    first = by_integers([0, step, purpose * 64, 0], key)[0]
    assert alone[0, 0] == (first >> 8) / 2**24


def test_every_coordinate_changes_the_numbers():
    base = draws("a").at(3, 2).uniform(8)
    others = [
        draws("b").at(3, 2).uniform(8),
        draws("a", seed=1).at(3, 2).uniform(8),
        draws("a").at(4, 2).uniform(8),
        draws("a").at(3, 1).uniform(8),
        base.roll(1),
    ]
    again = draws("a").at(3, 2)
    again.uniform(8)
    others.append(again.uniform(8))  # the second draw of the same transform
    assert all(not torch.equal(base, other) for other in others)


def test_the_numbers_are_distributed_as_they_say():
    one = draws("a").at(0, 1)
    uniform, normal, integers = one.uniform(200_000), one.normal(200_001), one.integers(-3, 3, 70_000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.003
    assert abs(uniform.var() - 1 / 12) < 0.001
    assert normal.shape == (1, 200_001)
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs((normal**4).mean() - 3) < 0.1
    counts = torch.bincount(integers.flatten() + 3)
    assert len(counts) == 7
    assert (counts - 10_000).abs().max() < 500
    assert set(one.choice([0.5, 2.0], 100).flatten().tolist()) == {0.5, 2.0}


def test_no_generator_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    one = draws("a", "b").at(0, 1)
    one.uniform(3), one.normal(3), one.integers(0, 5, 2), one.seeds()
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


def test_threads_get_the_same_numbers():
    found = []
    threads = [threading.Thread(target=lambda: found.append(draws("a").at(2, 1).normal(1000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(found[0], other) for other in found)


def test_foreign_code_draws_from_seeded_generators_which_are_given_back():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def drawn(seed):
        with seeded_generators(seed, CPU):
            return torch.rand(()).item(), np.random.rand(), random.random()

    assert drawn(2**63 + 5) == drawn(2**63 + 5)
    assert all(one != other for one, other in zip(drawn(1), drawn(2), strict=True))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
