"""What a plugin implements: the Adapter of one architecture family, and the hooks that hand things over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pluggy
from torch import nn

from captum_vit.site import Site

if TYPE_CHECKING:
    from captum_vit.recipe import Recipe

hookspec = pluggy.HookspecMarker("captum_vit")
hookimpl = pluggy.HookimplMarker("captum_vit")


class Adapter(ABC):
    """What knows one architecture family: which model classes it serves and where their neurons are.

    Attributes
    ----------
    family
        Short name, as in ``adapt(model, family="deit")``.
    models
        Classes of the models that the adapter serves, subclasses included; none if :meth:`serves` decides otherwise.
    stem
        Module path of the module that first receives the image. The image's size is noted there.
    """

    family: ClassVar[str]
    models: ClassVar[tuple[type[nn.Module], ...]] = ()
    stem: ClassVar[str] = "patch_embed"

    def serves(self, model: nn.Module) -> bool:
        """Whether this adapter can list the sites of ``model``; by default, whether its class is in ``models``."""
        return isinstance(model, self.models)

    @abstractmethod
    def sites(self, model: Any) -> Iterator[Site]:
        """Yield the model's sites, made by :func:`captum_vit.feed_forward`, in the order of the forward pass."""


@hookspec
def captum_vit_adapters() -> Iterable[Adapter]:
    """Return the adapters that this plugin provides."""
    raise NotImplementedError  # a specification: pluggy never calls it


@hookspec
def captum_vit_recipes() -> Iterable[Recipe]:
    """Return the recipes that this plugin provides, for ``render(..., recipe=name)``."""
    raise NotImplementedError  # a specification: pluggy never calls it
