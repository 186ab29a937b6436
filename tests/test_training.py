"""The script that made the embedded models: seeded, resumable, and measured by figures that mean what they say."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_vit.models.registry import MODELS
from captum_vit.models.training.distill import Distillation, Run, draw_batch, export, new_run, start_from, train
from captum_vit.models.training.evaluate import held_of_the_teacher, named, neighbours
from captum_vit.models.training.features import Crops, normalize
from captum_vit.models.training.labelled import category_of_each, labelled_photos
from captum_vit.models.training.photos import Photo, fewer_crops


def made_up_crops(count: int = 24, photos: int = 4) -> Crops:
    draw = torch.Generator().manual_seed(0)
    return Crops(
        pixels=torch.randint(0, 256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8),
        features=torch.randn(count, 65, 384, generator=draw).half(),
        photo=torch.arange(count) % photos,
    )


CATEGORY = torch.tensor([0, 1, -1, 2] * 6)  # of each made-up crop; the third photo has none


def trained(name: str, steps: int, folder: Path, *, seed: int = 0, resumed: Path | None = None) -> Run:
    crops = made_up_crops()
    run = new_run(name, crops, CATEGORY, seed, torch.float32)
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
    model = Distillation(MODELS[name].build(), crops, CATEGORY, torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # residual blocks may begin as nothing, and learn what they add from the second step on
        optimizer.step()
        optimizer.zero_grad()
        terms = model(normalize(crops.pixels[:2]), crops.features[:2].float())
        torch.stack(list(terms.values())).sum().backward()
    without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


def test_mirrored_crops_come_with_mirrored_features():
    # Each patch's feature is where it lies: column in channel 0. Each crop is bright where its column is high.
    column = torch.arange(8).repeat(8)
    features = torch.zeros(8, 65, 384)
    features[:, 1:, 0] = column
    ramp = (torch.arange(64) // 8 * 20 + 40).to(torch.uint8).expand(8, 3, 64, 64).contiguous()
    images, teacher = draw_batch(
        Crops(ramp, features.half(), torch.zeros(8, dtype=torch.long)), 8, torch.Generator().manual_seed(0)
    )
    of_cells = images.mean(1).unflatten(2, (8, 8)).unflatten(1, (8, 8)).mean((2, 4)).flatten(1)
    for brightness, told in zip(of_cells, teacher[:, 1:, 0], strict=True):
        assert torch.corrcoef(torch.stack([brightness, told]))[0, 1] > 0.99
    rising = of_cells[:, 7] > of_cells[:, 0]
    assert rising.tolist() == [False] * 4 + [True] * 4


def test_a_share_of_the_crops_is_the_first_of_each_photos_and_never_none():
    photos = [Photo("a", Path("a.jpg"), crops=100), Photo("b", Path("b.jpg"), crops=28), Photo("c", Path("c"), crops=2)]
    fewer = fewer_crops(photos, 0.35)
    assert [photo.crops for photo in fewer] == [35, 10, 1]
    assert [replace(photo, crops=0) for photo in fewer] == [replace(photo, crops=0) for photo in photos]


def test_the_exported_file_holds_the_weights_in_half_precision_and_its_checksum_is_told(tmp_path: Path):
    student = MODELS["resnet_micro"].build()
    checksum = export(student, tmp_path / "weights.safetensors")
    assert sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest() == checksum
    stored = load_file(tmp_path / "weights.safetensors")
    counters = {key for key in stored if key.endswith("num_batches_tracked")}
    assert counters  # of batches, in whole numbers
    for key, value in student.state_dict().items():
        assert torch.equal(stored[key], value if key in counters else value.half())
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


class Oracle(nn.Module):
    """A student that answers with the teacher's own features, turned."""

    def __init__(self, known: list[Crops]) -> None:
        super().__init__()
        self.pixels = torch.cat([normalize(crops.pixels).flatten(1)[:, :12] for crops in known])
        self.tokens = torch.cat([crops.features.float() for crops in known])
        self.turn = torch.linalg.qr(torch.randn(384, 384, generator=torch.Generator().manual_seed(1))).Q

    def forward_intermediates(self, images: Tensor, norm: bool) -> tuple[Tensor, list[Tensor]]:
        tokens = self.tokens[torch.cdist(images.flatten(1)[:, :12], self.pixels).argmin(1)] @ self.turn
        return tokens[:, 0], [tokens[:, 1:].transpose(1, 2).unflatten(2, (8, 8))]

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        return last


def test_the_evaluation_gives_full_marks_to_the_teacher_itself_and_few_to_noise():
    draw = torch.Generator().manual_seed(0)

    def crops(count: int) -> Crops:
        pixels = torch.randint(0, 256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8)
        photo = torch.arange(count) % 4
        features = torch.randn(count, 65, 384, generator=draw) + 2 * photo[:, None, None]
        return Crops(pixels, features.half(), photo)

    fit, unseen = crops(800), crops(40)
    oracle = held_of_the_teacher(Oracle([fit, unseen]), fit, {"unseen": unseen})
    assert oracle["unseen: class token"] > 0.9
    assert oracle["unseen: patches"] > 0.99
    torch.manual_seed(0)
    noise = held_of_the_teacher(MODELS["twins_micro"].build(), fit, {"unseen": unseen})
    assert noise["unseen: patches"] < 0.7


