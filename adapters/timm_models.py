"""timm's models by name: ``timm:NAME``, or the name alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from captum_vit import LoadedModel, ModelSource, hookimpl
from captum_vit.checks import briefly
from captum_vit.errors import ModelNameError, WeightsError
from captum_vit.loading.hub import hub
from captum_vit.models import available

# Names that timm resolves by itself, on the hub or in a folder.
ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


class TimmModels(ModelSource):
    """Models that carry what they expect of images."""

    scheme = "timm"

    def check_name(self, name: str) -> None:
        """Look the name, and the tag of its weights, up in timm's lists."""
        if name.startswith(ELSEWHERE):
            return
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            known = [*available(), *timm.list_models()]
            # The beginning of a name before words that are spelled like it: deit_small is deit_small_patch16_224.
            begun = sorted((each for each in known if each.startswith(f"{architecture}_")), key=len)
            close = begun[:3] or difflib.get_close_matches(architecture, known, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists timm's"
            raise ModelNameError(f'no model "{name}" among timm\'s and the embedded ones; {advice}')
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            has = f"it has {', '.join(tags)}" if tags else "it has none"
            raise ModelNameError(f'{architecture} has no weights with the tag "{tag}"; {has}')

    def untrained(self, name: str) -> LoadedModel:
        """As timm makes it."""
        with _finding(name):
            return LoadedModel(_create(name))

    def published(self, name: str) -> LoadedModel:
        """With the weights on the hub, or in the folder that the name says."""
        if not name.startswith(ELSEWHERE) and not timm.models.is_model_pretrained(name.partition(".")[0]):
            raise WeightsError(
                f"nobody published weights for {name} on the hub; give a local file with --checkpoint FILE, or take an "
                "untrained model with --random-weights"
            )
        with hub(), _finding(name):
            return LoadedModel(_create(name, pretrained=True))

    def filled(self, name: str, weights: Mapping[str, Tensor]) -> LoadedModel:
        """As timm loads the hub's weights, so that files from there pass through the same conversions."""
        classes = _classes(name, weights)
        source = {"source": "", "state_dict": weights, "num_classes": classes}
        model = _create(name, pretrained=True, pretrained_cfg_overlay=source, num_classes=classes)
        vars(model)["pretrained_cfg"].pop("state_dict", None)  # or the model would carry its first weights along
        return LoadedModel(model)


def _create(name: str, **settings: Any) -> nn.Module:
    with hub() if name.startswith(ELSEWHERE[:2]) else nullcontext():
        return timm.create_model(name, **settings)


@contextmanager
def _finding(name: str) -> Iterator[None]:
    """Context in which a model on the hub or in a folder is looked for, where even its architecture is only known."""
    try:
        yield
    except Exception as error:
        if not name.startswith(ELSEWHERE):
            raise
        raise ModelNameError(
            f"{name} cannot be had from the hub or a folder ({briefly(error)}); take a model that timm.list_models() "
            "lists, with --checkpoint FILE for its weights, or a folder as local-dir:FOLDER"
        ) from error


def _classes(name: str, weights: Mapping[str, Tensor]) -> int:
    """Number of classes that the weights are for, which a fine-tuned model has of its own; 0 without a classifier."""
    config = None if name.startswith(ELSEWHERE) else get_pretrained_cfg(name)
    declared = config.classifier if config is not None else None
    names = [declared] if isinstance(declared, str) else list(declared or ())
    heads = [weights[f"{head}.weight"] for head in (*names, "head", "head.fc") if f"{head}.weight" in weights]
    return len(heads[0]) if heads else 0


@hookimpl
def captum_vit_models() -> list[ModelSource]:
    """Hand the source to captum-vit."""
    return [TimmModels()]
