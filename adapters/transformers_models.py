"""Models of Hugging Face's transformers by name: ``transformers:ORGANIZATION/NAME``, or ``transformers:FOLDER``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from captum_vit import LoadedModel, ModelSource, Preprocessing, hookimpl
from captum_vit.checks import briefly
from captum_vit.errors import ArgumentError, ModelNameError
from captum_vit.loading.hub import hub

# What is a model's output, the first that it gives.
OUTPUTS = ("logits", "image_embeds", "pooler_output", "last_hidden_state")
# Classes that draw what is missing of an image; the model that sees is under them.
DRAWING = ("ForPreTraining", "ForMaskedImageModeling")


class TransformersModels(ModelSource):
    """Classes as the configurations say; of models of images and texts, the tower that sees."""

    scheme = "transformers"
    library = "transformers"
    install = '"captum-vit[transformers]"'

    def untrained(self, name: str) -> LoadedModel:
        """From its configuration."""
        kind, config = _seeing(*_kind(name))
        return _loaded(name, kind.from_config(config) if hasattr(kind, "from_config") else kind(config))

    def published(self, name: str) -> LoadedModel:
        """With the weights on the hub, or in the folder."""
        whole, config = _kind(name)
        kind, part = _seeing(whole, config)
        with _asking(name):
            model, missing = _read(kind, name, config=part)
            # Not every model of images and texts lets its tower be read alone.
            if missing and kind is not whole:
                model, missing = _read(whole, name, config=config)
                model = next(module for module in model.modules() if isinstance(module, kind))
        return _loaded(name, _complete(model, missing))

    def filled(self, name: str, weights: Mapping[str, Tensor]) -> LoadedModel:
        """As transformers loads its own, so that weights of earlier releases pass through the same conversions."""
        kind, config = _seeing(*_kind(name))
        if "classifier.weight" in weights:
            config.num_labels = len(weights["classifier.weight"])
        return _loaded(name, _complete(*_read(kind, None, config=config, state_dict=dict(weights))))


def _kind(name: str) -> tuple[Any, Any]:
    """The class of a model, and its configuration."""
    import transformers

    try:
        with _asking(name):
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    # Of many kinds: no network, no such repository, a folder with something else, a class of tomorrow's release.
    except Exception as error:
        raise ModelNameError(
            f"transformers:{name} cannot be had from the hub or a folder ({briefly(error)}); give the folder that "
            "model.save_pretrained(FOLDER) wrote, as transformers:FOLDER"
        ) from error
    architecture = next(iter(config.architectures or ()), "")
    known = None if architecture.endswith(DRAWING) else getattr(transformers, architecture, None)
    return known or transformers.AutoModel, config


def _seeing(kind: Any, config: Any) -> tuple[Any, Any]:
    """The class and the configuration of the part of a model that sees, which mostly is all of it."""
    import transformers

    part = getattr(config, "vision_config", None)
    if part is None or kind.__name__.endswith("ForImageClassification"):
        return kind, config
    return getattr(transformers, type(part).__name__.replace("Config", "Model"), transformers.AutoModel), part


def _read(kind: Any, name: str | None, **settings: Any) -> tuple[nn.Module, list[str]]:
    """A model, and what of it there were no weights for."""
    with _silence():
        model, report = kind.from_pretrained(name, output_loading_info=True, trust_remote_code=False, **settings)
    return model.float(), sorted(report["missing_keys"])


def _complete(model: nn.Module, missing: list[str]) -> nn.Module:
    """A model with all its weights; a pooling layer, which many were published without, is left out instead."""
    if missing and all("pooler" in key for key in missing):
        model.pooler = None
    elif missing:
        raise ValueError(f"it has no weights for {missing[0]}, and {len(missing)} are missing in all")
    return model


def _loaded(name: str, model: nn.Module) -> LoadedModel:
    return LoadedModel(model, preprocessing=_preprocessing(name), output=_output(model))


def _preprocessing(name: str) -> Preprocessing | None:
    """What the configuration of the image processor says; None where none was published, or an incomplete one."""
    from transformers.image_processing_utils import BaseImageProcessor

    try:
        with _asking(name):
            return Preprocessing.read(BaseImageProcessor.get_image_processor_dict(name)[0])
    except (OSError, ArgumentError):
        return None


def _output(model: nn.Module) -> str | None:
    """Which of its outputs is meant, found out by a pass without values."""
    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    tensors = chain(model.named_parameters(), model.named_buffers())
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors}
    image = torch.zeros(1, getattr(config, "num_channels", 3), height, width, device="meta")
    try:
        with torch.no_grad(), torch.device("meta"):
            given = functional_call(model.eval(), shapes, (), {"pixel_values": image})
    except (TypeError, ValueError) as error:
        raise ModelNameError(f"{type(model).__name__} is no model of images alone ({briefly(error)})") from error
    if isinstance(given, Tensor):
        return None
    return next((name for name in OUTPUTS if given.get(name) is not None), next(iter(given)))


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Context in which the hub is asked, unless the name is a folder's."""
    with nullcontext() if Path(name).is_dir() else hub():
        yield


@contextmanager
def _silence() -> Iterator[None]:
    """Context without progress bars, and without reports of weights: of what is missing, more is made than a report."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@hookimpl
def captum_vit_models() -> list[ModelSource]:
    """Hand the source to captum-vit."""
    return [TransformersModels()]
