"""The study of position finds what is known of models: that patches keep their place, or have none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import Adapter, PatchGrid, cli, feed_forward
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.studies import Study, position
from captum_vit.studies.displacement import displacement, distances, replaced
from captum_vit.studies.figures import draw_study
from captum_vit.studies.variance import interval_within, share_within

SIZE = 32


class Known(nn.Module):
    """Patches of 8 pixels, then of 16, each by itself; then the mean of all in the place of each."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 6, 8, stride=8)
        self.merge = nn.Conv2d(6, 6, 2, stride=2)
        self.apart, self.merged, self.pooled = (nn.Conv2d(6, 6, 1) for _ in range(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.apart(self.patch_embed(images).relu())
        merged = self.merged(self.merge(patches))
        return self.pooled(merged.mean((2, 3), keepdim=True).expand_as(merged)).mean((2, 3))


class KnownSites(Adapter):
    """Describes it."""

    family = "known"
    models = (Known,)

    def sites(self, model):
        grid = PatchGrid.patches(8)
        yield feed_forward("apart", reads=model.apart, grid=grid, layout="b c h w")
        for name in ("merged", "pooled"):
            yield feed_forward(name, reads=getattr(model, name), grid=grid.then(2, 2), layout="b c h w")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of noise, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def known() -> AdaptedModel:
    torch.manual_seed(0)
    seen = Preprocessing((SIZE, SIZE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return captum_vit.adapt(Known().eval(), adapter=KnownSites(), preprocessing=seen)


@pytest.fixture(scope="module")
def study(known: AdaptedModel, photos: Path) -> Study:
    return position(known, photos, name="known", patches=3, progress=False)


@pytest.mark.parametrize("site", ["apart", "merged"])
def test_a_model_that_sees_patches_one_by_one_keeps_their_place_exactly(study: Study, site: str) -> None:
    (row,) = (row for row in study.rows if row["site"] == site)
    assert row["units at the patch"] == 1
    assert row["energy at the patch"] == pytest.approx(1)
    assert row["distance"] == pytest.approx(0, abs=1e-6)
    assert row["peaks lost elsewhere"] <= 0.3  # to the patch, where it now is larger
    assert row["grid"] == {"apart": "4x4", "merged": "2x2"}[site]


def test_a_model_that_pools_has_no_place_for_a_patch(study: Study) -> None:
    row = study.rows[-1]
    assert row["chance"] == 1 / 4
    assert row["units at the patch"] == pytest.approx(1 / 4)
    assert row["energy at the patch"] == pytest.approx(1 / 4)
    assert row["distance"] == pytest.approx(1)
    assert row["peaks lost there"] is None  # a map without a peak loses none
    assert row["variance within images"] == pytest.approx(0, abs=1e-6)
    assert [row["depth"] for row in study.rows] == [0, 0.5, 1]


def test_a_convnet_is_asked_at_each_of_its_grids(photos: Path) -> None:
    torch.manual_seed(0)
    seen = Preprocessing((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with captum_vit.adapt(timm.create_model("resnet10t").eval(), preprocessing=seen) as net:
        study = position(net, photos, patches=2, limit=4, progress=False)
    assert list(dict.fromkeys(row["grid"] for row in study.rows)) == ["16x16", "8x8", "4x4", "2x2"]
    # Its first block sees some dozen pixels: what changes elsewhere, of 64 by 64, is near.
    assert study.rows[0]["distance"] < 0.4
    for row in study.rows:
        assert row["energy at the patch"] > row["chance"]


def test_each_image_is_used_or_left_out_for_a_reason(study: Study, known: AdaptedModel, photos: Path) -> None:
    assert study.models["known"]["images"] == 6
    (reason,) = study.left_out("known")
    assert "broken.png" in reason
    some = position(known, sorted(photos.glob("?.png")), name="known", limit=4, progress=False)
    assert some.models["known"]["images"] == 4
    assert some.left_out("known") == {"not among the 4 that were drawn": 2}


def test_the_batch_does_not_matter(study: Study, known: AdaptedModel, photos: Path) -> None:
    again = position(known, photos, name="known", patches=3, batch_size=1, progress=False)
    for row, other in zip(study.rows, again.rows, strict=True):
        assert {name: value for name, value in row.items() if isinstance(value, float)} == pytest.approx(
            {name: value for name, value in other.items() if isinstance(value, float)}, abs=1e-5
        )


def test_what_a_folder_keeps_is_not_measured_again_or_with_other_settings(
    known: AdaptedModel, photos: Path, tmp_path: Path
) -> None:
    first = position(known, photos, patches=1, keep=tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"position.csv", "position.json"}
    assert position(known, photos, patches=1, keep=tmp_path, progress=False) == first
    with pytest.raises(StudyError, match="measured with other patches"):
        position(known, photos, patches=2, keep=tmp_path, progress=False)


def test_what_a_change_comes_to_is_what_it_comes_to_by_hand() -> None:
    before = torch.tensor([[5.0, 0, 0], [0, 3, 0], [1, 1, 1]])
    after = torch.tensor([[1.0, 0, 2], [0, 0, 3], [1, 1, 1]])  # changes by 4, 0, 2; 0, 3, 3; nothing
    maps = torch.stack((before, after)).view(1, 2, 3, 1, 3)
    between = distances(PatchGrid.patches(8), (8, 24))
    assert between.tolist() == [[0, 8, 16], [8, 0, 8], [16, 8, 0]]
    (found,) = displacement(maps, torch.tensor([[0]]), between)
    units, energy, distance, there, elsewhere = found.tolist()
    assert units == [1, 2]  # the first of two that change
    assert energy == pytest.approx([16 / 38, 1])  # 16, 9 and 4 + 9
    assert distance == pytest.approx([(9 * 8 + 13 * 16) / 38 / 8, 1])  # 8 is the mean of 0, 8 and 16
    assert there == [1, 1]  # the first unit's peak was there, and is at the last cell now
    assert elsewhere == [1, 1]  # the second's was not, and has moved too; the third has none


def test_a_unit_that_changes_alike_at_two_cells_counts_half() -> None:
    maps = torch.tensor([[0.0, 0, 0], [2, 2, 1]]).view(1, 2, 1, 1, 3)
    assert displacement(maps, torch.tensor([[1]]), torch.ones(3, 3))[0, 0].tolist() == [0.5, 1]


def test_one_patch_is_replaced_by_what_lies_half_an_image_away() -> None:
    images = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = PatchGrid.patches(2).feature_mask((4, 6))[0, 0]
    copies = replaced(images, mask, torch.tensor([[0], [4]]))
    assert copies.shape == (2, 2, 3, 4, 6)
    torch.testing.assert_close(copies[:, 0], images)
    expected = images.clone()
    expected[0, :, :2, :2] = images[0, :, 2:, 3:5]
    expected[1, :, 2:, 2:4] = images[1, :, :2, [5, 0]]
    torch.testing.assert_close(copies[:, 1], expected)


def test_variance_within_images_is_its_share_of_all_variance() -> None:
    # Within images 2 and 4, of which the mean is 3; their means 1 and 3 vary by 1. The second unit does not vary.
    means, variances = np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([[2.0, 0.0], [4.0, 0.0]])
    assert share_within(means, variances) == pytest.approx(3 / 4)
    assert share_within(means[:, 1:], variances[:, 1:]) is None
    maps = np.random.default_rng(0).normal(100, 1, (9, 1, 5)) + np.arange(9)[:, None, None]
    share = share_within(maps.mean(2), maps.var(2))
    assert share == pytest.approx(maps.var(2).mean() / maps.var())
    low, high = interval_within(maps.mean(2), maps.var(2)) or (1, 0)
    assert 0 < low < high < 1


def test_the_command_measures_several_models_whose_grids_shrink(photos: Path, folder: Path) -> None:
    asked = ["study", "position", "deit_micro", "swin_micro", "--images", photos, "--out", "out"]
    asked += ["--patches", "2", "--limit", "5"]
    result = CliRunner().invoke(cli.app, list(map(str, asked)))
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "out").iterdir()} == {f"position.{end}" for end in ("csv", "json", "png")}
    written = json.loads((folder / "out" / "position.json").read_text())
    assert {"patches": 2, "limit": 5, "seed": 0}.items() <= written["settings"].items()
    assert {row["grid"] for row in written["rows"] if row["model"] == "swin_micro"} == {"16x16", "8x8"}
    for row in written["rows"]:
        assert row["units at the patch"] > row["chance"]
    assert "2 left out: not among the 5 that were drawn" in result.output
    figure = draw_study(Study.load(folder / "out" / "position.json"))
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["deit_micro", "swin_micro"]


def test_arguments_that_mean_nothing_are_refused(known: AdaptedModel, photos: Path) -> None:
    with pytest.raises(StudyError, match="patches is 0"):
        position(known, photos, patches=0)
    with pytest.raises(StudyError, match="needs two that can be read"):
        position(known, [photos / "0.png"], progress=False)
