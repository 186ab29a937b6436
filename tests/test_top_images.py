"""One pass over a dataset: the best images of every unit are those of asking each image, however they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from families import TINY_MODELS
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Resize, ToTensor

import captum_vit
from captum_vit import TopImages
from captum_vit.data import dataset as image_dataset
from captum_vit.data.dataset import ImageFiles
from captum_vit.data.images import find_images, read_list
from captum_vit.errors import (
    AddressError,
    CaptumViTError,
    DatasetError,
    ImageError,
    RankingError,
    StaleCheckpointWarning,
    StalePartialWarning,
)
from captum_vit.models import default_photos
from captum_vit.ranking import batches
from captum_vit.ranking import partial as partial_file
from captum_vit.ranking.topk import Standings


class Images(Dataset):
    """Image tensors, with a label or without."""

    def __init__(self, images: torch.Tensor, labels: bool = False) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return (self.images[index], index % 3) if self.labels else self.images[index]


class Stream(IterableDataset):
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __iter__(self):
        return iter(self.images)


@pytest.fixture
def exact() -> captum_vit.AdaptedModel:
    """A model that computes with small whole numbers, so that no sum is rounded whatever the batch size."""
    model = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=3, norm_layer=nn.Identity,
        act_layer=nn.ReLU,
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        whole = torch.randint(-1, 2, parameter.shape, generator=generator).float()
        parameter.data = torch.zeros_like(whole) if ".attn." in name else whole
    return captum_vit.adapt(model)


@pytest.fixture
def whole_numbers() -> torch.Tensor:
    """Images of few different pixels, so that units tie; the last is the first again."""
    images = torch.randint(0, 2, (11, 3, 16, 16), generator=torch.Generator().manual_seed(1)).float()
    return torch.cat((images, images[:1]))


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return captum_vit.adapt(captum_vit.load("deit_micro"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 different photos and four files that are none."""
    (tmp_path / "photos").mkdir()
    for n in range(24):
        with Image.open(default_photos()[n % 6]) as photo:
            photo.resize((80, 80)).rotate(15 * n).save(tmp_path / "photos" / f"{n:02}.png")
    whole = (tmp_path / "photos" / "00.png").read_bytes()
    (tmp_path / "photos" / "05-truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos" / "06-empty.png").touch()
    (tmp_path / "photos" / "13-text.jpg").write_text("not a photo")
    (tmp_path / "photos" / "23-none.tif").write_bytes(b"II*\0")
    return tmp_path / "photos"


def rank(vit, dataset, k=4, **settings) -> TopImages:
    return captum_vit.top_images(vit, dataset, k, progress=False, **settings)


def bytes_of(result: TopImages, folder: Path) -> bytes:
    return result.save(folder / "ranking.safetensors").read_bytes()


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_unit_of_every_site_gets_the_images_that_excite_it_most(name, reduction):
    vit = captum_vit.adapt(TINY_MODELS[name].build())
    images = torch.randn(7, 3, *TINY_MODELS[name].image_size, generator=torch.Generator().manual_seed(0))
    result = rank(vit, Images(images), 3, reduction=reduction, batch_size=4)
    assert result.sites == tuple(site.name for site in vit.sites)
    for site in vit.sites:
        maps = vit.patch_map(images, [f"{site.name}:{unit}" for unit in range(site.units)]).numpy()
        reduced = maps.mean((2, 3)) if reduction == "mean" else maps.max((2, 3))
        order = np.argsort(-reduced, axis=0, kind="stable")[:3]
        for unit in range(0, site.units, 7):
            best = result.best(f"{site.name}:{unit}")
            activations = [image.activation for image in best]
            np.testing.assert_allclose(activations, reduced[order[:, unit], unit], rtol=1e-4, atol=1e-6)
            for image in best:
                assert image.activation == pytest.approx(reduced[image.index, unit], rel=1e-4, abs=1e-6)
                if reduction == "max":
                    assert maps[image.index, unit][image.patch] == pytest.approx(image.activation, rel=1e-4, abs=1e-6)
                else:
                    assert image.patch is None
            assert result.histogram(f"{site.name}:{unit}").counts.sum() == len(images)


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("batch_size", [1, 5, 12, 50])
def test_the_batch_size_changes_nothing_where_no_sum_is_rounded(exact, whole_numbers, tmp_path, reduction, batch_size):
    dataset = Images(whole_numbers)
    result = rank(exact, dataset, reduction=reduction, batch_size=batch_size)
    assert bytes_of(result, tmp_path) == bytes_of(rank(exact, dataset, reduction=reduction, batch_size=3), tmp_path)


