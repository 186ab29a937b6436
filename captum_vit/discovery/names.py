"""What a site is called: the module path of its block."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from torch import nn

from captum_vit.discovery.sites import Pair

# What packages call the part of a block that is its feed-forward network.
_FEED_FORWARD = re.compile(r"(channel_)?(mlp|ffn|ff|ffw|feed_?forward|fc|dense)(_?(channels?|token|layer|\d+))?")


def names(model: nn.Module, found: Sequence[Pair]) -> list[str]:
    """Names of the blocks, in order: their paths, and those of their parts where a block has several.

    A module that runs several times in a pass under as many names has a site under each.
    """
    seconds = _in_turn(model, [pair.second.path for pair in found])
    parts = [_part(path, pair) for path, pair in zip(seconds, found, strict=True)]
    blocks = [_block(part) for part in parts]
    taken = Counter(blocks)
    return [block if taken[block] == 1 else part for block, part in zip(blocks, parts, strict=True)]


def _in_turn(model: nn.Module, paths: list[str]) -> list[str]:
    """Module paths in which one that comes several times is replaced by the module's further paths in turn."""
    aliases = defaultdict(list)
    for path, module in model.named_modules(remove_duplicate=False):
        aliases[module].append(path)
    turns: Counter[str] = Counter()
    named = []
    for path in paths:
        others = aliases[model.get_submodule(path)]
        named.append(others[turns[path]] if len(others) == paths.count(path) else path)
        turns[path] += 1
    return named


def _part(path: str, pair: Pair) -> str:
    """Path of the smallest module with all linear layers of a feed-forward network."""
    words = pair.second.path.split(".")[:-1]
    for call in pair.first:
        others = call.path.split(".")
        words = words[: next((i for i, word in enumerate(words) if others[i : i + 1] != [word]), len(words))]
    return ".".join(path.split(".")[: len(words)])


def _block(part: str) -> str:
    """Path of the block that a part belongs to; the part itself if it is no part by its name."""
    block, _, name = part.rpartition(".")
    return block if block and _FEED_FORWARD.fullmatch(name) else part
