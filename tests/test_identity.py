"""What tells one thing from another is what is in it: never its name, its description or its place in memory."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from lucent.optvis import objectives

import captum_vit
from captum_vit.optvis.losses import Target
from captum_vit.storage.fingerprint import content_sha256, describe

QUICK = {"recipe": "fourier", "steps": 2, "progress": False}


@pytest.fixture(scope="module")
def vit():
    return captum_vit.adapt(SIX_FAMILIES["deit"].build())


def loss(layers, unit=7):
    return -layers("ffn_blocks_1")[:, unit].mean()


def enclosing(unit):
    return lambda layers: -layers("ffn_blocks_1")[:, unit].mean()


def with_default(unit):
    def objective(layers, unit=unit):
        return -layers("ffn_blocks_1")[:, unit].mean()

    return objective


def reading_a_global(factor):
    program = "def objective(layers):\n    return -factor * layers('ffn_blocks_1')[:, 7].mean()"
    names = {"factor": factor}
    exec(program, names)
    return names["objective"]


def of_a_class_written_anew(unit):
    def call(self, layers):
        return -layers("ffn_blocks_1")[:, 7].mean()

    def other(self, layers):
        return -layers("ffn_blocks_1")[:, 8].mean()

    return type("Objective", (), {"__call__": call if unit == 7 else other, "__module__": "__main__"})()


class Slotted:
    __slots__ = ("unit",)

    def __init__(self, unit):
        self.unit = unit

    def __call__(self, layers):
        return -layers("ffn_blocks_1")[:, self.unit].mean()


class Plain:
    def __init__(self, unit):
        self.unit = unit

    __call__ = Slotted.__call__


class Weighing(torch.nn.Module):
    """Its words and weights are the same whatever the unit."""

    def __init__(self, unit):
        super().__init__()
        self.unit = unit

    def forward(self, layers):
        return -layers("ffn_blocks_1")[:, self.unit].mean()


class Guarded(Plain):
    """Holds what has no content."""

    def __init__(self, unit):
        super().__init__(unit)
        self.lock = threading.Lock()


def keyed(unit):
    weights = {1: 1.0, "1": 2.0} if unit == 7 else {1: 2.0, "1": 1.0}
    return lambda layers: -weights[1] * layers("ffn_blocks_1")[:, 7].mean()


A, B = objectives.channel("ffn_blocks_1", 7), objectives.channel("ffn_blocks_2", 3)
KINDS = {
    "closure": enclosing, "default": with_default, "global": reading_a_global, "class": of_a_class_written_anew,
    "slots": Slotted, "attributes": Plain, "module": Weighing, "keys": keyed,
    "partial": lambda unit: functools.partial(loss, unit=unit),
    "method": lambda unit: Plain(unit).__call__,
    "lucent": lambda unit: objectives.channel("ffn_blocks_1", unit),
    "sum or difference": lambda unit: A + B if unit == 7 else A - B,
    "factor": lambda unit: unit * A,
    "summand": lambda unit: A + unit,
    "sum of a list": lambda unit: objectives.Objective.sum([A, B, unit * A]),
    "direction": lambda unit: objectives.direction("ffn_blocks_1", torch.arange(96.0) + unit),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_objective_made_twice_is_the_same_and_another_is_not(vit, kind):
    make = KINDS[kind]
    keep = [make(7), make(7), make(8)]  # together, so that no place in memory is used twice
    one, again, other = Target.all_of(vit, keep)
    assert one.stream == again.stream != other.stream
    assert one.name == again.name != other.name
    assert one.sha256 is not None
    assert "0x" not in one.name
    assert one == Target.of(vit, keep[0])


def test_the_same_objective_has_the_same_image_in_another_call(vit):
    keep = [enclosing(7), enclosing(7)]
    first, second = (captum_vit.render(vit, each, seed=0, **QUICK) for each in keep)
    np.testing.assert_array_equal(first.images, second.images)


def test_different_objectives_of_one_description_have_streams_names_and_files_of_their_own(vit, tmp_path):
    constant = [lambda layers: 0.0 * layers("input").sum(), lambda layers: -0.0 * layers("input").sum()]
    renders = captum_vit.render(vit, [A + B, A - B, A + 3 * B, *constant], **QUICK)
    assert len({render.neuron for render in renders}) == 5
    assert len(set(renders.save(tmp_path))) == 5
    # What is constant leaves the images where their streams began.
    assert abs(renders[3].image - renders[4].image).max() > 0.05


def test_objectives_without_content_are_stable_and_told_apart_by_their_places(vit):
    targets = Target.all_of(vit, [Guarded(7), "blocks.1:7", Guarded(8), Plain(7)])
    assert [target.sha256 is None for target in targets] == [True, True, True, False]
    assert len({target.stream for target in targets}) == len({target.name for target in targets}) == 4
    assert [target.stream for target in targets[::2]] == [
        target.stream for target in Target.all_of(vit, [Guarded(1), Guarded(2)])
    ]


def test_a_neurons_numbers_follow_from_its_address_alone(vit):
    targets = Target.all_of(vit, ["blocks.1:7", "ffn_blocks_1: 07", "blocks.1:8"])
    assert [target.stream for target in targets] == ["blocks.1:7", "blocks.1:7", "blocks.1:8"]
    assert [target.name for target in targets] == ["blocks.1:7", "blocks.1:7", "blocks.1:8"]


terms = st.tuples(st.sampled_from([-2, -1, 1, 2, 3]), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(terms, min_size=1, max_size=3), min_size=1, max_size=5))
def test_sums_are_told_apart_if_and_only_if_they_are_made_otherwise(vit, sums):
    def made(terms):
        return functools.reduce(lambda a, b: a + b, [f * objectives.channel("ffn_blocks_1", u) for f, u in terms])

    targets = Target.all_of(vit, [made(terms) for terms in sums])
    ways = [tuple(terms) for terms in sums]
    for attribute in ("stream", "name"):
        told = [getattr(target, attribute) for target in targets]
        assert [told.index(each) for each in told] == [ways.index(each) for each in ways]


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.binary(max_size=3))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=2), st.integers(0, 3), st.booleans()), inner, max_size=3),
        st.frozensets(plain, max_size=3),
    ),
    max_leaves=8,
)


def exactly(value):
    """A value in words that tell it from every other, with types."""
    if isinstance(value, list):
        return ["list", *map(exactly, value)]
    if isinstance(value, dict):
        return ["dict", *([exactly(key), exactly(item)] for key, item in value.items())]
    if isinstance(value, frozenset):
        return ["set", *sorted(repr(item) for item in value)]
    return repr(value)


@settings(max_examples=300)
@given(values, values)
def test_values_have_one_checksum_if_and_only_if_they_hold_the_same(one, other):
    def checksum(value):
        return content_sha256(lambda: value)  # enclosed, as in an objective

    def in_order(value):  # texts alone are keys of JSON, which has no order
        words = json.dumps(exactly(value))
        return words if "dict" not in words else json.dumps(exactly(value), sort_keys=True)

    if in_order(one) == in_order(other):
        assert checksum(one) == checksum(other)
    elif "dict" not in in_order(one):
        assert checksum(one) != checksum(other)


def test_what_holds_itself_is_described():
    ring: list[object] = [1]
    ring.append(ring)

    def calls_itself(layers):
        return calls_itself(layers) if layers else ring

    assert content_sha256(ring) == content_sha256(ring)
    assert json.dumps(describe(calls_itself))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_checksums_are_those_of_any_other_process(seed):
    program = (
        "from captum_vit.storage.fingerprint import content_sha256\n"
        "print(content_sha256(lambda x: x in {'a', 'b', 'c', 'd'}), content_sha256({'x', 'y', 'z'}))"
    )
    command = [sys.executable, "-c", program]
    first, other = (
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": each}).stdout
        for each in ("0", seed)
    )
    assert first == other


def test_arrays_are_told_apart_by_shape_and_objects():
    assert content_sha256(np.zeros((2, 3))) != content_sha256(np.zeros((3, 2)))
    one, again, other = (np.array([text], dtype=object) for text in ("".join("ab"), "".join("ab"), "ac"))
    assert content_sha256(one) == content_sha256(again) != content_sha256(other)
