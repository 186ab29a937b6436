"""Addresses that name a neuron, and those that do not: the message says what there is."""

from __future__ import annotations

import copy
import json
import pickle
import re
from contextlib import suppress

import pytest
import torch
from families import TINY_MODELS
from hypothesis import given
from hypothesis import strategies as st

import captum_vit
from captum_vit.errors import AddressError
from captum_vit.probes.address import Address
from captum_vit.probes.selection import select_neurons


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(TINY_MODELS["deit"].build())


IMAGES = torch.zeros(1, 3, 32, 32)
# All that take an address, and all that take a site's name.
TAKE_ADDRESS = {
    "address": lambda vit, text: vit.address(text),
    "neuron": lambda vit, text: vit.neuron(text),
    "patch_map": lambda vit, text: vit.patch_map(IMAGES, text),
    "patch_map of several": lambda vit, text: vit.patch_map(IMAGES, ["blocks.0:1", text]),
}
TAKE_SITE = {
    "site": lambda vit, name: vit.site(name),
    "layer": lambda vit, name: vit.layer(name),
    "prefix_layer": lambda vit, name: vit.prefix_layer(name),
    "until": lambda vit, name: vit.until(name).__enter__(),
}
takes_address = pytest.mark.parametrize("use", TAKE_ADDRESS.values(), ids=TAKE_ADDRESS)
takes_site = pytest.mark.parametrize("use", TAKE_SITE.values(), ids=TAKE_SITE)


@takes_address
@pytest.mark.parametrize("text", ["", ":", "blocks.1", "blocks.1:", ":3", "blocks.1:x", "blocks.1:-1", "blocks.1:1.0"])
def test_a_malformed_address_is_an_error_that_shows_a_right_one(vit, use, text):
    with pytest.raises(AddressError, match="is not an address; write a site, a colon and a unit") as error:
        use(vit, text)
    assert f'"{text}"' in str(error.value)
    assert '"blocks.5:42"' in str(error.value)


@takes_address
def test_an_unknown_site_in_an_address_is_an_error_that_lists_the_sites(vit, use):
    for text in ("blocks.3:0", "block.1:0", "blocks.1.mlp:0", "blocks.1:2:0"):
        with pytest.raises(AddressError) as error:
            use(vit, text)
        assert str(error.value).startswith(f'no site "{text.rpartition(":")[0]}" in VisionTransformer; ')
        assert str(error.value).endswith("it has blocks.0, blocks.1, blocks.2")


@takes_site
def test_an_unknown_site_is_an_error_that_lists_the_sites(vit, use):
    for name in ("blocks.3", "", "ffn_blocks_3", "blocks.1:0"):
        with pytest.raises(AddressError, match=r"in VisionTransformer; .*it has blocks\.0, blocks\.1, blocks\.2$"):
            use(vit, name)


@pytest.mark.parametrize(("name", "meant"), [("block.1", "blocks.1"), ("ffn.blocks.1", "ffn_blocks_1")])
def test_a_site_that_is_nearly_spelled_right_is_asked_after(vit, name, meant):
    with pytest.raises(AddressError, match=re.escape(f"did you mean {meant}?")):
        vit.site(name)


def test_another_number_is_not_taken_for_a_slip(vit):
    with pytest.raises(AddressError, match=r'^no site "blocks\.3" in VisionTransformer; it has'):
        vit.site("blocks.3")


def test_many_sites_are_listed_by_the_first_and_the_last():
    vit = captum_vit.adapt(TINY_MODELS["swin"].build())
    with pytest.raises(
        AddressError, match=r"it has layers\.0\.blocks\.0, layers\.0\.blocks\.1 … layers\.2\.blocks\.0$"
    ):
        vit.site("blocks.0")


@takes_address
def test_a_unit_out_of_range_is_an_error_that_gives_the_range(vit, use):
    assert vit.address("blocks.1:95")[1] == 95
    for unit in (96, 10**17):
        with pytest.raises(AddressError, match=f'no unit {unit} at "blocks.1" in VisionTransformer; it has 0 … 95$'):
            use(vit, f"blocks.1:{unit}")
    with pytest.raises(AddressError):
        use(vit, "blocks.1:" + 5000 * "9")  # more digits than Python reads


@given(st.text(max_size=20))
def test_whatever_is_written_it_is_a_neuron_or_an_address_error(vit, text):
    for address in (text, f"blocks.1:{text}", f"{text}:1", f"{text}blocks.1:1"):
        try:
            site, unit = vit.address(address)
        except AddressError:  # any other exception fails the test
            continue
        assert site in vit.sites
        assert 0 <= unit < site.units


@given(st.sampled_from(["blocks.0", "ffn_blocks_0", "blocks.2", "ffn_blocks_2"]), st.integers(0, 95))
def test_a_neuron_may_be_named_as_timm_or_as_lucent_names_its_layer(vit, name, unit):
    site, found = vit.address(f" {name} : {unit} ")
    assert found == unit
    assert name in (site.name, site.layer)


