"""open_clip's vision towers by name: ``open_clip:NAME/WEIGHTS``, such as ``open_clip:ViT-B-32/laion2b_s34b_b79k``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from captum_vit import LoadedModel, ModelSource, hookimpl
from captum_vit.errors import ModelNameError, WeightsError
from captum_vit.loading.hub import hub

# Names that open_clip resolves by itself, on the hub or in a folder.
ELSEWHERE = ("hf-hub:", "local-dir:")
# A text tower of next to no size, which takes no time and, unlike a library's own, no network.
NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


class OpenClipModels(ModelSource):
    """The towers that see; images are as the weights' own preprocessing gives them."""

    scheme = "open_clip"
    library = "open_clip"
    install = '"captum-vit[open-clip]"'

    def check_name(self, name: str) -> None:
        """Look the name, and the tag of its weights, up in open_clip's lists."""
        import open_clip

        if name.startswith(ELSEWHERE):
            return
        model, slash, tag = name.partition("/")
        known = open_clip.list_models()
        if model not in known:
            close = difflib.get_close_matches(model, known, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(close)}?" if close else "open_clip.list_models() lists them"
            raise ModelNameError(f'no model "{model}" among open_clip\'s; {advice}')
        has = open_clip.list_pretrained_tags_by_model(model)
        if slash and tag not in has:
            raise ModelNameError(f'{model} has no weights "{tag}"; it has {", ".join(has) or "none"}')

    def untrained(self, name: str) -> LoadedModel:
        """The architecture that the weights are for, with the default activation where none are named."""
        if name.startswith(ELSEWHERE):
            return _tower(name, load_weights=False)
        model, _, tag = name.partition("/")
        of_tag = _config(model, tag)
        told = {each: of_tag[each] for each in ("mean", "std") if each in of_tag}
        return _tower(model, force_preprocess_cfg=told, force_quick_gelu=_quick(of_tag), text_cfg=dict(NO_TEXT))

    def published(self, name: str) -> LoadedModel:
        """With the weights of its tag."""
        if name.startswith(ELSEWHERE):
            return _tower(name, require_pretrained=True)
        import open_clip

        model, _, tag = name.partition("/")
        if not tag:
            has = open_clip.list_pretrained_tags_by_model(model)
            choice = f"name its weights, such as open_clip:{model}/{has[0]} ({', '.join(has)})" if has else ""
            raise WeightsError(
                f"{choice or f'nobody published weights for {model}'}, give a local file with --checkpoint FILE, or "
                "take an untrained model with --random-weights"
            )
        return _tower(model, pretrained=tag, require_pretrained=True, force_quick_gelu=_quick(_config(model, tag)))


def _tower(name: str, **settings: Any) -> LoadedModel:
    import open_clip

    device = torch.empty(0).device  # "meta" for a sketch; open_clip itself would move the model away from there
    with hub(), _silence():
        tower = open_clip.create_model(name, device=device, pretrained_hf=False, **settings).visual
    if hasattr(tower, "output_tokens"):
        tower.output_tokens = False  # the image's embedding alone
    return LoadedModel(tower, preprocessing=dict(tower.preprocess_cfg))


def _config(model: str, tag: str) -> Mapping[str, Any]:
    """What open_clip knows of weights: where they are, mean and standard deviation, activation."""
    import open_clip

    return open_clip.get_pretrained_cfg(model, tag) if tag else {}


def _quick(config: Mapping[str, Any]) -> bool:
    """Whether weights were trained with the approximate GELU; under the exact one they give other numbers."""
    return bool(config.get("quick_gelu"))


@contextmanager
def _silence() -> Iterator[None]:
    """Context without what open_clip logs: of weights that were not asked for, and of what is raised as well."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@hookimpl
def captum_vit_models() -> list[ModelSource]:
    """Hand the source to captum-vit."""
    return [OpenClipModels()]