def test_equal_activations_are_ranked_by_place(exact, whole_numbers):
    result = rank(exact, Images(whole_numbers), k=12)
    for site in exact.sites:
        for unit in range(site.units):
            best = result.best(f"{site.name}:{unit}")
            assert [image.index for image in best] == [
                image.index for image in sorted(best, key=lambda image: (-image.activation, image.index))
            ]
            first, last = (next(image for image in best if image.index == index) for index in (0, 11))
            assert first.activation == last.activation
            assert first.sha256 == last.sha256


def test_a_batch_size_changes_activations_by_no_more_than_rounding(vit, photos):
    one, many = rank(vit, photos, batch_size=1), rank(vit, photos, batch_size=28)
    for site in vit.sites:
        np.testing.assert_allclose(one.units[site.name].activations, many.units[site.name].activations, atol=1e-5)


@pytest.mark.parametrize("labels", [False, True])
def test_a_shuffled_loader_gives_the_same_file_as_the_dataset(exact, whole_numbers, tmp_path, labels):
    loader = DataLoader(Images(whole_numbers, labels), batch_size=5, shuffle=True, drop_last=True)
    result = rank(exact, loader, reduction="max")
    expected = rank(exact, Images(whole_numbers), reduction="max", batch_size=5)
    assert result.images == 12
    assert bytes_of(result, tmp_path) == bytes_of(expected, tmp_path)


def test_workers_change_nothing(vit, photos, tmp_path):
    alone, helped = (rank(vit, photos, batch_size=5, workers=workers) for workers in (0, 2))
    assert bytes_of(helped, tmp_path) == bytes_of(alone, tmp_path)
    loader = DataLoader(ImageFiles.of(find_images([photos]), vit), batch_size=5, shuffle=True, num_workers=2)
    assert bytes_of(rank(vit, loader), tmp_path) == bytes_of(alone, tmp_path)


def test_workers_that_start_anew_get_the_dataset_too(vit, photos, tmp_path):
    files = ImageFiles.of(find_images([photos]), vit)
    loader = DataLoader(files, batch_size=5, num_workers=1, multiprocessing_context="spawn")
    assert bytes_of(rank(vit, loader), tmp_path) == bytes_of(rank(vit, photos, batch_size=5), tmp_path)


def test_a_sampler_chooses_the_images_and_each_counts_once(exact, whole_numbers):
    loader = DataLoader(Images(whole_numbers), batch_size=2, sampler=SubsetRandomSampler([7, 2, 9, 2, 7]))
    result = rank(exact, loader, k=12)
    assert result.images == 3
    assert {image.index for image in result.best("blocks.1:3")} == {2, 7, 9}


def test_batches_of_a_sampler_of_batches_stay_together(exact, whole_numbers):
    sizes = []

    class Pairs(BatchSampler):
        def __iter__(self):
            return iter([[7, 2], [9, 2], [5]])

    def collate(images):
        sizes.append(len(images))
        return torch.stack(images)

    loader = DataLoader(Images(whole_numbers), batch_sampler=Pairs(range(3), 2, False), collate_fn=collate)
    result = rank(exact, loader, k=12)
    assert sorted(sizes) == [1, 1, 2]
    assert {image.index for image in result.best("blocks.1:3")} == {2, 5, 7, 9}


