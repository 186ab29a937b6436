"""A CLIP: an encoder of images and one of texts into the same space, whichever library it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from captum_vit.errors import NamingError
from captum_vit.storage.fingerprint import weights_sha256

# Where a model does not say what it was trained with, it was trained with these (Radford et al. 2021).
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class Clip(Protocol):
    """What names need of a CLIP; anything that has these will do.

    Attributes
    ----------
    name
        What to call it.
    size
        Height and width in pixels of the images that it takes.
    device
        Where it computes.
    sha256
        Checksum of its weights, in hexadecimal.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of images ``(B, 3, *size)``, pixels in [0, 1]."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``(T, D)``."""


@dataclass(frozen=True, eq=False)
class _Model:
    """What the two libraries' models share.

    Attributes
    ----------
    model
        The library's model, in eval mode.
    tokenizer
        The library's tokenizer for it.
    name
        What to call it.
    """

    _library: ClassVar[str]
    _encoders: ClassVar[tuple[str, ...]]

    model: Any
    tokenizer: Callable[..., Any]
    name: str = "a CLIP"

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module) or not all(hasattr(self.model, name) for name in self._encoders):
            raise NamingError(
                f"a {type(self.model).__name__} is no CLIP of {self._library}; it has no {' and '.join(self._encoders)}"
            )
        if self.model.training:
            raise NamingError(f"{self.name} is in training mode; call model.eval()")

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(next(self.model.parameters()).device)

    @property
    def sha256(self) -> str:
        """Checksum of its weights, in hexadecimal."""
        return weights_sha256(self.model)

    def _normalized(self, pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        center, scale = (torch.tensor(values).view(3, 1, 1).to(pixels) for values in (mean, std))
        return ((pixels - center) / scale).to(self.device, dtype)


@dataclass(frozen=True, eq=False)
class OpenClip(_Model):
    """A model of open_clip, ``open_clip.create_model(...)``, and its tokenizer, ``open_clip.get_tokenizer(...)``."""

    _library = "open_clip"
    _encoders = ("encode_image", "encode_text", "visual")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that it takes."""
        return _pair(self.model.visual.image_size)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """See :class:`Clip`."""
        seen = getattr(self.model.visual, "preprocess_cfg", None) or {}
        images = self._normalized(pixels, seen.get("mean", _MEAN), seen.get("std", _STD))
        return torch.as_tensor(self.model.encode_image(images))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """See :class:`Clip`."""
        return torch.as_tensor(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))


@dataclass(frozen=True, eq=False)
class TransformersClip(_Model):
    """A model of transformers with ``get_image_features`` and ``get_text_features``, and its tokenizer.

    Attributes
    ----------
    mean, std
        With which its images are normalized: ``image_mean`` and ``image_std`` of its image processor.
    """

    mean: Sequence[float] = _MEAN
    std: Sequence[float] = _STD

    _library = "transformers"
    _encoders = ("get_image_features", "get_text_features")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that it takes."""
        return _pair(self.model.config.vision_config.image_size)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """See :class:`Clip`."""
        return _features(self.model.get_image_features(pixel_values=self._normalized(pixels, self.mean, self.std)))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """See :class:`Clip`."""
        # SigLIP has learned what follows a text too.
        padding = "max_length" if "siglip" in self.model.config.model_type else True
        tokens = self.tokenizer(list(texts), padding=padding, truncation=True, return_tensors="pt")
        wanted = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask") if name in tokens}
        return _features(self.model.get_text_features(**wanted))


def load_clip(name: str, device: str | torch.device = "cpu") -> Clip:
    """Load a CLIP by its library's name for it.

    Parameters
    ----------
    name
        ``"open_clip:MODEL/WEIGHTS"``, with weights that open_clip knows (``"open_clip:ViT-B-32/laion2b_s34b_b79k"``)
        or a file of them (``"open_clip:ViT-B-32/clips/mine.pt"``); or ``"transformers:MODEL"``, a folder or a name on
        the hub (``"transformers:openai/clip-vit-base-patch32"``).
    device
        Where to compute.

    Raises
    ------
    NamingError
        The name has neither form, the library is not installed, or it cannot load the model.
    """
    library, _, model = name.partition(":")
    loaders = {"open_clip": _open_clip, "transformers": _transformers}
    if library not in loaders or not model:
        raise NamingError(
            f'no CLIP "{name}"; write open_clip:MODEL/WEIGHTS or transformers:MODEL, such as '
            "open_clip:ViT-B-32/laion2b_s34b_b79k"
        )
    try:
        return loaders[library](name, model, device)
    except NamingError:
        raise
    except ImportError as error:
        raise NamingError(
            f"{name} needs {library}, which cannot be imported ({error}); pip install "
            f'"captum-vit[{library.replace("_", "-")}]"'
        ) from error
    # Whatever a library raises where there is no such model, no such file or no network.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise NamingError(f"{library} cannot load {model}: {reason}") from error


def _open_clip(name: str, model: str, device: str | torch.device) -> Clip:
    import open_clip

    in_one = re.match(r"(hf-hub|local-dir):", model)
    architecture, _, weights = (model, "", "") if in_one else model.partition("/")
    if not in_one and not weights:
        raise NamingError(f"{name} names no weights; write {name}/WEIGHTS, with a file or a name that open_clip knows")
    built = open_clip.create_model(architecture, pretrained=weights or None, device=device)
    return OpenClip(built.eval(), open_clip.get_tokenizer(architecture), name)


def _transformers(name: str, model: str, device: str | torch.device) -> Clip:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    seen, built, tokenizer = (
        kind.from_pretrained(model)  # type: ignore[no-untyped-call, unused-ignore]
        for kind in (AutoImageProcessor, AutoModel, AutoTokenizer)
    )
    return TransformersClip(built.to(device).eval(), tokenizer, name, tuple(seen.image_mean), tuple(seen.image_std))


def _features(found: Any) -> Tensor:
    """Embeddings, which newer releases of transformers put into an output."""
    return found if isinstance(found, Tensor) else torch.as_tensor(found.pooler_output)


def _pair(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return int(height), int(width)
