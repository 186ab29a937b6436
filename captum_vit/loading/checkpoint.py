"""Files of weights: read without running any code of theirs, and brought to the names that a model has for them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_vit.checks import briefly
from captum_vit.errors import WeightsError

Table = dict[str, Tensor]

INDEX = ".index.json"
# What a folder of weights holds, the first that is there: shards with their index before the files themselves.
_KINDS = (f"*.safetensors{INDEX}", "*.safetensors", f"*.bin{INDEX}", "*.bin", "*.pth", "*.pt", "*.ckpt")
# Under what the weights of a training checkpoint are, the first that is there: averaged ones come first.
_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net", "teacher", "student")
# What wrappers put before the names of all weights, or in the middle of them.
_WRAPPERS = ("module.", "model.", "backbone.")
_TRANSPARENT = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_HOW = "give what torch.save(model.state_dict(), FILE) or safetensors.torch.save_file(model.state_dict(), FILE) wrote"


def read_checkpoint(path: Path) -> Table:
    """Read the weights in a file, in shards, or in the one of them that a folder holds.

    Parameters
    ----------
    path
        A safetensors file; a PyTorch file, of which tensors are read and no code is run; the index of shards
        (``model.safetensors.index.json``); or a folder with one of these.

    Raises
    ------
    WeightsError
        There is no such file, it cannot be read, or it holds no weights.
    """
    path = _in_folder(path) if path.is_dir() else path
    if not path.is_file():
        state = "is not a regular file" if path.exists() else "does not exist"
        raise WeightsError(f"{path} {state}; give a file of weights (.safetensors, .pth), or a folder that holds one")
    return _shards(path) if path.name.endswith(INDEX) else _one_file(path)


def fitted(weights: Table, expected: Collection[str]) -> Table:
    """Weights under the names that a model has for them: without what wrappers put before.

    Parameters
    ----------
    weights
        As a file has them.
    expected
        The names that the model has. Weights whose names have little in common with these come from another
        implementation; they keep them, but for a wrapper's around all.

    Raises
    ------
    WeightsError
        There are several sets of weights that fit.
    """
    weights = {_without(name, _TRANSPARENT): tensor for name, tensor in weights.items()}
    fits = Counter(prefix for name in weights for prefix, rest in _splits(name) if rest in expected)
    most = max(fits.values(), default=0)
    if most * 2 < len(expected):
        while prefix := next((each for each in _WRAPPERS if all(name.startswith(each) for name in weights)), ""):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
        return weights
    best = [prefix for prefix, count in fits.items() if count == most]
    teachers = [prefix for prefix in best if "teacher" in prefix]
    prefix = "" if "" in best else teachers[0] if len(teachers) == 1 else best[0]
    if len(best) > 1 and prefix and len(teachers) != 1:
        sets = " and ".join(each.rstrip(".") for each in best)
        raise WeightsError(f"the file's weights fit the model more than once, as {sets}; save those you mean alone")
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _in_folder(folder: Path) -> Path:
    """The file of weights in a folder."""
    for kind in _KINDS:
        found = sorted(folder.glob(kind))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise WeightsError(f"{folder} holds several files of weights; give one of them: {names}")
        if found:
            return found[0]
    raise WeightsError(f"{folder} is a folder without weights; give a file of weights (.safetensors, .pth)")


def _shards(index: Path) -> Table:
    """The weights in all the files that an index names."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("its weight_map does not name files beside it")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} cannot be read as an index of shards ({briefly(error)})") from error
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise WeightsError(f"{index} names {len(names)} files of weights, and {missing[0]} is not beside it")
    return {name: tensor for shard in names for name, tensor in _one_file(index.parent / shard).items()}


def _one_file(path: Path) -> Table:
    """The weights in a file."""
    try:
        content = _safetensors(path) if _is_safetensors(path) else _unpickled(path)
    # torch.load and safetensors fail in many ways on files that are not theirs.
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights ({briefly(error)}); {_HOW}") from error
    return _table(path, content)


def _table(path: Path, content: Any) -> Table:
    """The table of weights in what a file holds: all of it, what is under a well-known key, or its only table."""
    while not _is_table(content):
        if isinstance(content, _Unknown):
            raise WeightsError(
                f"{path} holds a whole {type(content).__name__}, not its weights, and to make one would be to run the "
                "file's code, which is never done; where you trust it, load it and save its weights: "
                "torch.save(model.state_dict(), FILE)"
            )
        if not isinstance(content, Mapping):
            raise WeightsError(f"{path} cannot be read as weights (it holds no table of weights); {_HOW}")
        tables = [each for each in content.values() if _is_table(each)]
        key = next((key for key in _KEYS if isinstance(content.get(key), Mapping | _Unknown)), None)
        if key is None and len(tables) != 1:
            held = ", ".join(map(str, content)) or "nothing"
            raise WeightsError(f"{path} cannot be read as weights (it holds {held:.100}, no table of them); {_HOW}")
        content = tables[0] if key is None else content[key]
    return dict(content)


def _is_table(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _is_safetensors(path: Path) -> bool:
    """Whether a file is one, whatever its name; what is called so is to be read so."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> Table:
    from safetensors.torch import load_file

    return load_file(path)


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, with stand-ins for the objects that are not PyTorch's own."""
    from torch import serialization

    try:
        unknown = serialization.get_unsafe_globals_in_checkpoint(path)
    # Files in the format of long ago, and not in torch's of today: without stand-ins, whatever needs one is refused.
    except (AttributeError, ValueError, RuntimeError, pickle.UnpicklingError):
        return torch.load(path, map_location="cpu", weights_only=True)
    with serialization.safe_globals([(type(name, (_Unknown,), {}), name) for name in unknown]):
        return torch.load(path, map_location="cpu", weights_only=True)


class _Unknown:
    """Stands for an object of a class that is not imported: takes whatever a file would make it of, and does nothing.

    Training checkpoints hold such beside their weights: settings (``argparse.Namespace``), numbers of NumPy.
    """

    def __new__(cls, *_: Any, **__: Any) -> _Unknown:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _without(name: str, parts: Collection[str]) -> str:
    for part in parts:
        name = name.replace(part, "")
    return name


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way to take a name for one behind a prefix, which is empty or ends in a dot."""
    yield "", name
    for place, character in enumerate(name):
        if character == ".":
            yield name[: place + 1], name[place + 1 :]