def test_a_stream_is_numbered_as_it_arrives(exact, whole_numbers):
    stream = rank(exact, Stream(whole_numbers), batch_size=5)
    dataset = rank(exact, Images(whole_numbers))
    assert stream.best("blocks.1:3") == dataset.best("blocks.1:3")
    assert stream.positions == len(whole_numbers)
    assert rank(exact, DataLoader(Stream(whole_numbers), batch_size=3)).best("blocks.1:3") == stream.best("blocks.1:3")


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_two_halves_merge_to_the_file_of_the_whole(exact, whole_numbers, tmp_path, reduction):
    dataset = Images(whole_numbers)
    halves = [rank(exact, Subset(dataset, half), reduction=reduction) for half in (range(5), range(5, 12))]
    for image in halves[1].best("blocks.1:3"):
        assert torch.equal(whole_numbers[5 + image.index], Subset(dataset, range(5, 12))[image.index])
    merged = halves[0].merge(halves[1])
    # A dataset without files names its images by their places, and the second half's begin at nought.
    for place, (_, digest) in merged.sources.items():
        merged.sources[place] = f"index:{place}", digest
    assert bytes_of(merged, tmp_path) == bytes_of(rank(exact, dataset, reduction=reduction), tmp_path)


def test_two_halves_of_a_folder_merge_to_the_file_of_the_whole(vit, photos, tmp_path):
    files = find_images([photos])
    halves = [TopImages.load(rank(vit, part, batch_size=7).save(tmp_path / "half.safetensors"))
              for part in (files[:14], files[14:])]  # fmt: skip
    assert bytes_of(halves[0].merge(halves[1]), tmp_path) == bytes_of(rank(vit, photos, batch_size=7), tmp_path)


def test_images_are_told_by_file_and_content(vit, photos):
    result = rank(vit, photos)
    files = find_images([photos])
    for image in result.best("blocks.4:307"):
        assert Path(image.path) == files[image.index]
        assert image.sha256 == hashlib.sha256(files[image.index].read_bytes()).hexdigest()


def test_an_image_without_a_file_is_not_taken_for_a_file_of_its_name(exact, whole_numbers, tmp_path, monkeypatch):
    expected = rank(exact, Images(whole_numbers)).sources
    for position in range(len(whole_numbers)):
        (tmp_path / f"index:{position}").touch()
    monkeypatch.chdir(tmp_path)
    assert rank(exact, Images(whole_numbers)).sources == expected


def test_files_that_are_no_images_are_skipped_and_listed(vit, photos):
    result = rank(vit, photos, batch_size=1)
    assert result.images == 24
    assert [Path(message.split(" cannot")[0]).name for message in result.skipped] == [
        "05-truncated.png",
        "06-empty.png",
        "13-text.jpg",
        "23-none.tif",
    ]
    assert result.histogram("blocks.4:307").counts.sum() == 24


def test_torchvisions_folders_tell_their_files_and_may_hold_damaged_ones(vit, photos, tmp_path):
    normalize = vit.preprocessing.normalize
    folder = ImageFolder(tmp_path, Compose([Resize((64, 64)), ToTensor(), normalize]))
    result = rank(vit, DataLoader(folder, batch_size=6, shuffle=True))
    assert result.images == 24
    assert len(result.skipped) == 4
    best = result.best("blocks.4:307")[0]
    assert best.path == folder.samples[best.index][0]
    assert best.sha256 == hashlib.sha256(Path(best.path).read_bytes()).hexdigest()


def test_fewer_images_than_k_give_fewer_results(exact, whole_numbers):
    assert len(rank(exact, Images(whole_numbers[:3]), k=10).best("blocks.0:0")) == 3


def test_only_the_sites_asked_for_are_ranked_and_the_layers_behind_do_not_run(exact, whole_numbers):
    def never(*_):
        raise AssertionError("a layer behind the last site ran")

    exact.model.blocks[1].register_forward_pre_hook(never)
    result = rank(exact, Images(whole_numbers), sites=["ffn_blocks_0"])
    assert result.sites == ("blocks.0",)


def test_activations_that_are_not_finite_are_counted_and_never_best(exact, whole_numbers):
    with torch.no_grad():
        exact.model.blocks[1].mlp.fc1.bias[3] = torch.nan
        exact.model.blocks[1].mlp.fc1.bias[4] = torch.inf
    for reduction in ("mean", "max"):
        result = rank(exact, Images(whole_numbers), reduction=reduction)
        assert result.not_finite == {"blocks.1": 24}
        assert result.best("blocks.1:3") == result.best("blocks.1:4") == ()
        assert len(result.best("blocks.1:5")) == 4


