"""Every error and warning the package raises by its own name. None is a RuntimeError: Lucent's loop swallows those."""

from __future__ import annotations


class CaptumViTError(Exception):
    """Base of all errors of this package; the command line prints its message as one line."""


class UnsupportedModelError(CaptumViTError, TypeError):
    """No adapter serves the model, or more than one does, or the model is in a state that cannot be adapted."""


class AddressError(CaptumViTError, ValueError):
    """A site, unit or patch that the model does not have, or an address that is not ``site:unit``."""


class GridError(CaptumViTError, ValueError):
    """The tokens at a site do not form the patch grid that its adapter describes, or an image is too small for one."""


class PluginError(CaptumViTError):
    """Adapters of several distributions claim the same model, or a named family is not installed."""


class PluginWarning(UserWarning):
    """A distribution's plugin could not be loaded; everything else works without it."""


class TrainingModeWarning(UserWarning):
    """The model is in training mode: dropout and drop path make every pass different."""


class ZeroAttributionWarning(UserWarning):
    """The patch tokens of a site never reach the model's output, so attributions of the output are zero there."""


class StaleCheckpointWarning(UserWarning):
    """The checkpoint of an interrupted pass is damaged or of other arguments, so the pass starts anew."""
