"""What a folder keeps of a study: the table of the models that are done, and how far the passes of others have come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.storage.files import check_folder
from captum_vit.storage.fingerprint import file_sha256, weights_sha256
from captum_vit.storage.marks import SUFFIX, checksum, file_name
from captum_vit.studies.passes import Notes
from captum_vit.studies.study import Row, Study

PARTIAL = ".partial"


class Kept:
    """A study of one model, and what a folder keeps of it.

    Parameters
    ----------
    folder
        Where results of the study are, or will be; None: nothing is kept.
    study
        Its name.
    vit
        The adapted model.
    name
        What the table calls the model; its class when not given.
    settings
        What is asked, the same for all models, as far as the answer depends on it: of images and other files, their
        checksum (:func:`files_sha256`).

    Attributes
    ----------
    name
        What the table calls the model.
    facts
        What the record says of any model: its parameters, the checksum of its weights and what it expects of images.

    Raises
    ------
    StudyError
        The folder has a table that was measured with other settings.
    OutputError
        The folder cannot be written.
    """

    def __init__(
        self, folder: str | Path | None, study: str, vit: AdaptedModel, name: str | None, settings: Mapping[str, Any]
    ) -> None:
        self.study, self.name = study, name or vit.model_name
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they come back from a file
        self.facts: dict[str, Any] = {
            "parameters": sum(parameter.numel() for parameter in vit.model.parameters()),
            "weights": weights_sha256(vit.model),
            "input_size": list(vit.preprocessing.size),
            "mean": list(vit.preprocessing.mean),
            "std": list(vit.preprocessing.std),
        }
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            check_folder(self.folder)
            check_same(self.folder, study, self.settings)

    @property
    def done(self) -> Study | None:
        """The model's table, if the folder has one that was measured with these settings and weights."""
        whole = None if self.folder is None else kept_in(self.folder, self.study)
        if whole is None or self.name not in whole.models:
            return None
        facts = whole.models[self.name]
        return whole.of(self.name) if all(facts.get(each) == self.facts[each] for each in self.facts) else None

    def notes(self, of: str) -> Notes | None:
        """Where a pass keeps how far it has come; what it is of tells it from the study's other passes."""
        return None if self.folder is None else Notes(self.folder / f"{self._stem}-{of}{PARTIAL}")

    def finish(self, rows: Iterable[Row], facts: Mapping[str, Any], shares: tuple[str, ...]) -> Study:
        """The model's table, which is added to the folder's; notes of its passes are removed.

        Parameters
        ----------
        rows
            Rows of the table, without the model's name, which becomes their first column.
        facts
            What else the record says of the model.
        shares
            Names of the columns that are shares.
        """
        named = tuple({"model": self.name, **row} for row in rows)
        made = Study(self.study, named, self.settings, {self.name: {**self.facts, **facts}}, shares)
        if self.folder is not None:
            add_to(self.folder, made)
            for partial in self.folder.glob(f"{self._stem}-*{PARTIAL}"):
                partial.unlink()
        return made

    @property
    def _stem(self) -> str:
        """Name of the files of this question; another question has others."""
        asked = checksum([self.study, self.name, self.settings, self.facts])
        return f"{self.study}-{file_name(self.name)}-{asked[:SUFFIX]}"


def add_to(folder: Path, made: Study) -> Study:
    """Add a model's table to that in a folder, and write both; what the folder had of the model is replaced.

    Raises
    ------
    StudyError
        What is in the folder was measured with other settings.
    OutputError
        A file cannot be written.
    """
    before = kept_in(folder, made.name)
    if before is None:
        whole = made
    elif all(name in before.models and before.of(name) == made.of(name) for name in made.models):
        return before
    else:
        check_same(folder, made.name, made.settings)
        others = [name for name in before.models if name not in made.models]
        whole = sum((before.of(name) for name in others[1:]), before.of(others[0])) + made if others else made
    whole.save(folder)
    return whole


def kept_in(folder: Path, study: str) -> Study | None:
    """The study in a folder, if it has one.

    Raises
    ------
    StudyError
        The file that has its name is no study.
    """
    path = folder / f"{study}.json"
    return Study.load(path) if path.exists() else None


def check_same(folder: Path, study: str, settings: Mapping[str, Any]) -> None:
    """Make sure that a folder's study, if there is one, has these settings.

    Raises
    ------
    StudyError
        It has others.
    """
    before = kept_in(folder, study)
    if before is not None and (differ := before.differences(settings)):
        raise StudyError(
            f"{folder / study}.json was measured with other {', '.join(differ)}; give another folder, or remove the "
            "file to measure all models anew"
        )


def files_sha256(files: Mapping[str, str] | Iterable[str | Path]) -> str:
    """SHA-256 of files, their names below the folder that all are in, their content, and their labels if they have any.

    A file that cannot be read counts as one without content.
    """
    names = [os.fspath(file) for file in files]
    top = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in names]) if names else ""
    labels = files if isinstance(files, Mapping) else {}
    return checksum([[os.path.relpath(name, top), _content(name), labels.get(name)] for name in names])


def _content(file: str) -> str | None:
    try:
        state = os.stat(file)
        return _sha256(file, state.st_size, state.st_mtime_ns)
    except OSError:
        return None


@cache  # several models are measured on the same files
def _sha256(file: str, size: int, changed: int) -> str:
    return file_sha256(file)