def test_another_threads_pass_through_the_model_is_not_counted(exact, whole_numbers):
    running = threading.Event()

    def interfere(module, inputs):
        if threading.current_thread() is threading.main_thread() and not running.is_set():
            running.set()
            other = threading.Thread(target=exact, args=(100 * whole_numbers[:1],))
            other.start()
            other.join()

    interference = exact.model.patch_embed.register_forward_pre_hook(interfere)
    result = rank(exact, Images(whole_numbers))
    interference.remove()
    assert running.is_set()
    assert result.best("blocks.1:3") == rank(exact, Images(whole_numbers)).best("blocks.1:3")
    assert result.histogram("blocks.1:3").counts.sum() == len(whole_numbers)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(exact, whole_numbers, fails):
    before = exact(whole_numbers)
    grads = [parameter.requires_grad for parameter in exact.parameters()]
    images = whole_numbers[:, :, :-1] if fails else whole_numbers
    if fails:
        with pytest.raises(DatasetError, match=r"shape \(3, 15, 16\), and VisionTransformer takes \(3, 16, 16\)"):
            rank(exact, Images(images))
    else:
        rank(exact, Images(images))
    assert not any(probe._forward_hooks for probe in exact.ffn.values())
    assert torch.equal(exact(whole_numbers), before)
    assert [parameter.requires_grad for parameter in exact.parameters()] == grads


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_numbers_are_left_alone(exact, whole_numbers, workers):
    before = torch.get_rng_state()
    rank(exact, Images(whole_numbers), workers=workers)
    rank(exact, DataLoader(Images(whole_numbers), batch_size=5, num_workers=workers))
    rank(exact, Stream(whole_numbers))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_in_half_precision_is_ranked_in_single(whole_numbers, exact):
    vit = exact.to(torch.bfloat16)
    result = rank(vit, Images(whole_numbers))
    assert result.units["blocks.0"].activations.dtype == np.float32
    assert result.best("blocks.0:3")[0].activation > 0


# --- interrupted passes

INTERRUPTED = """
import sys, time
import captum_vit
from captum_vit.data import dataset as image_dataset
from captum_vit.ranking import partial as partial_file

partial_file.SECONDS = 0
read = image_dataset.open_rgb
reads = []


def held(path):
    # Photos of the fifth batch never come: it waits to be killed, however busy the machine is.
    reads.append(path)
    if len(reads) > 12:
        time.sleep(3600)
    return read(path)


image_dataset.open_rgb = held
vit = captum_vit.adapt(captum_vit.load("deit_micro"))
captum_vit.top_images(vit, sys.argv[1], 4, reduction="max", batch_size=3, partial=sys.argv[2], progress=False)
"""


def batches_done(partial: Path) -> int:
    return TopImages.load(partial).settings["progress"]["batches"] if partial.exists() else 0


def test_a_killed_pass_goes_on_and_ends_with_the_same_file(vit, photos, tmp_path, monkeypatch):
    partial = tmp_path / "top.partial"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, photos, partial], env=environment)
    try:
        deadline = time.monotonic() + 900
        while batches_done(partial) < 4 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "it was not killed half-way"
    done = batches_done(partial)
    assert done == 4

    read, reads = image_dataset.open_rgb, []
    monkeypatch.setattr(image_dataset, "open_rgb", lambda path: reads.append(path) or read(path))
    settings = {"reduction": "max", "batch_size": 3}
    resumed = rank(vit, str(photos), partial=partial, **settings)
    assert reads == [str(path) for path in find_images([photos])[3 * done :]], "it began anew, or left files out"
    assert bytes_of(resumed, tmp_path) == bytes_of(rank(vit, str(photos), **settings), tmp_path)


