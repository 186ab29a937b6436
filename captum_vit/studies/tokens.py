"""The tokens that a model ends with, as its head reads the class token, and the head on any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.classifier import Classifier
from captum_vit.studies.heads import library_model


class Tokens(NamedTuple):
    """The last tokens of images, normalized.

    Attributes
    ----------
    heads
        Those that heads read: the class token, and the distillation token if there is a head for it, ``(B, heads, C)``.
    patches
        ``(B, rows, columns, C)``.
    """

    heads: Tensor
    patches: Tensor


class TokenReader:
    """Reads the last tokens of a model, and applies its head to them.

    Parameters
    ----------
    vit
        The adapted model: of timm with ``forward_features`` and ``forward_head``, or of transformers with a base model
        that gives ``last_hidden_state`` and perhaps a ``classifier``.

    Attributes
    ----------
    grid
        Rows and columns of the patches.

    Raises
    ------
    StudyError
        The model does not classify by its class token alone, or does not end with patches that its head could read.
    """

    def __init__(self, vit: AdaptedModel) -> None:
        self._vit = vit
        model: Any = library_model(vit)
        last = vit.sites[-1]
        if not last.prefix_tokens:
            raise StudyError(f"{vit.model_name} has no class token: its head reads all positions together")
        self.grid, self._prefix = last.grid(vit.preprocessing.size), last.prefix_tokens
        self._heads = 1 + (getattr(model, "head_dist", None) is not None)
        self._sequence: Callable[[Tensor], Any]
        self._head: Callable[[Tensor, bool], Tensor]
        if hasattr(model, "forward_head"):
            self._sequence = model.forward_features
            self._head = lambda tokens, features: model.forward_head(tokens, pre_logits=features)
        else:
            base = getattr(model, "base_model", model)
            classify = getattr(model, "classifier", None)
            self._sequence = lambda images: getattr(base(images), "last_hidden_state", None)
            self._head = lambda tokens, features: (
                tokens[:, 0] if features or classify is None else classify(tokens[:, 0])
            )
        self._check()

    def read(self, images: Tensor) -> Tokens:
        """The last tokens of images as the model expects them, ``(B, 3, H, W)``."""
        sequence = self._sequence(images)
        rows, columns = self.grid
        patches = sequence[:, self._prefix : self._prefix + rows * columns]
        return Tokens(sequence[:, : self._heads], patches.unflatten(1, (rows, columns)))

    def scores(self, tokens: Tensor, found: Classifier) -> Tensor:
        """Scores of the classes by tokens, one for each head, ``(N, heads, C)``, or one for all, ``(N, 1, C)``."""
        read = tokens.expand(-1, self._heads, -1)
        if found.of_features is None:
            return self._head(read, False)
        return found.of_features(self._head(read, True))

    def _check(self) -> None:
        """The head on the class token gives what the model gives."""
        vit = self._vit
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, *vit.preprocessing.size, generator=generator).to(vit.device, vit.dtype)
        rows, columns = self.grid
        with torch.inference_mode():
            sequence = self._sequence(images)
            length = self._prefix + rows * columns
            if not isinstance(sequence, Tensor) or sequence.dim() != 3 or sequence.shape[1] < length:
                raise StudyError(
                    f"{vit.model_name} does not give its last patches in one row with the class token, as its head "
                    "would have to read them"
                )
            try:
                found: Any = self._head(sequence[:, : self._heads], False)
            except (RuntimeError, IndexError):  # of a head that wants more of them
                found = None
            output = vit(images)
            parts = (getattr(output, name, None) for name in ("logits", "pooler_output"))
            own = next((part for part in parts if part is not None), output)
        if found is None or found.shape != own.shape or not torch.allclose(found, own, rtol=1e-3, atol=1e-4):
            raise StudyError(
                f"{vit.model_name} does not classify by its class token alone, so that its head cannot read a patch in "
                "its place"
            )
