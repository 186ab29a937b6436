"""Studies go on where they stopped, to the bit, and nothing is measured twice or passed off as something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from study_images import BLUE, RED, quarters, two_classes
from torch import Tensor
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.errors import ImageError, StalePartialWarning, StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies import Study, frequency, passes
from captum_vit.studies.keeping import PARTIAL, add_to, files_sha256, kept_in
from captum_vit.studies.passes import Measured, Notes, measure_images

FILES = [f"{number}.png" for number in range(20)]


def read(file: str) -> Tensor:
    """Random numbers of its own for each file; the fifth cannot be read."""
    number = int(file.removesuffix(".png"))
    if number == 5:
        raise ImageError("5.png cannot be read")
    return torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(number))


def means(pixels: Tensor, files: Sequence[str]) -> dict[str, Tensor]:
    return {"mean": pixels.mean((1, 2, 3)), "is bright": pixels.amax((2, 3)) > 0.9}


def stopping(
    at: str, stop: Callable[[], None], seen: list[str]
) -> Callable[[Tensor, Sequence[str]], dict[str, Tensor]]:
    """Measures as above until a file comes."""

    def measure(pixels: Tensor, files: Sequence[str]) -> dict[str, Tensor]:
        if at in files:
            stop()
        seen.extend(files)
        return means(pixels, files)

    return measure


def passed(
    measure: Callable[..., dict[str, Tensor]] = means, notes: Notes | None = None, batch_size: int = 4
) -> Measured:
    return measure_images(FILES, read, measure, title="", batch_size=batch_size, progress=False, notes=notes)


def interrupt() -> None:
    raise KeyboardInterrupt


def assert_same(one: Measured, other: Measured) -> None:
    assert one.used == other.used
    assert one.left_out == other.left_out == {"5.png": "5.png cannot be read"}
    assert all(np.array_equal(one.values[name], other.values[name]) for name in ("mean", "is bright"))


def test_a_pass_measures_every_file_that_can_be_read_in_order() -> None:
    measured = passed()
    assert measured.used == tuple(file for file in FILES if file != "5.png")
    assert measured.values["mean"].tolist() == [read(file).mean().item() for file in measured.used]
    assert measured.values["is bright"].shape == (19, 3)


def test_an_interrupted_pass_goes_on_to_the_same_bits_and_measures_nothing_twice(tmp_path: Path) -> None:
    before: list[str] = []
    after: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        passed(stopping("13.png", interrupt, before), Notes(tmp_path / "notes"))
    again = passed(stopping("", interrupt, after), Notes(tmp_path / "notes"))
    assert_same(again, passed())
    assert [*before, *after] == list(again.used)


def test_what_a_kill_leaves_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SECONDS", 0.0)
    notes, left = tmp_path / "notes", tmp_path / "left"
    # A kill asks nobody: what lies there while a batch is measured is what it leaves.
    passed(stopping("13.png", lambda: shutil.copy(notes, left), []), Notes(notes))
    after: list[str] = []
    again = passed(stopping("", interrupt, after), Notes(left))
    assert_same(again, passed())
    assert after == FILES[12:]


def test_a_pass_goes_on_in_batches_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        passed(stopping("13.png", interrupt, []), Notes(tmp_path / "notes"))
    assert_same(passed(notes=Notes(tmp_path / "notes"), batch_size=7), passed(batch_size=7))


def test_damaged_notes_are_told_and_the_pass_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"half a fi")
    with pytest.warns(StalePartialWarning, match="damaged"):
        assert_same(passed(notes=Notes(tmp_path / "notes")), passed())


@pytest.mark.parametrize(("progress", "expected"), [(True, ["Measuring: about 3 min"]), (False, [])])
def test_a_pass_says_how_long_it_takes_if_that_is_more_than_a_minute(
    progress: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = (30.0 * number for number in range(100))
    monkeypatch.setattr("captum_vit.progress.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    measure_images(FILES, read, means, title="Measuring", batch_size=3, progress=progress)  # 17 images after 3
    told = [line.strip() for line in capsys.readouterr().err.splitlines() if "about" in line]
    assert told == expected


def test_a_checksum_of_files_is_of_their_content_and_labels_and_not_of_where_they_lie(tmp_path: Path) -> None:
    here, there = two_classes(tmp_path / "a", 2), two_classes(tmp_path / "b", 2)
    assert files_sha256(here) == files_sha256(there)
    assert files_sha256({**there, next(iter(there)): "other"}) != files_sha256(here)
    quarters(Path(next(iter(there))), (RED, RED, RED, BLUE))
    assert files_sha256(there) != files_sha256(here)


@pytest.fixture(scope="module")
def vit() -> Iterator[AdaptedModel]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as adapted:
        yield adapted


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return two_classes(tmp_path_factory.mktemp("images"))


class Passes:
    """Counts a model's passes, and interrupts one of them."""

    def __init__(self, interrupted: int = -1) -> None:
        self.count, self.interrupted = 0, interrupted

    def __call__(self, module: torch.nn.Module, inputs: object) -> None:
        if self.count == self.interrupted:
            raise KeyboardInterrupt
        self.count += 1


