"""Studies of renders: structure and trends on cases worked out by hand, and what the tables say of models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figures import shown
from PIL import Image
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.models import default_photos
from captum_vit.optvis.rendering import render_batches
from captum_vit.optvis.results import Render
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.attention import Scored, attention, three_blocks
from captum_vit.studies.control import untrained
from captum_vit.studies.depth import depth
from captum_vit.studies.figures import draw_study
from captum_vit.studies.rendered import measure_all
from captum_vit.studies.sheets import attention_sheet, depth_sheet
from captum_vit.studies.structure import correlation_width, mean_frequency
from captum_vit.studies.study import Study
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


PHOTOS = default_photos()[:16]  # ten are a neuron's strongest, and six are others
SITES = ["blocks.1", "blocks.3"]
# Six steps are enough for some renders to mean something, at both of these sites.
QUICK: dict[str, Any] = {"units": 2, "steps": 6, "progress": False}


@pytest.fixture(scope="module")
def vit() -> Iterator[AdaptedModel]:
    with captum_vit.adapt(captum_vit.load("deit_micro"), sites="all") as adapted:
        yield adapted


@pytest.fixture(scope="module")
def control() -> AdaptedModel:
    return untrained("deit_micro", seed=3)


@pytest.fixture(scope="module")
def of_depth(vit: AdaptedModel, control: AdaptedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    keep = tmp_path_factory.mktemp("depth")
    return depth(vit, control, name="deit", sites=SITES, keep=keep, **QUICK), keep


@pytest.fixture(scope="module")
def of_attention(vit: AdaptedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    keep = tmp_path_factory.mktemp("attention")
    return attention(vit, PHOTOS, name="deit", keep=keep, **QUICK), keep


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The neurons that are rendered from now on."""
    seen: list[str] = []

    def batches(vit: AdaptedModel, neurons: Any, *args: Any, **settings: Any) -> Any:
        seen.extend(neurons)
        return render_batches(vit, neurons, *args, **settings)

    monkeypatch.setattr("captum_vit.optvis.folder.render_batches", batches)
    return seen


