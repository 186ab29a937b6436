"""Datasets of all shapes: images are found in them, or one clear error comes before the model's own."""

from __future__ import annotations

import warnings
from collections import UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

import captum_vit
from captum_vit.errors import CaptumViTError, DatasetError, ImageError
from captum_vit.ranking.items import KEYS

IMAGES = torch.randn(11, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Items(Dataset):
    """A dataset that makes something of each image and its position."""

    def __init__(self, make, images: torch.Tensor = IMAGES) -> None:
        self.make, self.images = make, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.make(self.images[index], index)


class Stream(IterableDataset):
    """Items as a stream, shared out among the workers or not."""

    def __init__(self, items: Items, shared: bool = True) -> None:
        self.items, self.shared = items, shared

    def __iter__(self):
        worker = get_worker_info()
        step = (worker.id, worker.num_workers) if worker is not None and self.shared else (0, 1)
        return (self.items[index] for index in range(step[0], len(self.items), step[1]))


def model(**settings) -> captum_vit.AdaptedModel:
    torch.manual_seed(0)
    settings = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 8,
        "depth": 1,
        "num_heads": 2,
        "num_classes": 3,
    } | settings
    return captum_vit.adapt(VisionTransformer(**settings).eval())


@pytest.fixture(scope="module")
def vit() -> captum_vit.AdaptedModel:
    return model()


@pytest.fixture(autouse=True)
def quick_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader waits five seconds for workers that it leaves in the middle of a pass."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)


def rank(vit, dataset, k: int = 11, **settings):
    return captum_vit.top_images(vit, dataset, k, batch_size=4, progress=False, **settings)


