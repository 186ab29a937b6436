"""Parquet files: the same bytes for the same rows, written whole, and read in part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captum_vit.errors import AtlasError, MissingLibraryError
from captum_vit.storage.files import replacing

# Rows that are read and written at a time.
ROWS = 16_384

# Type and values of each column.
Columns = Mapping[str, tuple[str, Sequence[Any]]]


def arrow() -> Any:
    """pyarrow, which takes long to import and need not be there for anything but atlases.

    Raises
    ------
    MissingLibraryError
        It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingLibraryError('atlases need the library pyarrow; pip install "captum-vit[atlas]"') from error
    return pyarrow


def write_table(path: Path, columns: Columns) -> None:
    """Write a file at once; see :func:`writing`."""
    with writing(path, {name: kind for name, (kind, _) in columns.items()}) as write:
        write({name: values for name, (_, values) in columns.items()})


@contextmanager
def writing(path: Path, kinds: Mapping[str, str]) -> Iterator[Any]:
    """Context that gives a function from columns to nothing, which adds rows; the file is there when it is left.

    Parameters
    ----------
    path
        The file.
    kinds
        Type of each column, by pyarrow's name; ``"list:…"`` and ``"dictionary:…"`` of others.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    pyarrow = arrow()
    schema = pyarrow.schema([(name, _kind(kind)) for name, kind in kinds.items()])
    with replacing(path) as partial, pyarrow.parquet.ParquetWriter(partial, schema, compression="zstd") as writer:

        def write(columns: Mapping[str, Sequence[Any]]) -> None:
            arrays = [pyarrow.array(columns[name], type=schema.field(name).type) for name in schema.names]
            table = pyarrow.Table.from_arrays(arrays, schema=schema)
            writer.write_table(table, row_group_size=ROWS)

        yield write


def read_rows(path: Path, first: int, last: int, columns: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of a file, both ends included, of which no more than a few thousand others are read.

    Raises
    ------
    AtlasError
        The file is missing or damaged.
    """
    with reading(path) as file:
        rows: list[dict[str, Any]] = []
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if begin <= last and first < end:
                table = file.read_row_group(group, columns=columns and list(columns))
                rows += table.slice(max(0, first - begin), last + 1 - max(first, begin)).to_pylist()
            begin = end
        return rows


def read_matching(path: Path, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a file that have these values.

    Raises
    ------
    AtlasError
        The file is missing or damaged.
    """
    pyarrow = arrow()
    with reading(path):
        filters = [(name, "=", value) for name, value in wanted.items()]
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path, filters=filters).to_pylist()
        return rows


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Context with an open file.

    Raises
    ------
    AtlasError
        It is missing or damaged.
    """
    pyarrow = arrow()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise AtlasError(f"{path} is missing or damaged ({error}); the same command makes the atlas anew") from error


def _kind(kind: str) -> Any:
    pyarrow = arrow()
    if kind.startswith("list:"):
        return pyarrow.list_(_kind(kind.removeprefix("list:")))
    if kind.startswith("dictionary:"):
        return pyarrow.dictionary(pyarrow.int32(), _kind(kind.removeprefix("dictionary:")))
    return getattr(pyarrow, "bool_" if kind == "bool" else kind)()
