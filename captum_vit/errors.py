"""Every error and warning the package raises by its own name. None is a RuntimeError: Lucent's loop swallows those."""

from __future__ import annotations

from typing import Any, ClassVar


class CaptumViTError(Exception):
    """Base of all errors of this package; the command line prints its message as one line.

    Attributes
    ----------
    page
        Short name of the page of the documentation that helps, which is its file's name, or none. A traceback shows it
        as a note.
    """

    page: ClassVar[str] = ""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.page:
            self.__notes__ = [f"The page {self.page} of the documentation has more."]  # as add_note() of Python 3.11


class ArgumentError(CaptumViTError, ValueError, TypeError):
    """An argument of a function that means nothing there."""


class MissingLibraryError(CaptumViTError, ImportError):
    """A library that is not installed with the package alone, and that something needs."""


class UnsupportedModelError(CaptumViTError, TypeError):
    """No adapter serves the model, or more than one does, or the model is in a state that cannot be adapted."""


class NoAdapterError(UnsupportedModelError):
    """No adapter serves the model, nor a module in it."""

    page = "write-an-adapter"


class AddressError(ArgumentError):
    """A site, unit or patch that the model does not have, or an address that is not ``site:unit``."""


class ChannelsError(CaptumViTError, ValueError):
    """The model takes images of other channels than red, green and blue, and photos and renders have no others."""


class GridError(CaptumViTError, ValueError):
    """The tokens at a site do not form the patch grid that its adapter describes, or an image is too small for one."""

    page = "write-an-adapter"


class ImageSizeError(CaptumViTError, ValueError, AssertionError):
    """An image of a size that the model does not take; an AssertionError too, as timm's own is."""

    page = "questions"


class LayoutError(CaptumViTError, ValueError):
    """A pattern that does not lead from an activation to a map of batch, units, rows and columns."""

    page = "write-an-adapter"


class OrderError(CaptumViTError, AssertionError):
    """The cells of a site look elsewhere than its grid says."""

    page = "write-an-adapter"


class RedirectError(CaptumViTError):
    """Gradients cannot be redirected at a site, as no activation function is known there."""


class RecomputationError(CaptumViTError):
    """A pass would stop, or a gradient be taken, inside activation checkpointing, which runs layers again."""


class PluginError(CaptumViTError):
    """Adapters of several distributions claim a model, a named family is not installed, or a plugin is wrong."""

    page = "write-an-adapter"


class RankingFileError(CaptumViTError, ValueError):
    """A file that is missing, damaged, or not a ranking."""

    page = "top-images"


class RankingError(CaptumViTError, ValueError):
    """Rankings that do not belong together, or settings of a pass that mean nothing."""

    page = "top-images"


class DatasetError(CaptumViTError, TypeError):
    """A dataset that does not give images, or a loader whose images cannot be told apart."""

    page = "top-images"


class PlotError(CaptumViTError, ValueError):
    """An array that cannot be drawn as an image or as a map over it."""


class MethodError(ArgumentError):
    """An attribution method that Captum does not have, that cannot explain a neuron, or with a wrong option."""

    page = "captum"


class RecipeError(CaptumViTError, ValueError):
    """No recipe has that name, or a recipe is not made of data."""

    page = "render-many-neurons"


class PlanError(ArgumentError):
    """Settings of a render that mean nothing."""


class DescriptionError(CaptumViTError, TypeError):
    """A value that cannot be told from others by what is in it."""


class DeviceError(CaptumViTError, ValueError):
    """A device that this machine does not have, or that does not compute."""

    page = "use-a-gpu"


class StaleRankingError(CaptumViTError, ValueError):
    """A ranking of images that is not of this model with these weights, or not of the files as they are now."""

    page = "top-images"


class CardError(ArgumentError):
    """Cards of no neuron, or the best photo of a card without one."""


class AtlasError(CaptumViTError, ValueError):
    """A folder that is no atlas, or one of another model, other photos, settings or format, or not finished."""

    page = "make-an-atlas"


class AtlasPageError(ArgumentError):
    """Records of an atlas that do not fit together, so that no page can be made of them."""


class NamingError(ArgumentError):
    """A CLIP that cannot be loaded, words that mean nothing, or too few photos to tell chance from."""

    page = "name-neurons"


class LabelError(ArgumentError):
    """Images without labels, or labels that are not those of the images."""


class StudyError(ArgumentError):
    """A study that cannot be made of these models and images, or two that do not belong together."""

    page = "run-studies"


class UnknownModelError(CaptumViTError, ValueError):
    """No embedded model has that name."""

    page = "models"


class CorruptedWeightsError(CaptumViTError, ValueError):
    """The weights file of an embedded model is missing or not the one that was published."""


class ModelNameError(CaptumViTError, ValueError):
    """No model has that name."""

    page = "use-local-weights"


class WeightsError(CaptumViTError, ValueError):
    """The weights that were asked for cannot be had, or are not this model's."""

    page = "use-local-weights"


class OutputError(CaptumViTError, OSError):
    """A file that cannot be written where it was asked for."""


class ImageError(CaptumViTError, ValueError):
    """A file that cannot be read as an image, or a folder without one."""


class CaptumViTWarning(UserWarning):
    """Base of all warnings of this package.

    Attributes
    ----------
    page
        Short name of the page of the documentation that helps, as of an error, or none. It ends what is shown.
    """

    page: ClassVar[str] = ""

    def __str__(self) -> str:
        return f"{super().__str__()} (docs: {self.page})" if self.page else super().__str__()


class PreprocessingWarning(CaptumViTWarning):
    """What a wrapper does to an image before the model gets it cannot be told, so nothing of it is allowed for."""

    page = "questions"


class PluginWarning(CaptumViTWarning):
    """A distribution's plugin could not be loaded; everything else works without it."""

    page = "write-an-adapter"


class TrainingModeWarning(CaptumViTWarning):
    """The model is in training mode: dropout and drop path make every pass different."""


class ZeroAttributionWarning(CaptumViTWarning):
    """The patch tokens of a site never reach the model's output, so attributions of the output are zero there."""

    page = "questions"


class StalePartialWarning(CaptumViTWarning):
    """The file of an interrupted pass is damaged or of other arguments, so the pass starts anew."""


StaleCheckpointWarning = StalePartialWarning  # its name while that file was called a checkpoint


class IdleAcceleratorWarning(CaptumViTWarning):
    """Long work begins on the CPU while the machine has an accelerator."""

    page = "use-a-gpu"
