"""The page of models that are served says what the registered adapters say."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import timm
import torch
from served import LIBRARIES, PAGE, classes_of, own_adapters, place_of, summary

from captum_vit.probes.plugins import registry

ROW = re.compile(r"\| (?P<family>\w+) \| (?P<models>.*?) \| (?P<places>.*?) \| (?P<prefix>.*?) \| (?P<summary>.*) \|")
SAMPLES = [
    "beit_base_patch16_224", "eva02_tiny_patch14_224", "hiera_tiny_224", "levit_128s", "maxvit_nano_rw_256", "resnet18",
    "swin_tiny_patch4_window7_224", "vit_small_patch16_dinov3", "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
]  # fmt: skip


def rows() -> list[dict[str, str]]:
    found = [match.groupdict() for line in PAGE.read_text(encoding="utf-8").splitlines() if (match := ROW.match(line))]
    return [row for row in found if row["family"] != "family"]


def test_every_adapter_has_its_row_with_what_is_good_to_know_and_no_other_has():
    told = {row["family"]: row["summary"] for row in rows()}
    assert told == {adapter.family: summary(adapter) for adapter in own_adapters()}, "run python tests/served.py"


def test_each_library_that_an_adapter_names_classes_of_has_a_section():
    page = PAGE.read_text(encoding="utf-8")
    named = {library for adapter in own_adapters() for library in classes_of(adapter)}
    for library in named:
        assert f"## {LIBRARIES[library]}" in page
    assert {"timm", "transformers", "torchvision", "open_clip"} <= named


@pytest.mark.parametrize("name", SAMPLES)
def test_a_models_row_says_where_its_units_are_and_how_many_prefix_tokens_it_has(name):
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    supported, registered = registry().find(model)
    row = next(row for row in rows() if row["family"] == registered.adapter.family)
    paths = {module: path for path, module in supported.named_modules()}
    sites = tuple(registered.adapter.sites(supported))
    assert any(place_of(site, paths) in row["places"] for site in sites)
    fewest, _, most = row["prefix"].partition("–")
    assert all(int(fewest) <= site.prefix_tokens <= int(most or fewest) for site in sites)


def test_the_number_of_models_is_at_least_what_timm_registers_in_the_modules_that_an_adapter_names():
    counted: Counter[str] = Counter()
    for row in rows():
        if row["models"].isdecimal():
            counted[row["family"]] += int(row["models"])
    for family, modules in {
        "eva": ["eva"],
        "swin": ["swin_transformer", "swin_transformer_v2"],
        "xcit": ["xcit"],
    }.items():
        assert counted[family] >= sum(len(timm.list_models(module=module)) for module in modules)
    assert sum(counted.values()) >= 1149
