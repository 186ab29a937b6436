"""What one forward pass notes, in its thread, and how it stops early."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor

from captum_vit.errors import ImageError, RecomputationError
from captum_vit.probes.grid import Size
from captum_vit.probes.site import Site


class StopForward(BaseException):
    """Ends a forward pass once everything wanted of it is there; the adapted model catches it.

    A BaseException, so that a wrapper's ``except Exception`` does not swallow it on the way up.

    Parameters
    ----------
    output
        What the layer at which the pass stops gave; the adapted model returns it.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def image_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The images among a module's arguments: the first tensor, also where it is given by keyword.

    Raises
    ------
    ImageError
        There is none.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value
    raise ImageError("the model got no image, a tensor (B, 3, H, W), among its arguments")


def stop(output: Any) -> NoReturn:
    """End the forward pass at this layer.

    Raises
    ------
    StopForward
        Always, but for:
    RecomputationError
        The layer runs inside a checkpoint, which is to be recomputed in the backward pass: it would have no end there.
    """
    if _recomputed():
        raise RecomputationError(
            "a pass cannot stop early, or take gradients, inside activation checkpointing, which runs layers again in "
            "the backward pass; switch it off: model.set_grad_checkpointing(False) for timm's models, else leave out "
            "the wrapper that calls torch.utils.checkpoint"
        )
    raise StopForward(output)


def _recomputed() -> bool:
    """Whether a checkpoint of whatever kind is among the callers: timm's, a wrapper's, one's own, reentrant or not."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _exporting() -> bool:
    asked = getattr(torch.compiler, "is_exporting", None)
    return bool(asked and asked())


class ForwardPass(threading.local):
    """What a forward pass notes, kept for each thread apart.

    Attributes
    ----------
    image_size
        (height, width) of the image that last entered the model's stem in this thread.
    wanted
        Sites after which the pass stops; empty: it runs to its end.
    maps
        Maps of the wanted sites of the latest pass, by site name, as they lie in the tokens.
    last
        That of the last wanted site to run.
    """

    def __init__(self) -> None:
        self.image_size: Size | None = None
        self.wanted: frozenset[str] = frozenset()
        self.maps: dict[str, Tensor] = {}
        self.last: Tensor | None = None
        self._listener: Callable[[str, Tensor], None] | None = None
        self._arrived: set[str] = set()
        self._calls: Counter[int] = Counter()

    @contextmanager
    def until(
        self, wanted: frozenset[str], listener: Callable[[str, Tensor], None] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Let passes in this thread stop as soon as all ``wanted`` sites have run.

        Their maps are collected, or handed to a listener one by one, so that no two of them are in memory.
        """
        outer = self.wanted, self.maps, self._listener, self._arrived
        self.wanted, self.maps, self._listener, self._arrived = wanted, {}, listener, set()
        try:
            yield self.maps
        finally:
            self.wanted, self.maps, self._listener, self._arrived = outer

    # Traced, the note would be lost where a stop ends the pass (torch 2.14).
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def begin(self, image_size: Size) -> None:
        """Start the notes of a new pass; nothing of an earlier or failed one remains."""
        self.image_size = image_size
        self.maps.clear()
        self._arrived.clear()
        self._calls.clear()

    @property
    def missed(self) -> frozenset[str]:
        """Wanted sites that have not run in the latest pass."""
        return self.wanted - self._arrived

    def wants(self, site: Site) -> bool:
        """Whether passes of this thread collect the map of ``site``."""
        return site.name in self.wanted

    def call(self, reader: object) -> int:
        """Number of calls of a module that several sites share, this one not counted, in the latest pass."""
        self._calls[id(reader)] += 1
        return self._calls[id(reader)] - 1

    def arrive(self, site: Site, patch_map: Tensor) -> None:
        """Note that a site has run, and stop the pass if it was the last one wanted."""
        if not self.wants(site):
            return
        self._arrived.add(site.name)
        if self._listener is None:
            self.maps[site.name] = patch_map
        else:
            self._listener(site.name, patch_map)
        if not self.missed:
            self.last = patch_map
            # torch.export follows every call to its end; what comes after is dead code in its graph.
            if not _exporting():
                stop(patch_map)

    def __reduce__(self) -> tuple[type[ForwardPass], tuple[()]]:
        # Copies and pickles start without notes; without this, copy and pickle refuse thread-local objects.
        return ForwardPass, ()
