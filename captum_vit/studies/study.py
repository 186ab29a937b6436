"""What a study comes to: a table, the settings it was made with, and what became of the images."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captum_vit.errors import OutputError, StudyError
from captum_vit.storage.files import check_folder, replacing

Row = Mapping[str, str | int | float | None]


def with_interval(name: str, value: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    """The column of a measure and those of its interval's ends, ``low`` and ``high`` before its name."""
    low, high = ends or (None, None)
    return {name: value, f"low {name}": low, f"high {name}": high}


@dataclass(frozen=True)
class Study:
    """A table of measures with all that it takes to measure again.

    Attributes
    ----------
    name
        Which study it is.
    rows
        The table; all rows have the same columns. ``low`` and ``high`` before a measure's name are the ends of its
        95 % interval.
    settings
        What the study was asked for, the same for all models.
    models
        What is known of each model, by name: its ``parameters``, and where the study has them its ``classifier``, the
        number of ``images`` used, ``left_out``, the reason for each that was not, and its accuracy, ``top-1``.
    shares
        Names of the columns that are shares, in [0, 1]; they are printed in per cent.
    """

    name: str
    rows: tuple[Row, ...]
    settings: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    shares: tuple[str, ...] = ()

    def __add__(self, other: Study) -> Study:
        """The table of both.

        Raises
        ------
        StudyError
            They are different studies, have other settings, or a model is in both.
        """
        if self.name != other.name:
            raise StudyError(f"studies {self.name} and {other.name} have different tables; add two of one name")
        if differ := self.differences(other.settings):
            raise StudyError(f"the two studies differ in {', '.join(differ)}; measure both models with the same")
        if twice := sorted(set(self.models) & set(other.models)):
            raise StudyError(f"{', '.join(twice)} is in both studies; give one of them another name")
        return Study(self.name, self.rows + other.rows, self.settings, {**self.models, **other.models}, self.shares)

    def differences(self, settings: Mapping[str, Any]) -> list[str]:
        """Names of the settings that this study has not, or has otherwise."""
        keys = [*self.settings, *(key for key in settings if key not in self.settings)]
        return [key for key in keys if self.settings.get(key) != settings.get(key)]

    def of(self, model: str) -> Study:
        """The part of the table that is of one model."""
        rows = tuple(row for row in self.rows if row["model"] == model)
        return Study(self.name, rows, self.settings, {model: self.models[model]}, self.shares)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the table's columns."""
        return tuple(self.rows[0]) if self.rows else ()

    def left_out(self, model: str) -> dict[str, int]:
        """How many images were left out for a model, by reason, the most frequent first."""
        return dict(Counter(self.models[model].get("left_out", {}).values()).most_common())

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``NAME.csv``, the table, and ``NAME.json``, all there is; gives their paths.

        Raises
        ------
        OutputError
            A file cannot be written.
        """
        check_folder(Path(folder))
        table, whole = self.files(folder)
        with replacing(table) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        with replacing(whole) as partial:
            words = json.dumps(asdict(self), indent=1, ensure_ascii=True, allow_nan=False)
            partial.write_text(words, encoding="utf-8")
        return table, whole

    def files(self, folder: str | Path) -> tuple[Path, Path]:
        """Where :meth:`save` writes: ``NAME.csv`` and ``NAME.json``."""
        return Path(folder) / f"{self.name}.csv", Path(folder) / f"{self.name}.json"

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study from its JSON file.

        Raises
        ------
        OutputError
            The file cannot be read.
        StudyError
            It is no study.
        """
        try:
            read = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(read["name"], tuple(read["rows"]), read["settings"], read["models"], tuple(read["shares"]))
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{path} is no study; give the .json file that a study was saved in") from error
