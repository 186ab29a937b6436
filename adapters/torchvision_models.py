"""torchvision's classifiers by name: ``torchvision:NAME``, or ``torchvision:NAME/WEIGHTS``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from captum_vit import LoadedModel, ModelSource, hookimpl
from captum_vit.errors import ModelNameError


class TorchvisionModels(ModelSource):
    """Models whose images are as their weights' own transforms give them."""

    scheme = "torchvision"
    library = "torchvision"
    install = "torchvision"

    def check_name(self, name: str) -> None:
        """Look the name, and that of its weights, up in torchvision's lists."""
        from torchvision import models

        model, slash, tag = name.partition("/")
        known = models.list_models(module=models)
        if model not in known:
            close = difflib.get_close_matches(model, known, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(close)}?" if close else "torchvision.models.list_models() lists them"
            raise ModelNameError(f'no model "{model}" among torchvision\'s; {advice}')
        has = [weights.name for weights in models.get_model_weights(model)]
        if slash and tag not in has:
            raise ModelNameError(f'{model} has no weights "{tag}"; it has {", ".join(has)}')

    def untrained(self, name: str) -> LoadedModel:
        """Of the size that its weights are for."""
        return _make(name)

    def published(self, name: str) -> LoadedModel:
        """With weights that torch.hub downloads and keeps."""
        loaded = _make(name)
        loaded.model.load_state_dict(_weights(name).get_state_dict(progress=False, check_hash=True))
        return loaded

    def filled(self, name: str, weights: Mapping[str, Tensor]) -> LoadedModel:
        """With as many classes as the weights are for."""
        from torch import device

        with device("meta"):
            *_, (head, _) = _linear(_make(name).model)
        classes = {"num_classes": len(weights[f"{head}.weight"])} if f"{head}.weight" in weights else {}
        loaded = _make(name, **classes)
        loaded.model.load_state_dict(weights)
        return loaded


def _make(name: str, **settings: Any) -> LoadedModel:
    from torchvision import models

    model, weights = name.partition("/")[0], _weights(name)
    if model.startswith("vit_"):
        settings["image_size"] = weights.meta["min_size"][0]
    if categories := weights.meta["categories"]:
        settings.setdefault("num_classes", len(categories))
    made = models.get_model(model, weights=None, **settings)
    return LoadedModel(made, preprocessing=weights.transforms())


def _weights(name: str) -> Any:
    from torchvision import models

    model, _, tag = name.partition("/")
    all_of_them = models.get_model_weights(model)
    return all_of_them[tag] if tag else all_of_them.DEFAULT


def _linear(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear layers, of which the last is the classifier."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]


@hookimpl
def captum_vit_models() -> list[ModelSource]:
    """Hand the source to captum-vit."""
    return [TorchvisionModels()]