def test_neighbours_count_for_photos_that_share_their_category_with_others():
    teacher = torch.eye(4).repeat_interleave(12, 0) + 0.01 * torch.randn(
        48, 4, generator=torch.Generator().manual_seed(0)
    )
    category = torch.arange(4).repeat_interleave(12)
    alike = neighbours(teacher, teacher, category)
    assert alike == {"nearest photo shares the category": 1, "nearest photo is of the teacher's ten": 1}
    shuffled = teacher[torch.randperm(48, generator=torch.Generator().manual_seed(1))]
    assert max(neighbours(shuffled, teacher, category).values()) < 0.5
    # Of the first category alone: the others are neighbours still, and none of them is asked.
    assert neighbours(teacher, teacher, category.where(category == 0, -1))["nearest photo shares the category"] == 1


def test_the_head_is_right_where_the_category_leads_and_nearly_right_among_the_largest_five():
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [9.0, 8, 7, 6, 5, 4], [9.0, 8, 7, 6, 5, 4], [9.0, 8, 7, 6, 5, 4]])
    assert named(logits, torch.tensor([0, 1, 4, 5])) == {"head, top-1": 0.25, "head, top-5": 0.75}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty categories with three photos in a folder each; thirty of them, and ten more, in one folder besides."""
    made = tmp_path_factory.mktemp("labelled")
    for number in range(50):
        category = f"n{number:08}_thing_{number}"
        files = [made / category / f"{photo}.jpg" for photo in range(3)] if number < 40 else []
        for file in [*files, *([made / "one-per-class" / f"{category}.jpg"] if number >= 10 else [])]:
            file.parent.mkdir(exist_ok=True)
            file.touch()
    return made


def test_a_category_is_trained_on_or_held_out_wherever_it_occurs(folder: Path):
    labelled = labelled_photos(folder)
    trained_on = {photo.category for photo in [*labelled.training, *labelled.kept]}
    held_out = {photo.category for photo in labelled.unseen}
    assert trained_on | held_out == {f"thing {number}" for number in range(50)}
    assert not trained_on & held_out
    assert 3 <= len(held_out) <= 20
    assert len(labelled.training) + len(labelled.kept) + len(labelled.unseen) == 3 * 40 + 40


def test_the_head_names_the_categories_of_folders_and_one_photo_of_each_is_kept(folder: Path):
    labelled = labelled_photos(folder)
    assert set(labelled.categories) == {photo.category for photo in labelled.training} & {
        f"thing {number}" for number in range(40)
    }
    assert sorted(photo.category for photo in labelled.kept) == list(labelled.categories)
    assert not {photo.name for photo in labelled.kept} & {photo.name for photo in labelled.training}
    positions = category_of_each(labelled.training, labelled.categories)
    for photo, position in zip(labelled.training, positions, strict=True):
        of_folder = photo.category in labelled.categories
        assert position == (labelled.categories.index(photo.category) if of_folder else -1)


def test_a_folder_without_labels_is_an_error_that_says_how_photos_are_labelled(tmp_path: Path):
    (tmp_path / "dog.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"n02084071_dog\.jpg"):
        labelled_photos(tmp_path)


def test_a_run_can_start_from_the_weights_of_an_earlier_head(tmp_path: Path):
    earlier = replace(MODELS["convit_micro"], classes=("one", "other")).build()
    export(earlier, tmp_path / "earlier.safetensors")
    student = MODELS["convit_micro"].build()
    head = student.head.weight.clone()
    start_from(student, tmp_path / "earlier.safetensors")
    assert torch.equal(student.blocks[3].mlp.fc1.weight, earlier.blocks[3].mlp.fc1.weight.half().float())
    assert torch.equal(student.head.weight, head)


def test_what_the_teacher_takes_a_crop_for_teaches_the_head():
    """A head that repeats the teacher's own choice of category has a lower loss than one that says the opposite."""
    drawn = made_up_crops(96, photos=3)
    kinds = torch.randn(3, 1, 384, generator=torch.Generator().manual_seed(1))
    crops = Crops(drawn.pixels, (drawn.features + kinds[drawn.photo]).half(), drawn.photo)
    model = Distillation(MODELS["convit_micro"].build(), crops, crops.photo, torch.float32)
    assert model.categories.norm(dim=1)[:3].tolist() == pytest.approx([1, 1, 1])
    assert not model.categories[3:].any()
    images, teacher = normalize(crops.pixels[:1]), crops.features[:1].float()  # of the first category

    def loss(favoured: int) -> float:
        with torch.no_grad():
            model.student.head.bias.zero_()[favoured] = 10
            return float(model(images, teacher)["head"])

    assert loss(0) < loss(2)
