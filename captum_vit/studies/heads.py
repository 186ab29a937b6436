"""A model's own head: what its outputs are called, what it gives, and what it reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from captum_vit.cards.embedding import pooled
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel

_IMAGENET = 1000
_WORDNET = re.compile(r"(n\d{8})(?:_(.+))?")


def library_model(vit: AdaptedModel) -> nn.Module:
    """The model that has a head, in a wrapper or by itself."""
    return next((module for module in vit.model.modules() if hasattr(module, "forward_head")), vit.model)


def outputs_of(vit: AdaptedModel) -> dict[str, int]:
    """The names that the outputs of a model's head go by, and their places; empty where they have none.

    Names are those that timm's or transformers' configuration gives, one or several for an output. A head with a
    thousand outputs is taken for one of ImageNet's classes in their usual order, by WordNet's numbers and names. A name
    of two outputs ("crane", the bird and the machine) is none.
    """
    model = library_model(vit)
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    numbered = getattr(_config(model), "id2label", None) or {}
    told = list(config.get("label_names") or ()) or [numbered[place] for place in sorted(numbered)]
    count = _outputs(model)
    names = [_names(name) for name in told] if len(told) == count else [set()] * count
    if count == _IMAGENET:
        from timm.data import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        words = (_names(info.index_to_description(place)) for place in range(count))
        names = [each | more | {number} for each, more, number in zip(names, words, info.label_names(), strict=True)]
    used = Counter(name for each in names for name in each)
    return {name: place for place, each in enumerate(names) for name in each if used[name] == 1}


def place_of(label: str, outputs: Mapping[str, int]) -> int | None:
    """The place of a label among named outputs: by its name, WordNet's number, or both (``n02084071_dog``)."""
    found = _WORDNET.fullmatch(label)
    spellings = [label, *(found.groups() if found else ())]
    return next((outputs[_plain(each)] for each in spellings if each and _plain(each) in outputs), None)


def scores(vit: AdaptedModel, images: Tensor) -> Tensor:
    """What the head gives, ``(B, classes)``."""
    output = vit(images)
    given: Tensor = output if isinstance(output, Tensor) else output.logits
    return given


def features(vit: AdaptedModel, images: Tensor) -> Tensor:
    """What the head reads, ``(B, C)``; of a model without a head, its output.

    A head that timm does not name is the linear layer that gives the model's output.

    Raises
    ------
    StudyError
        The output is no row of numbers for each image.
    """
    found = None if hasattr(vit.model, "forward_head") else _read_by_last_layer(vit, images)
    if found is None:
        vectors = pooled(vit, images)
        found = None if vectors is None else vectors[0]
    if found is None:
        raise StudyError(
            f"{vit.model_name} gives no features to fit a classifier on, one row for each image; take the model "
            "of timm, or one whose output is an embedding"
        )
    return found.float()


def _read_by_last_layer(vit: AdaptedModel, images: Tensor) -> Tensor | None:
    """The input of the linear layer whose output is the model's; None if there is none."""
    last = _Last()
    hooks = [each.register_forward_hook(last) for each in vit.model.modules() if isinstance(each, nn.Linear)]
    try:
        output = vit(images)
    finally:
        for hook in hooks:
            hook.remove()
    given = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    return last.read if isinstance(given, Tensor) and last.gave is given and given.dim() == 2 else None


class _Last:
    """A hook that remembers what the last layer that it is on read and gave."""

    def __init__(self) -> None:
        self.read: Tensor | None = None
        self.gave: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.read, self.gave = inputs[0], output


def _outputs(model: nn.Module) -> int:
    """How many outputs a head has: as the library says, or as its last linear layer has."""
    for holder, name in ((model, "num_classes"), (_config(model), "num_labels")):
        if isinstance(count := getattr(holder, name, None), int):
            return count
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return layers[-1].out_features if layers else 0


def _config(model: nn.Module) -> Any:
    """The configuration of a classifier of transformers. Models without a head keep that of the one they came from."""
    return getattr(model, "config", None) if hasattr(model, "classifier") else None


def _names(words: str) -> set[str]:
    """A name with its synonyms, as ImageNet has them: "tench, Tinca tinca"."""
    return {_plain(name) for name in (words, *words.split(","))}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())
