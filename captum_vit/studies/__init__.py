"""Studies of what whole models use: each measures models on a labelled folder and gives a table."""

from __future__ import annotations

from captum_vit.studies.attention import attention
from captum_vit.studies.background import background
from captum_vit.studies.class_token import class_token
from captum_vit.studies.classifier import Classifier, find_classifier
from captum_vit.studies.concepts import concepts
from captum_vit.studies.control import untrained
from captum_vit.studies.depth import depth
from captum_vit.studies.frequency import frequency
from captum_vit.studies.pooling import pooling
from captum_vit.studies.position import position
from captum_vit.studies.study import Study
from captum_vit.studies.wording import label_by_words

__all__ = [
    "Classifier",
    "Study",
    "attention",
    "background",
    "class_token",
    "concepts",
    "depth",
    "find_classifier",
    "frequency",
    "label_by_words",
    "pooling",
    "position",
    "untrained",
]
