"""What a plugin implements: the Adapter of one architecture family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import nn

from captum_vit.errors import PluginError
from captum_vit.probes.hookspecs import Offered, captum_vit_adapters, hookimpl
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.site import Site

__all__ = ["Adapter", "hookimpl"]


class Adapter(Offered, ABC):
    """What knows one architecture family: which model classes it serves and where their neurons are.

    Attributes
    ----------
    family
        Short name, as in ``adapt(model, family="deit")``.
    models
        Classes of the models that the adapter serves, subclasses included; none if :meth:`serves` decides otherwise. A
        class may be given by its path, ``"transformers.models.swin.modeling_swin.SwinModel"``: then nothing is imported
        before its model arrives, and a release of its library that lacks it does no harm.
    stem
        Module path of the module that first receives the image. The image's size is noted there.
    """

    hook = captum_vit_adapters.__name__
    family: ClassVar[str]
    models: ClassVar[tuple[type[nn.Module] | str, ...]] = ()
    stem: ClassVar[str] = "patch_embed"

    def check(self) -> None:
        """Make sure that it names its family."""
        if not isinstance(getattr(self, "family", None), str):
            raise PluginError(f"{type(self).__name__} does not name its family")

    def serves(self, model: nn.Module) -> bool:
        """Whether this adapter can list the sites of ``model``; by default, whether its class is in ``models``."""
        classes = type(model).__mro__
        paths = {f"{kind.__module__}.{kind.__qualname__}" for kind in classes}
        return any(served in paths if isinstance(served, str) else served in classes for served in self.models)

    def preprocessing(self, model: Any) -> Preprocessing | None:
        """Input size, mean and standard deviation that ``model`` expects; None where timm records them with it."""
        return None

    def hands_on(self, wrapper: nn.Module) -> bool:
        """Whether a module around a model hands images on as they are, so that nobody needs to measure what it does."""
        return False

    @abstractmethod
    def sites(self, model: Any) -> Iterator[Site]:
        """Yield the model's sites, made by :func:`captum_vit.feed_forward`, in the order of the forward pass."""