def test_a_control_has_other_weights_of_the_same_shapes_and_leaves_random_numbers_alone(control: AdaptedModel) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    again = untrained("deit_micro", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    own, learned = control.model.state_dict(), captum_vit.load("deit_micro").state_dict()
    assert {name: each.shape for name, each in own.items()} == {name: each.shape for name, each in learned.items()}
    assert all(torch.equal(each, own[name]) for name, each in again.model.state_dict().items())
    assert not torch.equal(own["blocks.0.mlp.fc1.weight"], learned["blocks.0.mlp.fc1.weight"])


def test_depth_has_the_mean_of_the_renders_at_each_site_for_learned_and_random_weights(
    of_depth: tuple[Study, Path], vit: AdaptedModel, control: AdaptedModel
) -> None:
    study, _ = of_depth
    places = [(row["weights"], row["site"], row["depth"]) for row in study.rows]
    sites = [("blocks.1", 0.0), ("blocks.3", 1.0), ("all", None)]
    assert places == [(weights, *site) for weights in ("learned", "random") for site in sites]
    neurons = study.models["deit"]["neurons"]
    addresses = [neuron["neuron"] for neuron in neurons["learned"]]
    assert addresses == [neuron["neuron"] for neuron in neurons["random"]]  # the same places
    for weights, model in (("learned", vit), ("random", control)):
        made = captum_vit.render(model, addresses[2:], steps=6, progress=False)
        (row,) = (row for row in study.rows if row["weights"] == weights and row["site"] == "blocks.3")
        means_something = [render.problem is None for render in made]
        assert (row["units"], row["failed"]) == (sum(means_something), 2 - sum(means_something))
        images = torch.from_numpy(made.images[means_something]).permute(0, 3, 1, 2)
        # Of pictures with 8 bits, which are kept, and not of floating-point ones.
        assert row["frequency"] == pytest.approx(mean_frequency(images).mean().item(), rel=0.02)
        assert row["scale"] == pytest.approx(correlation_width(images).mean().item(), rel=0.02)


def test_depth_counts_pairs_of_the_deeper_and_the_shallower_site(of_depth: tuple[Study, Path]) -> None:
    study, _ = of_depth
    frequencies: dict[str, list[float]] = {site: [] for site in SITES}
    for neuron in study.models["deit"]["neurons"]["learned"]:
        if neuron["problem"] is None:
            frequencies[neuron["neuron"].partition(":")[0]].append(neuron["frequency"])
    pairs = [late > early for early in frequencies["blocks.1"] for late in frequencies["blocks.3"]]
    assert pairs
    (row,) = (row for row in study.rows if row["weights"] == "learned" and row["site"] == "all")
    assert row["finer with depth"] == pytest.approx(sum(pairs) / len(pairs))


def test_depth_goes_on_with_the_renders_that_are_missing(
    of_depth: tuple[Study, Path], vit: AdaptedModel, control: AdaptedModel, tmp_path: Path, rendered: list[str]
) -> None:
    study, keep = of_depth
    shutil.copytree(keep, tmp_path / "kept")
    for file in (tmp_path / "kept").glob("depth.*"):
        file.unlink()
    lost = sorted((tmp_path / "kept" / "renders" / "deit" / "random").glob("blocks.3-*.json"))[0]
    lost.unlink()
    again = depth(vit, control, name="deit", sites=SITES, keep=tmp_path / "kept", batch_size=1, **QUICK)
    assert rendered == [lost.stem.replace("-", ":")]
    assert again.columns == study.columns
    assert again.rows[:3] == study.rows[:3]
    rendered.clear()
    kept = depth(vit, control, name="deit", sites=SITES, keep=tmp_path / "kept", **QUICK)
    assert kept == again
    assert not rendered


def test_a_control_of_another_architecture_is_refused(vit: AdaptedModel) -> None:
    with pytest.raises(StudyError, match=r"no site blocks\.0 with 512 units"):
        depth(vit, untrained("pit_micro"), **QUICK)


def test_attention_has_each_kind_at_the_first_block_the_one_half_way_and_the_last(
    of_attention: tuple[Study, Path],
) -> None:
    study, _ = of_attention
    ends = {"query": ".query", "key": ".key", "value": ".value", "hidden": "", "output": ".output"}
    blocks = [("blocks.0", "first"), ("blocks.2", "middle"), ("blocks.5", "last")]
    expected = [
        (kind, *place)
        for kind, end in ends.items()
        for place in [*((block + end, depth) for block, depth in blocks), ("all", None)]
    ]
    assert [(row["kind"], row["site"], row["depth"]) for row in study.rows] == expected
    assert study.models["deit"]["without"] == []
    assert study.models["deit"]["images"] == len(PHOTOS)


@pytest.mark.parametrize(
    ("model", "queries", "hidden"),
    [
        (
            "twins_micro",
            ["blocks.0.0.query", "blocks.1.0.query", "blocks.1.3.query"],
            ["blocks.0.0", "blocks.1.0", "blocks.1.3"],
        ),
        (
            "coat_micro",
            [
                "serial_blocks1.0.query",
                "parallel_blocks.0.factoratt_crpe2.query",
                "parallel_blocks.1.factoratt_crpe4.query",
            ],
            ["serial_blocks1.0", "parallel_blocks.0.mlp2", "parallel_blocks.1.mlp4"],
        ),
    ],
)
def test_three_sites_of_a_kind_are_its_first_the_one_half_way_and_its_last(
    model: str, queries: list[str], hidden: list[str]
) -> None:
    with captum_vit.adapt(captum_vit.load(model), sites="all") as vit:
        chosen = three_blocks(vit.sites)
        assert list(chosen) == ["query", "key", "value", "hidden", "output"]
        assert [site.name for site in chosen["query"]] == queries
        assert [site.name for site in chosen["hidden"]] == hidden


def test_attention_takes_neurons_that_a_photo_excites_and_counts_renders_above_the_strongest(
    of_attention: tuple[Study, Path], vit: AdaptedModel
) -> None:
    study, _ = of_attention
    crop = eval_crop(vit)
    images = vit.preprocessing.normalize(torch.stack([crop(open_rgb(photo)) for photo in PHOTOS]))
    above: dict[str, list[bool]] = {}
    for neuron in study.models["deit"]["neurons"]:
        with torch.no_grad():
            strongest = vit.patch_map(images, neuron["neuron"]).mean((1, 2)).max().item()
        assert strongest > 0
        assert neuron["strongest photo"] == pytest.approx(strongest, rel=1e-4)
        is_above = neuron["problem"] is None and neuron["activation"] > strongest
        above.setdefault(neuron["neuron"].partition(":")[0], []).append(is_above)
        assert 0 <= neuron["agreement"] <= 1
    shares = {row["site"]: row["above photos"] for row in study.rows if row["site"] != "all"}
    assert shares == {site: pytest.approx(sum(each) / len(each)) for site, each in above.items()}


@pytest.mark.parametrize(
    ("activation", "worst", "problem", "above", "steadily"),
    [
        (3.0, 2.5, None, True, True),
        (3.0, 1.0, None, True, False),
        (2.0, 2.0, None, False, False),
        (3.0, float("nan"), None, True, False),
        (3.0, 3.0, "not excited", False, False),
    ],
)
def test_a_render_is_above_the_photos_if_it_means_something_and_excites_more(
    activation: float, worst: float, problem: str | None, above: bool, steadily: bool
) -> None:
    image = wave(4)[0].permute(1, 2, 0).numpy().astype(np.float32)
    render = Render("blocks.0:1", image, np.zeros(1, np.float32), activation, 0.0, {}, problem, worst)
    (measured,) = measure_all([render])
    scored = Scored(measured, strongest=2.0, agreement=None)
    assert (scored.above, scored.steadily_above) == (above, steadily)
    assert scored.record["frequency"] == pytest.approx(4, rel=1e-3)


def test_attention_goes_on_where_it_stopped(
    of_attention: tuple[Study, Path], vit: AdaptedModel, tmp_path: Path, rendered: list[str]
) -> None:
    study, keep = of_attention
    shutil.copytree(keep, tmp_path / "kept")
    for file in (tmp_path / "kept").glob("attention.*"):
        file.unlink()
    again = attention(vit, PHOTOS, name="deit", keep=tmp_path / "kept", **QUICK)
    assert not rendered
    assert again == study


def test_a_model_without_attention_as_sites_is_measured_without_and_one_with_one_kind_is_refused() -> None:
    with captum_vit.adapt(captum_vit.load("deit_micro"), sites=["feed_forward", "output"]) as vit:
        study = attention(vit, PHOTOS, name="deit", **{**QUICK, "units": 1})
        assert study.models["deit"]["without"] == ["query", "key", "value"]
        assert {row["kind"] for row in study.rows} == {"hidden", "output"}
    with (
        captum_vit.adapt(captum_vit.load("deit_micro")) as vit,
        pytest.raises(StudyError, match='hidden only; adapt it with sites="all"'),
    ):
        attention(vit, PHOTOS, **QUICK)


def test_sheets_show_each_render_in_the_row_of_its_site(
    of_depth: tuple[Study, Path], of_attention: tuple[Study, Path], tmp_path: Path
) -> None:
    sheet = depth_sheet(of_depth[0], "deit", of_depth[1])
    assert len(sheet.axes) == 2 * 2 * 2
    assert {*SITES, "learned weights", "random weights"} <= {text.get_text() for text in sheet.texts}
    sheet = attention_sheet(of_attention[0], "deit", of_attention[1])
    assert len(sheet.axes) == len(of_attention[0].models["deit"]["neurons"]) == 15 * 2
    neuron = of_attention[0].models["deit"]["neurons"][0]["neuron"]
    first = of_attention[1] / "renders" / "deit" / f"{neuron.replace(':', '-')}.png"
    np.testing.assert_array_equal(shown(sheet.axes[0]), np.asarray(Image.open(first).convert("RGB")))
    with pytest.raises(StudyError, match="is not in the study's folder any more"):
        attention_sheet(of_attention[0], "deit", tmp_path)


@pytest.mark.parametrize("name", ["depth", "attention"])
def test_studies_of_renders_are_drawn(
    name: str, of_depth: tuple[Study, Path], of_attention: tuple[Study, Path]
) -> None:
    study = of_depth[0] if name == "depth" else of_attention[0]
    figure = draw_study(study)
    assert len(figure.axes) == (2 if name == "depth" else 3)
    assert any(axes.has_data() for axes in figure.axes)


def test_the_commands_write_tables_pictures_and_sheets(folder: Path, tmp_path: Path) -> None:
    quick = ["--units", "1", "--steps", "2", "--out", "study"]
    told = CliRunner().invoke(cli.app, ["study", "depth", "deit_micro", "--site", "blocks.2", *quick])
    assert told.exit_code == 0, told.output
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in PHOTOS[:3]:
        shutil.copy(photo, photos)
    told = CliRunner().invoke(cli.app, ["study", "attention", "deit_micro", "--images", str(photos), *quick])
    assert told.exit_code == 0, told.output
    assert "above photos" in told.output
    expected = {
        f"{name}{end}" for name in ("depth", "attention") for end in (".csv", ".json", ".png", "-deit_micro.png")
    }
    assert expected == {path.name for path in Path("study").iterdir()} - {"renders"}