def test_no_address_at_all_is_an_error(vit):
    with pytest.raises(AddressError, match="no neuron to map"):
        vit.patch_map(IMAGES, [])


@pytest.mark.parametrize("address", [42, None, ("blocks.1", 42), b"blocks.1:42"])
def test_an_address_that_is_not_text_is_an_error_that_shows_a_right_one(vit, address):
    for use in (vit.address, vit.neuron, lambda address: vit.patch_map(IMAGES, [address])):
        with pytest.raises(AddressError, match=r'"blocks\.5:42"'):
            use(address)


def test_neurons_of_different_grids_are_no_one_map():
    tiny = TINY_MODELS["swin"]
    vit = captum_vit.adapt(tiny.build())
    images = torch.zeros(1, 3, *tiny.image_size)
    assert vit.patch_map(images, ["layers.0.blocks.0:1", "layers.0.blocks.1:1"]).shape == (1, 2, 11, 11)
    with pytest.raises(AddressError, match=r"layers\.0\.blocks\.0, layers\.1\.blocks\.0 have patch grids of different"):
        vit.patch_map(images, ["layers.0.blocks.0:1", "layers.1.blocks.0:1"])


def test_a_site_without_prefix_tokens_has_no_layer_for_them():
    vit = captum_vit.adapt(TINY_MODELS["convit"].build())
    assert vit.prefix_layer("blocks.2") is vit.prefix["blocks_2"]
    with pytest.raises(AddressError, match=r'"blocks\.1" in ConVit has no prefix tokens'):
        vit.prefix_layer("blocks.1")


class TestAddress:
    """The type: a text that has been checked."""

    SITES = st.from_regex(r"\S(?:[^:]*\S)?", fullmatch=True).filter(lambda site: ":" not in site)
    ADDRESSES = st.builds(lambda site, unit: Address(f"{site}:{unit}"), SITES, st.integers(0, 10**18 - 1))

    @given(SITES, st.integers(0, 10**18 - 1), st.text(" \t\n", max_size=2))
    def test_its_parts_are_those_that_were_written_however_widely(self, site, unit, space):
        address = Address(f"{space}{site}{space}:{space}0{unit if unit < 10**17 else 5}{space}")
        assert address.site == site
        assert address.unit == (unit if unit < 10**17 else 5)
        assert address == f"{address.site}:{address.unit}"

    @given(ADDRESSES)
    def test_it_is_parsed_once(self, address):
        assert Address.parse(address) is address
        assert Address(address) is address
        assert Address.parse(str(address)) == address
        assert type(Address.parse(str(address))) is Address

    @given(ADDRESSES)
    def test_it_is_a_text_like_any_other(self, address):
        assert isinstance(address, str)
        assert {address: 1}[str(address)] == 1
        assert json.loads(json.dumps([address])) == [str(address)]

    @given(ADDRESSES, st.sampled_from(range(pickle.HIGHEST_PROTOCOL + 1)))
    def test_it_survives_pickling_and_copies(self, address, protocol):
        for twin in (pickle.loads(pickle.dumps(address, protocol)), copy.copy(address), copy.deepcopy(address)):
            assert twin == address
            assert type(twin) is Address
            assert (twin.site, twin.unit) == (address.site, address.unit)

    @given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), st.tuples(st.text(), st.integers())))
    def test_whatever_is_none_is_an_address_error(self, garbage):
        with suppress(AddressError):  # any other exception fails the test
            address = Address.parse(garbage)
            assert address == f"{address.site}:{address.unit}"
            assert address.site

    @given(ADDRESSES)
    def test_its_file_name_is_one(self, address):
        assert not set(address.file_name) & set('/\\:*?"<>| \0\n')

    def test_its_file_name_reads_as_it_does(self):
        assert Address("layers.2.blocks.4:17").file_name == "layers.2.blocks.4-17"

    def test_a_model_knows_one_spelling_of_each(self, vit):
        spellings = ("blocks.1:7", "ffn_blocks_1:7", " blocks.1 : 007 ", Address("ffn_blocks_1:7"))
        assert {vit.canonical(spelling) for spelling in spellings} == {"blocks.1:7"}
        assert vit.address(Address("ffn_blocks_1:7")) == (vit.site("blocks.1"), 7)
        assert vit.site("ffn_blocks_1").address(7) == "blocks.1:7"
        assert repr(vit.neuron("ffn_blocks_1:7").extra_repr()) == "'blocks.1:7'"
        with pytest.raises(AddressError, match="no unit 96"):
            vit.canonical("blocks.1:96")

    def test_chosen_neurons_are_addresses(self, vit):
        chosen = select_neurons(vit, ["ffn_blocks_1:7", "blocks.0:2-3", "blocks.1:7"])
        assert chosen == ["blocks.1:7", "blocks.0:2", "blocks.0:3"]
        assert {type(address) for address in chosen} == {Address}
