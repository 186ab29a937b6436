"""The columns of all neurons, as the page reads them: what it sorts and filters by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from captum_vit.atlas.page.records import Neurons, PageModel
from captum_vit.atlas.page.scripts import column
from captum_vit.errors import AtlasPageError
from captum_vit.storage.files import shown


def described(model: PageModel) -> dict[str, Any]:
    """All columns, as typed arrays.

    Raises
    ------
    AtlasPageError
        A column counts a site or sheet that is not there.
    """
    neurons = model.neurons
    _check_counted("site", neurons.site, 0, len(model.sites))
    _check_counted("sheet", neurons.sheet, -1, len(model.sheets))
    return {
        "starts": np.searchsorted(neurons.site, np.arange(len(model.sites) + 1)).tolist(),
        "unit": column(np.asarray(neurons.unit)),
        "live": column(np.asarray(neurons.live, dtype=np.uint8)),
        "state": column(np.asarray(neurons.state)),
        "sheet": column(np.asarray(neurons.sheet) + 1),  # zero: nowhere
        "tile": column(np.asarray(neurons.tile)),
        **{name: column(np.asarray(values, dtype=np.float32)) for name, values in _measured(neurons).items()},
        "word": _texts(neurons.word),
        "topClass": _texts(neurons.top_class),
    }


def _measured(neurons: Neurons) -> dict[str, Any]:
    measured = {
        "natural": neurons.natural_maximum,
        "activation": neurons.activation,
        "ratio": neurons.ratio,
        "worst": neurons.worst_ratio,
        "agreement": neurons.agreement,
        "wordScore": neurons.word_score,
    }
    return {name: values for name, values in measured.items() if values is not None}


def _texts(values: Sequence[str | None] | None) -> dict[str, Any] | None:
    """Texts by their numbers in a table in which each stands once, in alphabetical order after the empty one."""
    if values is None:
        return None
    texts = [shown(value or "") for value in values]
    table = sorted({"", *texts})
    numbers = {text: number for number, text in enumerate(table)}
    return {"table": table, "numbers": column(np.array([numbers[text] for text in texts], dtype=np.int64))}


def _check_counted(name: str, values: Any, first: int, count: int) -> None:
    values = np.asarray(values)
    if len(values) and not (values.min() >= first and values.max() < count):
        raise AtlasPageError(
            f"column {name!r} goes from {values.min()} to {values.max()}, and there are {count} {name}s to count"
        )
