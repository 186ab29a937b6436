"""Models by name with the weights that were asked for: the embedded ones, a file's, the hub's or random ones."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_vit import models
from captum_vit.errors import ModelNameError, WeightsError

# Names that timm resolves by itself, on the hub or in a folder.
_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


def build_model(
    name: str, checkpoint: str | Path | None = None, random_weights: bool = False, seed: int = 0
) -> nn.Module:
    """Make a model, in eval mode on the CPU. Its weights are never random without being asked for.

    Parameters
    ----------
    name
        An embedded model (``captum_vit.models.available()``) or one of timm's.
    checkpoint
        File with its weights: safetensors, or a PyTorch file, of which only tensors are read and no code is run. The
        hub's weights are taken when not given.
    random_weights
        Whether to initialize the weights at random instead.
    seed
        Of the random weights.

    Raises
    ------
    ModelNameError
        There is no model of that name.
    WeightsError
        The file is not one of weights for this model, the hub cannot be reached or has no weights, or both kinds of
        weights were asked for.
    """
    if checkpoint is not None and random_weights:
        raise WeightsError("--checkpoint and --random-weights exclude each other; give one of them")
    if name in models.available():
        if checkpoint is not None or random_weights:
            raise WeightsError(
                f"{name} comes with its weights; --checkpoint and --random-weights are for timm's models"
            )
        return models.load(name)
    check_name(name)
    if checkpoint is not None:
        return _from_file(name, Path(checkpoint))
    if random_weights:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _create(name, pretrained=False)
    return _from_hub(name)


def build_without_weights(name: str) -> nn.Module:
    """Make a model to list its sites, in no time and memory.

    The weights of timm's models have shapes but no values; an embedded model comes with its own, as it is small.

    Raises
    ------
    ModelNameError
        There is no model of that name, or the hub that should know it cannot be reached.
    """
    if name in models.available():
        return models.load(name)
    check_name(name)
    try:
        with torch.device("meta"):
            return _create(name, pretrained=False)
    # For a name on the hub or in a folder, even the architecture is only known there.
    except Exception as error:
        raise ModelNameError(f"{name} cannot be built ({_brief(error)})") from error


def check_name(name: str) -> None:
    """Make sure that timm, or this package, has a model of that name.

    Raises
    ------
    ModelNameError
        There is none; the message suggests similar names.
    """
    import timm

    if name in models.available() or name.startswith(_ELSEWHERE):
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = [*models.available(), *timm.list_models()]
        close = difflib.get_close_matches(architecture, known, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists timm's"
        raise ModelNameError(f'no model "{name}" among timm\'s and the embedded ones; {advice}')
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        has = f"it has {', '.join(tags)}" if tags else "it has none"
        raise ModelNameError(f'{architecture} has no weights with the tag "{tag}"; {has}')


def _create(name: str, **settings: Any) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, **settings)
    return model.eval()


def _from_hub(name: str) -> nn.Module:
    import timm

    otherwise = "give a local file with --checkpoint FILE, or take an untrained model with --random-weights"
    if not name.startswith(_ELSEWHERE) and not timm.models.is_model_pretrained(name.partition(".")[0]):
        raise WeightsError(f"nobody published weights for {name} on the hub; {otherwise}")
    try:
        return _create(name, pretrained=True)
    # What goes wrong on the way to the hub is of many kinds (OSError, httpx's and requests' own errors).
    except Exception as error:
        raise WeightsError(
            f"the weights of {name} cannot be had from the hub ({_brief(error)}); {otherwise}"
        ) from error


def _from_file(name: str, path: Path) -> nn.Module:
    from timm.models import load_state_dict

    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        raise WeightsError(f"{path} {state}; give a file of weights for {name} (.safetensors, .pth)")
    try:
        weights = load_state_dict(str(path), weights_only=True)
        if not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise ValueError("it holds no table of weights")
    # torch.load and safetensors fail in many ways on files that are not theirs.
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({_brief(error)}); give what torch.save(model.state_dict(), FILE) or "
            "safetensors.torch.save_file(model.state_dict(), FILE) wrote"
        ) from error
    classes = _classes(name, weights)
    # As timm loads the hub's weights, so that files downloaded from there pass through the same conversions.
    source = {"source": "", "state_dict": weights, "num_classes": classes}
    try:
        model = _create(name, pretrained=True, pretrained_cfg_overlay=source, num_classes=classes)
    # The conversions fail with KeyError and the like on weights of another architecture.
    except Exception as error:
        raise WeightsError(f"the weights in {path} are not those of {name}: {_brief(error)}") from error
    vars(model)["pretrained_cfg"].pop("state_dict", None)  # or the model would carry its first weights along
    return model


def _classes(name: str, weights: dict[str, torch.Tensor]) -> int:
    """Number of classes that the weights are for, which a fine-tuned model has of its own; 0 without a classifier."""
    from timm.models import get_pretrained_cfg

    config = None if name.startswith(_ELSEWHERE) else get_pretrained_cfg(name)
    declared = config.classifier if config is not None else None
    names = [declared] if isinstance(declared, str) else list(declared or ())
    heads = [weights[f"{head}.weight"] for head in (*names, "head", "head.fc") if f"{head}.weight" in weights]
    return len(heads[0]) if heads else 0


def _brief(error: Exception) -> str:
    """The first thing that an error says, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # PyTorch's own heads a list: "Error(s) in loading state_dict for X:".
    first = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else ""
    if " " not in first:  # KeyError: 'model', UnpicklingError: 101
        first = f"{type(error).__name__}: {first}".rstrip(": ")
    return first if len(first) <= 120 else f"{first[:120]} …"
