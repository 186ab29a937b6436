"""What adapters of Hugging Face's transformers share: finding modules whatever the release, and the preprocessing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import ClassVar

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from captum_vit import Adapter, Preprocessing
from captum_vit.errors import ArgumentError, UnsupportedModelError

# Where releases and classes keep their blocks, and in a block the layer that reads the hidden activation.
BLOCKS = ("encoder.layers", "encoder.layer", "model.layer", "transformer.layers", "layers", "layer", "blocks")
SECOND_LINEAR = (
    "mlp.fc2",
    "mlp.lin2",
    "mlp.dense2",
    "mlp.down_proj",
    "mlp.weights_out",
    "mlp.proj_out",
    "ffn.down_proj",
    "ffn.fc2",
    "feed_forward.down_proj",
    "output.dense",
)


class FromTransformers(Adapter):
    """Models of transformers, with their configuration.

    Attributes
    ----------
    any_size
        Whether they take images of every size as they are.
    """

    any_size: ClassVar[bool] = False

    def serves(self, model: nn.Module) -> bool:
        """Whether it is of the classes, and has its stem: some releases keep the model itself inside another."""
        return super().serves(model) and inside(model, self.stem) is not None

    def hands_on(self, wrapper: nn.Module) -> bool:
        """Heads of transformers do, and models of images and texts."""
        kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(wrapper).__mro__)
        return "transformers.modeling_utils.PreTrainedModel" in kinds

    def preprocessing(self, model: nn.Module) -> Preprocessing:
        """What was published with the weights, if that is on this machine; else the size alone is known."""
        config = model.config
        found = published(getattr(config, "_name_or_path", "") or "")
        if found is None:
            found = Preprocessing(size(config), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, assumed=True)
        return replace(found, any_size=self.any_size)


def of(*classes: str) -> tuple[str, ...]:
    """Paths of classes, given as they are below ``transformers.models``."""
    return tuple(f"transformers.models.{path}" for path in classes)


def inside(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a path in another; None if there is none."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of each block of a model whose blocks are all in one list.

    Raises
    ------
    UnsupportedModelError
        It has no such list.
    """
    for path in BLOCKS:
        if isinstance(listed := inside(model, path), nn.ModuleList):
            yield from ((f"{path}.{i}", block) for i, block in enumerate(listed))
            return
    raise UnsupportedModelError(
        f"{type(model).__name__} has no list of blocks at {_either(BLOCKS)}: this release of transformers keeps them "
        "elsewhere; write an adapter that tells where"
    )


def second_linear(name: str, block: nn.Module) -> nn.Module:
    """The layer of a block that reads its hidden activation.

    Raises
    ------
    UnsupportedModelError
        It is at none of the places where they are.
    """
    for path in SECOND_LINEAR:
        if (layer := inside(block, path)) is not None:
            return layer
    raise UnsupportedModelError(
        f"the block {type(block).__name__} at {name} has no second linear layer at {_either(SECOND_LINEAR)}; write an "
        "adapter that tells which layer reads its hidden activation"
    )


def size(config: object) -> tuple[int, int]:
    """(height, width) of the images that a configuration names; 224 pixels where it names none."""
    value = getattr(config, "image_size", None) or 224
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


@cache
def published(name: str) -> Preprocessing | None:
    """What the image processor says that lies with a model's weights, in a folder or the cache; no network is asked.

    None where there is none, or an incomplete one.
    """
    if not name:
        return None
    from transformers.image_processing_utils import BaseImageProcessor

    try:
        return Preprocessing.read(BaseImageProcessor.get_image_processor_dict(name, local_files_only=True)[0])
    except (OSError, ArgumentError):
        return None


def _either(paths: Iterable[str]) -> str:
    return " or ".join(paths)