def interrupted(vit, dataset, partial: Path, monkeypatch, **settings) -> None:
    """Start a pass that is interrupted in its third batch of five."""
    read, reads = image_dataset.open_rgb, []

    def read_ten(path):
        reads.append(path)
        if len(reads) > 12:
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(image_dataset, "open_rgb", read_ten)
        patch.setattr(partial_file, "SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            rank(vit, dataset, partial=partial, **({"batch_size": 5} | settings))
    assert batches_done(partial) == 2


@pytest.mark.parametrize("change", ["k", "reduction", "sites", "batch_size", "files", "content", "weights", "damaged"])
def test_a_partial_file_of_other_arguments_is_not_gone_on_with(vit, photos, tmp_path, monkeypatch, change):
    partial = tmp_path / "top.partial"
    interrupted(vit, photos, partial, monkeypatch)
    settings = {"k": 4, "batch_size": 5}
    settings |= {"k": {"k": 3}, "reduction": {"reduction": "max"}, "sites": {"sites": ["blocks.2"]}}.get(change, {})
    settings |= {"batch_size": 4} if change == "batch_size" else {}
    if change == "files":
        shutil.copy(photos / "00.png", photos / "24.png")
    elif change == "content":
        shutil.copy(photos / "01.png", photos / "00.png")
    elif change == "weights":
        model = captum_vit.load("deit_micro")
        with torch.no_grad():
            model.blocks[5].mlp.fc1.bias[0] += 1e-6
        vit = captum_vit.adapt(model)
    elif change == "damaged":
        partial.write_bytes(partial.read_bytes()[:1000])
    with pytest.warns(StalePartialWarning, match="starting anew"):
        result = rank(vit, photos, partial=partial, **settings)
    assert bytes_of(result, tmp_path) == bytes_of(rank(vit, photos, **settings), tmp_path)


def test_a_finished_partial_file_gives_the_result_without_reading(vit, photos, tmp_path, monkeypatch):
    first = rank(vit, photos, partial=tmp_path / "top.partial")
    monkeypatch.setattr(image_dataset, "open_rgb", None)
    second = rank(vit, photos, partial=tmp_path / "top.partial")
    assert bytes_of(second, tmp_path) == bytes_of(first, tmp_path)


@pytest.mark.parametrize("place", [0, -1])
def test_a_partial_file_of_other_tensors_is_not_gone_on_with(exact, whole_numbers, tmp_path, place):
    rank(exact, Images(whole_numbers), partial=tmp_path / "top.partial")
    others = whole_numbers.clone()
    others[place] += 1
    with pytest.warns(StalePartialWarning, match="of another model, dataset or arguments"):
        result = rank(exact, Images(others), partial=tmp_path / "top.partial")
    assert bytes_of(result, tmp_path) == bytes_of(rank(exact, Images(others)), tmp_path)


def test_a_partial_file_that_cannot_be_written_is_told_before_any_image_is_read(vit, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(image_dataset, "open_rgb", None)
    with pytest.raises(CaptumViTError, match="nowhere"):
        rank(vit, photos, partial=tmp_path / "nowhere" / "top.partial")


def test_partial_was_called_checkpoint(exact, whole_numbers, tmp_path):
    with pytest.warns(DeprecationWarning, match="is now called partial="):
        result = rank(exact, Images(whole_numbers), checkpoint=tmp_path / "top.partial")
    assert bytes_of(result, tmp_path) == bytes_of(rank(exact, Images(whole_numbers)), tmp_path)
    assert TopImages.load(tmp_path / "top.partial").settings["progress"]["batches"] == 1
    assert StaleCheckpointWarning is StalePartialWarning


def test_nothing_is_read_from_the_device_but_at_the_end(exact, whole_numbers, tmp_path, monkeypatch):
    reads, read = [], Standings.rankings
    monkeypatch.setattr(Standings, "rankings", lambda self: reads.append(self) or read(self))
    rank(exact, Images(whole_numbers), batch_size=2, partial=tmp_path / "top.partial")
    assert len(reads) == len(exact.sites)


# --- reading for an accelerator


@pytest.mark.parametrize(
    ("device", "workers", "reads_files", "expected"),
    [
        ("cpu", None, True, (0, False)),
        ("cpu", 3, True, (3, False)),
        ("cuda", 3, True, (3, True)),
        ("cuda", 0, True, (0, True)),
        ("cuda", None, False, (0, False)),
        ("xpu", 2, True, (2, False)),
    ],
)
def test_images_wait_in_pinned_memory_for_cuda(device, workers, reads_files, expected):
    options = batches._reading(torch.device(device), workers, reads_files)
    assert (options["num_workers"], options["pin_memory"]) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize(("processors", "expected"), [(2, 2), (64, 8)])
def test_an_accelerators_files_are_read_by_a_process_for_each_processor_up_to_eight(processors, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(processors)))
    options = batches._reading(torch.device("cuda"), None, reads_files=True)
    assert options["num_workers"] == expected
    assert len(list(DataLoader(range(4), **options | {"pin_memory": False, "num_workers": 2}))) == 4


# --- questions that mean nothing


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"k": 0}, RankingError, "k is 0"),
        ({"batch_size": 0}, RankingError, "batch_size is 0"),
        ({"workers": -1}, RankingError, "workers is -1"),
        ({"reduction": "median"}, RankingError, 'no reduction "median"; there are: mean, max'),
        ({"sites": ["blocks.7"]}, AddressError, 'no site "blocks.7"'),
        ({"sites": []}, RankingError, "no site to look at"),
    ],
)
def test_settings_that_mean_nothing_are_told(exact, whole_numbers, settings, error, message):
    with pytest.raises(error, match=message):
        rank(exact, Images(whole_numbers), **settings)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda images: [], ImageError, "dataset is empty"),
        (lambda images: Images(images[:0]), ImageError, "dataset is empty"),
        (lambda images: ["/nowhere.png"], ImageError, "none of 1 files"),
        (lambda images: "/nowhere", ImageError, "does not exist"),
        (lambda images: 7, DatasetError, "int is not a dataset"),
        (lambda images: Images(images.to(torch.uint8)), DatasetError, "torch.uint8 of shape"),
        (lambda images: Images(images[:, 0]), DatasetError, r"shape \(B, 3, H, W\)"),
        (lambda images: [{"no": "tensor"}], DatasetError, "gives batches of a dict"),
        (lambda images: [Image.new("RGB", (4, 4))], DatasetError, "give the dataset a transform"),
        (lambda images: [images[0], images[0, :, :4, :4]], DatasetError, "of the same size"),
        (lambda images: DataLoader(Images(images), batch_size=None), DatasetError, "batch_size=None"),
        (lambda images: Odd(Images(images)), DatasetError, "give a plain DataLoader"),
        (
            lambda images: DataLoader(Images(images), batch_size=4, collate_fn=lambda items: torch.stack(items[1:])),
            DatasetError,
            "made 3 images of 4",
        ),
    ],
)
def test_what_gives_no_images_is_told(exact, whole_numbers, make, error, message):
    with pytest.raises(error, match=message) as caught:
        rank(exact, make(whole_numbers))
    assert isinstance(caught.value, CaptumViTError)


class Odd(DataLoader):
    def __iter__(self):
        return iter(())


def test_a_stream_has_no_partial_file(exact, whole_numbers, tmp_path):
    with pytest.raises(DatasetError, match="IterableDataset cannot go on"):
        rank(exact, Stream(whole_numbers), partial=tmp_path / "top.partial")


def test_an_empty_stream_is_told(exact, whole_numbers):
    with pytest.raises(ImageError, match="empty"):
        rank(exact, Stream(whole_numbers[:0]))


# --- lists of files


def test_a_list_names_files_relative_to_its_own_folder(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n\n sub/b ü.png \r\n/c.png\n", encoding="utf-8")
    assert read_list(tmp_path / "list.txt") == (tmp_path / "a.png", tmp_path / "sub" / "b ü.png", Path("/c.png"))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"\n \n", "no file"), (b"\xff\xd8", "UTF")]
)
def test_a_list_that_names_nothing_is_an_error(content, message, tmp_path):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_list(tmp_path / "list.txt")
