"""The pictures of studies: which function draws which, from the table alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from captum_vit.errors import StudyError
from captum_vit.studies.attention import draw as attention
from captum_vit.studies.background import draw as background
from captum_vit.studies.class_token import draw as class_token
from captum_vit.studies.concepts import draw as concepts
from captum_vit.studies.depth import draw as depth
from captum_vit.studies.frequency import draw as frequency
from captum_vit.studies.pooling import draw as pooling
from captum_vit.studies.position import draw as position
from captum_vit.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN: dict[str, Callable[[Study], Figure]] = {
    "attention": attention,
    "background": background,
    "class-token": class_token,
    "concepts": concepts,
    "depth": depth,
    "frequency": frequency,
    "pooling": pooling,
    "position": position,
}


def draw_study(study: Study) -> Figure:
    """A study's picture.

    Raises
    ------
    StudyError
        There is no picture of studies of that name.
    """
    if study.name not in _DRAWN:
        raise StudyError(f'no picture of a study "{study.name}"; there are {", ".join(_DRAWN)}')
    return _DRAWN[study.name](study)