# What an item may be, beside the image alone.
SHAPES = {
    "image and label": lambda image, n: (image, n),
    "label and image": lambda image, n: (n, image),
    "list": lambda image, n: [image, n],
    "name, label, image": lambda image, n: (f"{n}.png", n, image),
    "labels of their own": lambda image, n: (torch.zeros(n), image),
    "array": lambda image, n: (image.numpy(), n),
    "image and mask": lambda image, n: (image, image[:1]),
    "dictionary and label": lambda image, n: ({"image": image}, n),
    "user's dictionary": lambda image, n: UserDict(pixel_values=image),
    "beside the original": lambda image, n: {"image": Image.new("RGB", (n + 1, 9)), "pixel_values": image, "label": n},
    "text of unequal length": lambda image, n: {"image": image, "tokens": torch.zeros(n), "caption": None},
    **{key: lambda image, n, key=key: {"label": n, key: image} for key in KEYS},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_images_are_found_in_items_of_any_shape(vit, kind):
    expected = rank(vit, Items(lambda image, n: image)).best("blocks.0:3")
    assert rank(vit, Items(SHAPES[kind])).best("blocks.0:3") == expected
    assert rank(vit, Stream(Items(SHAPES[kind]))).best("blocks.0:3") == expected


@pytest.mark.parametrize("kind", ["image and label", "label and image", "name, label, image", *KEYS])
def test_and_in_batches_of_any_shape(vit, kind):
    expected = rank(vit, Items(lambda image, n: image)).best("blocks.0:3")
    assert rank(vit, DataLoader(Stream(Items(SHAPES[kind])), batch_size=4)).best("blocks.0:3") == expected

    def collate(items):  # of one's own, as Hugging Face's are
        return torch.utils.data.default_collate(items)

    loader = DataLoader(Items(SHAPES[kind]), batch_size=4, collate_fn=collate)
    assert rank(vit, loader).best("blocks.0:3") == expected


WRONG = {
    "other keys": (lambda image, n: {"picture": image, "label": n}, "a dict with picture: torch.float32 .*label"),
    "bytes": (lambda image, n: (image * 99).to(torch.uint8), "torch.uint8 of shape"),
    "bytes at a key": (lambda image, n: {"image": (image * 99).to(torch.uint8)}, "image: torch.uint8 of shape"),
    "rows": (lambda image, n: image.flatten(), r"shape \(B, 3, H, W\)"),
    "labels only": (lambda image, n: (n, n), "torch.int64"),
    "two that could be": (lambda image, n: (n, image, image), "batches of "),
    "Pillow's": (lambda image, n: Image.new("RGB", (16, 16)), "give the dataset a transform"),
    "Pillow's at a key": (lambda image, n: {"image": Image.new("RGB", (16, 16))}, "give the dataset a transform"),
    "of unequal sizes": (lambda image, n: image[:, :, : 15 + n % 2], r"\(3, 16, 15\) and \(3, 16, 16\)"),
    "some grey": (lambda image, n: image[: 1 + 2 * (n % 2)], r"\(1, 16, 16\) and \(3, 16, 16\)"),
    "None": (lambda image, n: None, "give the dataset a transform"),
    "of another size": (lambda image, n: image[:, :8], r"\(3, 8, 16\), and .* takes \(3, 16, 16\); resize"),
    "grey": (lambda image, n: image[:1], r"\(1, 16, 16\), and .* takes \(3, 16, 16\)"),
    "channels last": (lambda image, n: image.movedim(0, -1), r"put the channels first: images.movedim\(-1, -3\)"),
    "not normalized": (lambda image, n: image.sigmoid() * 255, "values up to 25.*vit.preprocessing.normalize"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_in_one_line(vit, kind, workers, stream):
    make, message = WRONG[kind]
    if stream and kind in ("of unequal sizes", "some grey"):
        message = "of the same size"
    dataset = DataLoader(Stream(Items(make)), batch_size=4, num_workers=workers) if stream else Items(make)
    with pytest.raises(DatasetError, match=message) as caught:
        rank(vit, dataset, workers=workers)
    if workers == 0:  # PyTorch adds where it came from
        assert "\n" not in str(caught.value)


def test_the_model_knows_best_what_sizes_it_takes():
    vit = model(dynamic_img_size=True)
    result = rank(vit, Items(lambda image, n: image[:, :8]))
    assert result.images == 11
    with pytest.raises(CaptumViTError):
        rank(vit, Items(lambda image, n: image[:, :7]))


def test_a_model_of_other_channels_is_asked_in_its_own_words():
    vit = model(in_chans=5)
    images = torch.randn(4, 5, 16, 16)
    assert rank(vit, Items(lambda image, n: image, images)).images == 4
    with pytest.raises(DatasetError, match=r"takes \(5, 16, 16\); put the channels first"):
        rank(vit, Items(lambda image, n: image.movedim(0, -1), images))


def test_a_wrapper_may_take_what_the_model_inside_does_not():
    class Coloured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            adapted = model()
            adapted.restore()
            self.inner = adapted.model

        def forward(self, images):
            return self.inner(nn.functional.interpolate(images.expand(-1, 3, -1, -1), (16, 16)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be measured of it
        vit = captum_vit.adapt(Coloured().eval())
    assert rank(vit, Items(lambda image, n: image[:1, :12, :12])).images == 11


def test_batches_of_nothing_are_passed_over(vit):
    class Batches(IterableDataset):
        def __iter__(self):
            return iter([IMAGES[:0], IMAGES[:4], IMAGES[:0], IMAGES[4:]])

    result = rank(vit, DataLoader(Batches(), batch_size=None))
    assert result.best("blocks.0:3") == rank(vit, TensorDataset(IMAGES)).best("blocks.0:3")


@pytest.mark.parametrize(
    "empty",
    [[], TensorDataset(IMAGES[:0]), Stream(Items(lambda image, n: image, IMAGES[:0]))],
    ids=["list", "set", "stream"],
)
def test_an_empty_dataset_is_told(vit, empty):
    with pytest.raises(ImageError, match="the dataset is empty"):
        rank(vit, empty)


# --- streams of several workers


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 20])
def test_a_stream_that_is_shared_out_gives_each_image_once(vit, workers, batch_size):
    loader = DataLoader(Stream(Items(lambda image, n: image)), batch_size, num_workers=workers)
    result = rank(vit, loader)
    assert result.images == 11
    expected = rank(vit, TensorDataset(IMAGES)).best("blocks.0:3")
    assert [image.sha256 for image in result.best("blocks.0:3")] == [image.sha256 for image in expected]


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 20])
@pytest.mark.parametrize("length", [2, 11])
def test_a_stream_that_every_worker_gives_whole_is_refused(vit, workers, batch_size, length):
    stream = Stream(Items(lambda image, n: image, IMAGES[:length]), shared=False)
    assert rank(vit, DataLoader(stream, batch_size, num_workers=1)).images == length
    with pytest.raises(DatasetError, match=rf"each of the {workers} workers .* {workers} times; .*get_worker_info"):
        rank(vit, DataLoader(stream, batch_size, num_workers=workers))


def test_images_that_are_the_same_are_no_proof(vit):
    stream = Stream(Items(lambda image, n: image, IMAGES[:1].expand(12, -1, -1, -1)))
    assert rank(vit, DataLoader(stream, 2, num_workers=2)).images == 12


def test_a_workers_own_argument_is_looked_at_too(vit):
    with pytest.raises(DatasetError, match="each of the 2 workers"):
        rank(vit, Stream(Items(lambda image, n: image), shared=False), workers=2)


def test_numbers_of_other_formats_are_taken(vit):
    expected = rank(vit, TensorDataset(IMAGES)).best("blocks.0:3")
    found = rank(vit, Items(lambda image, n: image.numpy().astype(np.float64))).best("blocks.0:3")
    assert [image.index for image in found] == [image.index for image in expected]
