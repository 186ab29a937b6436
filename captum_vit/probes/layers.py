"""Reading a model's layers by Lucent's names while running no more of the model than is read."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_vit.errors import AddressError
from captum_vit.probes.forward_pass import StopForward, stop


class LayerOutputs:
    """Outputs of the layers under Lucent's names, of which only those that the objective reads are computed.

    What an objective reads is known once it was called, so the first pass runs the whole model with every layer
    hooked, as Lucent's passes all do; the later ones end as soon as the layers that were read have run. A context
    manager: leaving it removes the hooks.

    Parameters
    ----------
    model
        The model whose layers are read.
    image_f
        Gives the image ``(B, 3, H, W)`` in [0, 1] for the layer ``"input"``.
    """

    def __init__(self, model: nn.Module, image_f: Callable[[], Tensor]) -> None:
        self.model = model
        self.image_f = image_f
        self.modules = {
            path.replace(".", "_"): module for path, module in model.named_modules(remove_duplicate=False) if path
        }
        self._calls: Counter[str] = Counter()  # of each layer in a whole pass: a shared module runs several times
        self._outputs: dict[str, Tensor] = {}
        self._images: Tensor | None = None
        self._hooks: dict[str, RemovableHandle] = {}
        self._failure: RuntimeError | None = None  # of a whole pass
        self._remaining: int | None = None  # calls until the pass may stop; None in a whole pass

    def __enter__(self) -> LayerOutputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook(())

    def run(self, images: Tensor) -> None:
        """Pass images ``(B, 3, H, W)`` through the model, as far as the layers read so far need."""
        parameter = next(self.model.parameters(), images)
        images = self._images = images.to(parameter.dtype) if parameter.is_floating_point() else images
        if not self._hooks:
            self._whole_pass(images)
            return
        self._outputs.clear()
        self._remaining = sum(self._calls[layer] for layer in self._hooks)
        with suppress(StopForward):
            self.model(images)

    def __call__(self, layer: str) -> Tensor:
        """Output of a layer in the latest pass; Lucent's ``T``.

        Raises
        ------
        AddressError
            The model has no such layer, or the layer does not run in a forward pass.
        """
        if layer == "input":
            return self.image_f()
        if layer == "labels":
            layer = list(self.modules)[-1]
        if layer not in self.modules:
            close = ", ".join(difflib.get_close_matches(layer, self.modules, n=3, cutoff=0.4))
            raise AddressError(f'no layer "{layer}" in the model; did you mean {close}?')
        if layer not in self._outputs and self._images is not None:
            self._whole_pass(self._images)
        if layer not in self._outputs:
            if self._failure is not None:
                raise self._failure
            raise AddressError(f'layer "{layer}" does not run in a forward pass of the model')
        if layer not in self._hooks:
            self._hook((*self._hooks, layer))
        return self._outputs[layer]

    def _whole_pass(self, images: Tensor) -> None:
        read = tuple(self._hooks)
        self._outputs.clear()
        self._calls.clear()
        self._remaining = None
        self._hook(self.modules)
        self._failure = None
        try:
            self.model(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # As Lucent has it, a model that fails behind the layers of interest can be rendered all the same. If they
            # are not reached, the failure is what there is to say.
            self._failure = error
            warnings.warn(f"the forward pass failed ({error}); only the layers before are there", stacklevel=3)
        finally:
            self._hook(read)

    def _hook(self, layers: Iterable[str]) -> None:
        """Have exactly these layers hooked."""
        wanted = set(layers)
        for layer in self._hooks.keys() - wanted:
            self._hooks.pop(layer).remove()
        for layer in wanted - self._hooks.keys():
            self._hooks[layer] = self.modules[layer].register_forward_hook(self._keep(layer))

    def _keep(self, layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._outputs[layer] = output
            if self._remaining is None:
                self._calls[layer] += 1
                return
            self._remaining -= 1
            if self._remaining == 0:
                stop(output)

        return hook
