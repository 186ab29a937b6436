"""What a plugin implements to give models by name: the ModelSource of one scheme, such as ``timm:``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from captum_vit.errors import PluginError
from captum_vit.probes.hookspecs import Offered, captum_vit_models
from captum_vit.probes.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what its library knows of it besides.

    Attributes
    ----------
    model
        The model.
    preprocessing
        What it expects of images, as :func:`captum_vit.adapt` takes it; None where it is read from the model.
    output
        Which tensor of its output is meant, such as ``"logits"``; None for the output as it is.
    """

    model: nn.Module
    preprocessing: Preprocessing | object | None = None
    output: str | int | None = None


class ModelSource(Offered, ABC):
    """What makes models by name.

    Whatever its methods raise becomes one line that names the model; an error of :mod:`captum_vit.errors` is passed on
    as it is.

    Attributes
    ----------
    scheme
        What stands before the colon in the names of its models.
    library
        The module that it needs; None if that is installed with it.
    install
        What to tell pip to install where the library is missing.
    """

    hook = captum_vit_models.__name__
    scheme: ClassVar[str]
    library: ClassVar[str | None] = None
    install: ClassVar[str] = ""

    def check(self) -> None:
        """Make sure that it has a scheme."""
        scheme = getattr(self, "scheme", None)
        if not isinstance(scheme, str) or not re.fullmatch(r"[\w.+-]+", scheme):
            raise PluginError(f'{type(self).__name__} does not name its scheme; set scheme = "name"')

    def check_name(self, name: str) -> None:
        """Make sure that there may be a model of that name, without a network.

        Raises
        ------
        ModelNameError
            There is none; the message suggests similar names.
        """

    @abstractmethod
    def untrained(self, name: str) -> LoadedModel:
        """Make a model at random weights, drawn from torch's own generator.

        It is also called inside ``torch.device("meta")``, to list a model's sites without any weights.
        """

    @abstractmethod
    def published(self, name: str) -> LoadedModel:
        """Make a model with the weights that were published, or are in the folder that the name says."""

    def filled(self, name: str, weights: Mapping[str, Tensor]) -> LoadedModel:
        """Make a model with the weights of a file, each under the model's own name for it where there is one.

        Weights that are missing, left over or of another shape are an error.
        """
        loaded = self.untrained(name)
        loaded.model.load_state_dict(weights)
        return loaded