def studied(
    vit: AdaptedModel,
    labels: dict[str, str],
    keep: Path | None,
    name: str = "micro",
    interrupted: int = -1,
    **asked: object,
) -> tuple[Study, int]:
    """A study of frequencies, and how many passes it took."""
    passes_made = Passes(interrupted)
    hook = vit.model.patch_embed.register_forward_pre_hook(passes_made)
    try:
        asked = {"radii": [4], "classifier": "probe", **asked}
        return frequency(vit, labels, name=name, batch_size=3, progress=False, keep=keep, **asked), passes_made.count
    finally:
        hook.remove()


def test_an_interrupted_study_goes_on_to_the_same_table(
    vit: AdaptedModel, labels: dict[str, str], tmp_path: Path
) -> None:
    whole, count = studied(vit, labels, None)
    assert count == 2 + 2 * 3  # two batches to fit the probe, two of three views each
    for interrupted in (1, 3):  # while the probe is fitted, and while images are classified
        with pytest.raises(KeyboardInterrupt):
            studied(vit, labels, tmp_path, interrupted=interrupted)
    assert len(list(tmp_path.glob(f"*{PARTIAL}"))) == 2
    again, left = studied(vit, labels, tmp_path)
    assert again == whole == kept_in(tmp_path, "frequency")
    assert left < count
    assert not list(tmp_path.glob(f"*{PARTIAL}"))


def test_a_model_that_is_there_is_not_measured_again(vit: AdaptedModel, labels: dict[str, str], tmp_path: Path) -> None:
    first, _ = studied(vit, labels, tmp_path)
    again, count = studied(vit, labels, tmp_path)
    assert (again, count) == (first, 0)


def test_a_model_with_other_weights_is_measured_again_and_takes_the_place_of_the_first(
    labels: dict[str, str], tmp_path: Path
) -> None:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        first, _ = studied(vit, labels, tmp_path)
        studied(vit, labels, tmp_path, name="other")
        with torch.no_grad():
            vit.model.cls_token.add_(1)
        second, count = studied(vit, labels, tmp_path)
    assert count > 0
    assert second.models["micro"]["weights"] != first.models["micro"]["weights"]
    kept = kept_in(tmp_path, "frequency")
    assert kept is not None
    assert list(kept.models) == ["other", "micro"]
    assert kept.of("micro") == second


@pytest.mark.parametrize(
    ("asked", "setting"), [({"radii": [5]}, "radii"), ({"seed": 1}, "seed"), ({"classifier": "auto"}, "classifier")]
)
def test_a_folder_of_other_settings_is_refused(
    vit: AdaptedModel, labels: dict[str, str], tmp_path: Path, asked: dict[str, object], setting: str
) -> None:
    studied(vit, labels, tmp_path)
    with pytest.raises(StudyError, match=f"measured with other {setting}; give another folder"):
        studied(vit, labels, tmp_path, **asked)


def test_other_images_are_another_question(vit: AdaptedModel, labels: dict[str, str], tmp_path: Path) -> None:
    studied(vit, labels, tmp_path)
    with pytest.raises(StudyError, match="measured with other images"):
        studied(vit, dict(list(labels.items())[1:]), tmp_path)


def test_tables_of_several_models_are_one_in_a_folder(tmp_path: Path) -> None:
    one, two = (
        Study("s", ({"model": name, "value": number},), {"seed": 0}, {name: {"parameters": number}})
        for number, name in enumerate(("one", "two"))
    )
    assert add_to(tmp_path, one) == one
    assert add_to(tmp_path, two) == one + two == kept_in(tmp_path, "s")
    assert add_to(tmp_path, one) == one + two
    with pytest.raises(StudyError, match="measured with other seed"):
        add_to(tmp_path, Study("s", one.rows, {"seed": 1}, {"three": {}}))


def test_the_command_goes_on_with_another_model_and_says_what_was_there(tmp_path: Path) -> None:
    two_classes(tmp_path / "images", 2)
    table = tmp_path / "labels.csv"
    table.write_text("".join(f"{path},{path.stem[:-1]}\n" for path in sorted((tmp_path / "images").rglob("*.png"))))

    def asked(*models: str) -> str:
        rest = ["--images", tmp_path / "images", "--labels", table, "--radius", "4", "--out", tmp_path / "out"]
        result = CliRunner().invoke(cli.app, list(map(str, ["study", "frequency", *models, *rest])))
        assert result.exit_code == 0, result.output
        return result.output

    assert "measured before" not in asked("deit_micro")
    told = asked("deit_micro", "pit_micro")
    assert told.count("measured before") == 1
    assert list(Study.load(tmp_path / "out" / "frequency.json").models) == ["deit_micro", "pit_micro"]
