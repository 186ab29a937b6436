"""What a plugin may offer: the hooks that hand things over, and what every such thing tells of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import pluggy

if TYPE_CHECKING:
    from captum_vit.probes.adapter import Adapter
    from captum_vit.probes.source import ModelSource

# The group of entry points through which plugins are found.
GROUP = "captum_vit"
# Its plugins give way to any other distribution's that serves the same; nothing else sets them apart.
OWN_DISTRIBUTION = "captum-vit"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class Offered:
    """What a plugin hands over.

    Attributes
    ----------
    hook
        Name of the hook by which it is handed over.
    """

    hook: ClassVar[str]

    def check(self) -> None:
        """Make sure that it can be used.

        Raises
        ------
        PluginError
            It cannot.
        """


@hookspec
def captum_vit_adapters() -> Iterable[Adapter]:
    """Return the adapters that this plugin provides."""
    raise NotImplementedError  # a specification: pluggy never calls it


@hookspec
def captum_vit_models() -> Iterable[ModelSource]:
    """Return the sources of models (:class:`captum_vit.ModelSource`) that this plugin provides, one a scheme."""
    raise NotImplementedError  # a specification: pluggy never calls it


@hookspec
def captum_vit_recipes() -> Iterable[Offered]:
    """Return the recipes (:class:`captum_vit.Recipe`) that this plugin provides, for ``render(..., recipe=name)``."""
    raise NotImplementedError  # a specification: pluggy never calls it


# By hook, what its things are called, and what one of them should be.
HOOKS = {
    captum_vit_adapters.__name__: ("adapters", "an Adapter instance"),
    captum_vit_models.__name__: ("sources of models", "a ModelSource instance"),
    captum_vit_recipes.__name__: ("recipes", "a Recipe"),
}
