"""What docs/atlas-format.md says is enough to read an atlas: here nothing of the package reads one."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from safetensors.numpy import load_file

import captum_vit
from captum_vit.models import default_photos

PAGE = Path(__file__).parents[1] / "docs" / "atlas-format.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return captum_vit.make_atlas(
        tmp_path_factory.mktemp("atlases") / "atlas",
        "swin_micro",  # whose sites have grids of different shapes
        default_photos()[:7],
        neurons=["layers.0.blocks.1:3-22", "layers.1.blocks.2:random:3"],
        device="cpu",
        progress=False,
        relevance=True,
        **{"steps": 1, "k": 4, "units_a_piece": 18, "images_a_piece": 3, "batch_size": 9},
    )


@pytest.fixture(scope="module")
def folder(made):
    return made.folder


@pytest.fixture(scope="module")
def manifest(folder):
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("captum-vit atlas", 2)
    return content


def rows(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def tile(path, number, size, a_row):
    height, width = size
    row, column = divmod(number, a_row)
    with Image.open(path) as sheet:
        box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        assert box[2] <= sheet.width
        assert box[3] <= sheet.height
        return np.asarray(sheet.convert("RGB").crop(box))


def pieces(manifest):
    for part, sites in enumerate(manifest["parts"]):
        for site, of_site in sites.items():
            for runs in of_site:
                units = [unit for first, last in runs for unit in range(first, last + 1)]
                yield part, site, units, f"renders/{site}/{units[0]:06d}-{units[-1]:06d}"


def test_renders_follow_from_the_manifest(made, folder, manifest):
    in_a_sheet = manifest["pictures"]["tiles"]
    a_row = math.ceil(math.sqrt(in_a_sheet))
    seen = []
    for _, site, units, name in pieces(manifest):
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert content["site"] == site
        assert [record["unit"] for record in content["neurons"]] == units
        assert load_file(folder / f"{name}.safetensors")["vectors"].shape[0] == len(units)
        for number, record in enumerate(content["neurons"]):
            address = f"{site}:{record['unit']}"
            sheet = folder / f"{name}-{number // in_a_sheet:04d}.webp"
            pixels = tile(sheet, number % in_a_sheet, manifest["pictures"]["render_size"], a_row)
            np.testing.assert_array_equal(pixels, made[address].render)
            assert record == made[address].record
            seen.append(address)
    assert sorted(seen) == sorted(made)


def test_photos_and_maps_follow_from_the_tables(made, folder, manifest):
    images = rows(folder / "images.parquet")
    assert [image["index"] for image in images] == list(range(7))
    grids = {site["name"]: site["grid"] for site in manifest["sites"]}
    pictures, size = manifest["pictures"], manifest["work"]["images_a_piece"]
    a_row = math.ceil(math.sqrt(pictures["tiles"]))
    found = {}
    for first in range(0, 7, size):
        name = f"photos/0/{first:08d}-{min(first + size, 7) - 1:08d}"
        for row in rows(folder / f"{name}.parquet"):
            levels = np.frombuffer(row["map"], dtype=np.uint8).reshape(grids[row["site"]])
            patch_map = row["low"] + levels / 255 * (row["high"] - row["low"])
            thumbnail = tile(folder / f"{name}-{row['sheet']:04d}.webp", row["tile"], pictures["photo_size"], a_row)
            found[row["by"], row["site"], row["unit"], row["rank"]] = images[row["image"]]["name"], patch_map, thumbnail
    for address in made:
        for by, photos in zip(manifest["rankings"], (made[address].photos, made[address].relevant), strict=True):
            assert len(photos) == 4
            for rank, photo in enumerate(photos):
                name, patch_map, thumbnail = found[by, address.site, address.unit, rank]
                assert name == photo.name
                np.testing.assert_allclose(patch_map, photo.patch_map, atol=1e-5)
                np.testing.assert_array_equal(thumbnail, photo.thumbnail)
    assert len(found) == 2 * 4 * len(made)


@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_rankings_are_arrays_by_site(made, folder, manifest, by):
    arrays = load_file(folder / f"rankings/{by}.safetensors")
    names = json.loads(arrays["sources/paths"].tobytes())
    name_of = dict(zip(arrays["sources/positions"].tolist(), names, strict=True))
    for site in manifest["sites"]:
        assert arrays[f"{site['name']}/activations"].shape == (site["units"], manifest["k"])
        assert (arrays[f"{site['name']}/counts"].sum(1) + arrays[f"{site['name']}/not_finite"] == 7).all()
    for address in made:
        positions = arrays[f"{address.site}/positions"][address.unit].tolist()
        photos = made[address].photos if by == "activation" else made[address].relevant
        assert [name_of[position] for position in positions] == [photo.name for photo in photos]
    steps = np.linspace(-1, 1, 129)
    np.testing.assert_allclose(made[address].histogram.edges, 0.01 * np.sinh(steps * np.arcsinh(1e5)), rtol=1e-5)


def test_the_table_has_the_columns_that_the_page_tells(folder):
    section = PAGE.read_text(encoding="utf-8").split("## neurons.parquet")[1].split("\n## ")[0]
    told = [
        name for line in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    assert sorted(told) == sorted(pyarrow.parquet.read_schema(folder / "neurons.parquet").names)


def test_the_fields_of_the_manifest_are_those_that_the_page_tells(manifest):
    section = PAGE.read_text(encoding="utf-8").split("## manifest.json")[1].split("\n## ")[0]
    told = [
        name for line in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    assert told == list(manifest)


def test_no_file_tells_where_it_was_made(folder):
    own = [path for path in folder.rglob("*") if path.is_file()]
    home = str(default_photos()[0].parent).encode()
    assert own
    assert not [path for path in own if home in path.read_bytes() or str(folder).encode() in path.read_bytes()]
