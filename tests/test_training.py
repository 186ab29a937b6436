"""The script that made the embedded models: seeded, resumable, and measured by figures that mean what they say."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_vit.models.registry import MODELS
from captum_vit.models.training.distill import Distillation, Run, draw_batch, export, new_run, train
from captum_vit.models.training.evaluate import evaluate
from captum_vit.models.training.features import Crops, normalize


def made_up_crops(count: int = 24, photos: int = 4) -> Crops:
    draw = torch.Generator().manual_seed(0)
    return Crops(
        pixels=torch.randint(0, 256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8),
        features=torch.randn(count, 65, 384, generator=draw).half(),
        photo=torch.arange(count) % photos,
    )


def trained(name: str, steps: int, folder: Path, *, seed: int = 0, resumed: Path | None = None) -> Run:
    crops = made_up_crops()
    run = new_run(name, crops, seed, torch.float32)
    if resumed:
        run.resume(resumed)
    train(run, crops, steps=steps, batch=4, seed=seed, checkpoint=folder / f"{steps}.ckpt")
    return run


def weights(run: Run) -> dict[str, Tensor]:
    return run.model.student.state_dict()


@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(name, tmp_path: Path):
    whole = weights(trained(name, 3, tmp_path))
    trained(name, 2, tmp_path)
    torch.rand(5)  # whatever happened to the global generator in between
    resumed = weights(trained(name, 3, tmp_path, resumed=tmp_path / "2.ckpt"))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_the_seed_decides_the_weights(tmp_path: Path):
    first, other = (weights(trained("twins_micro", 1, tmp_path, seed=seed)) for seed in (0, 1))
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_of_the_student_learns(name):
    torch.manual_seed(0)
    crops = made_up_crops()
    model = Distillation(MODELS[name].build(), crops.features, torch.float32)
    terms = model(normalize(crops.pixels[:2]), crops.features[:2].float(), crops.photo[:2])
    torch.stack(list(terms.values())).sum().backward()
    without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


def test_mirrored_crops_come_with_mirrored_features():
    # Each patch's feature is where it lies: column in channel 0. Each crop is bright where its column is high.
    column = torch.arange(8).repeat(8)
    features = torch.zeros(8, 65, 384)
    features[:, 1:, 0] = column
    ramp = (torch.arange(64) // 8 * 20 + 40).to(torch.uint8).expand(8, 3, 64, 64).contiguous()
    images, teacher, _ = draw_batch(
        Crops(ramp, features.half(), torch.zeros(8, dtype=torch.long)), 8, torch.Generator().manual_seed(0)
    )
    of_cells = images.mean(1).unflatten(2, (8, 8)).unflatten(1, (8, 8)).mean((2, 4)).flatten(1)
    for brightness, told in zip(of_cells, teacher[:, 1:, 0], strict=True):
        assert torch.corrcoef(torch.stack([brightness, told]))[0, 1] > 0.99
    rising = of_cells[:, 7] > of_cells[:, 0]
    assert rising.tolist() == [False] * 4 + [True] * 4


def test_the_exported_file_holds_the_weights_in_half_precision_and_its_checksum_is_told(tmp_path: Path):
    student = MODELS["convit_micro"].build()
    checksum = export(student, tmp_path / "weights.safetensors")
    assert sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest() == checksum
    stored = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(stored[key], value.half()) for key, value in student.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


class Oracle(nn.Module):
    """A student that answers with the teacher's own features, turned, and knows the photo of each crop."""

    def __init__(self, known: list[Crops]) -> None:
        super().__init__()
        self.pixels = torch.cat([normalize(crops.pixels).flatten(1)[:, :12] for crops in known])
        self.tokens = torch.cat([crops.features.float() for crops in known])
        self.photo = torch.cat([crops.photo for crops in known])
        self.turn = torch.linalg.qr(torch.randn(384, 384, generator=torch.Generator().manual_seed(1))).Q

    def forward_intermediates(self, images: Tensor, norm: bool) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        found = torch.cdist(images.flatten(1)[:, :12], self.pixels).argmin(1)
        tokens = self.tokens[found] @ self.turn
        return (tokens[:, 0], self.photo[found]), [tokens[:, 1:].transpose(1, 2).unflatten(2, (8, 8))]

    def forward_head(self, last: tuple[Tensor, Tensor], pre_logits: bool = False) -> Tensor:
        return last[0] if pre_logits else nn.functional.one_hot(last[1], 4).float()


def test_the_evaluation_gives_full_marks_to_the_teacher_itself_and_few_to_noise():
    draw = torch.Generator().manual_seed(0)

    def crops(count: int) -> Crops:
        pixels = torch.randint(0, 256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8)
        photo = torch.arange(count) % 4
        features = torch.randn(count, 65, 384, generator=draw) + 2 * photo[:, None, None]
        return Crops(pixels, features.half(), photo)

    fit, unseen, reserved = crops(800), crops(40), crops(40)
    told = evaluate(Oracle([fit, unseen, reserved]), fit, unseen, reserved)
    assert told["class token: cosine, centred"] > 0.9
    assert told["patches: cosine, centred"] > 0.99
    assert told["nearest crop of any photo is the teacher's"] == 1
    assert told["nearest crop of another photo is the teacher's"] == 1
    assert told["exemplar head, top-1"] == 1
    torch.manual_seed(0)
    noise = evaluate(MODELS["twins_micro"].build(), fit, unseen, reserved)
    assert noise["patches: cosine, centred"] < 0.7
    assert noise["nearest crop of any photo is the teacher's"] < 0.3
    assert noise["exemplar head, top-1"] < 0.5
