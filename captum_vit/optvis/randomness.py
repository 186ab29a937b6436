"""Counter-based random numbers: each is a function of seed, neuron, step, purpose and element, and of nothing else.

No generator is kept, swapped or touched: a number is computed from its coordinates by Philox 4x32-10 (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3", doi 10.1145/2063384.2063405). The same render thus draws the same
numbers on every device, in every batch and thread, and from the middle of a run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # what each round adds to the two words of the key
_ROUNDS = 10

# Numbers of one purpose and neuron that are computed at once for coming steps: few large operations, not many small.
_AHEAD = 2**13
# Draws of one transform in one step.
_DRAWS_A_TRANSFORM = 64


def philox(counter: Sequence[Tensor | int], keys: Tensor) -> Tensor:
    """Philox 4x32-10: four words of 32 bits for each counter.

    Parameters
    ----------
    counter
        Four words, integers or int64 tensors in [0, 2**32) that broadcast to ``(steps, streams, elements)``.
    keys
        The keys of each round and stream, from :func:`round_keys`.

    Returns
    -------
    Tensor
        int64 in [0, 2**32), shape ``(steps, streams, elements, 4)``.
    """
    ones = torch.ones_like(keys[0, 0])
    words = torch.stack(torch.broadcast_tensors(*(ones * word for word in counter)))
    first, second = words[0::2], words[1::2]
    factors = torch.ones_like(first)
    factors[0], factors[1] = _MULTIPLIERS
    for key in keys:
        # A product of two words fills 64 bits; that int64 reads them as a signed number matters to no bit of it. What
        # stands above 32 bits in the second words is cut off when they have become first words.
        product = (first * factors).flip(0)
        first, second = (product >> 32).bitwise_xor_(second).bitwise_xor_(key).bitwise_and_(WORD), product
    words = torch.stack((first, second.bitwise_and_(WORD)), dim=1)
    return words.flatten(0, 1).movedim(0, -1)


def round_keys(keys: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The keys of all rounds of several streams, int64, ``(rounds, 2, 1, streams, 1)``."""
    steps = [[[(key[i] + number * _WEYL[i]) & WORD for key in keys] for i in (0, 1)] for number in range(_ROUNDS)]
    return torch.tensor(steps, dtype=torch.int64, device=device)[:, :, None, :, None]


def stream_key(seed: int, name: str) -> tuple[int, int]:
    """The key of a neuron's numbers, two words of a checksum of the seed and the name."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


class Draws:
    """The random numbers of a batch of neurons, a key each.

    Parameters
    ----------
    keys
        A key for each neuron, from :func:`stream_key`.
    steps
        Number of steps.
    device
        Where the numbers are made.
    depths
        How deep in the model each neuron lies, from 0 to 1, for what is drawn from narrower ranges early in a model;
        all 1 when not given.
    """

    def __init__(
        self,
        keys: Sequence[tuple[int, int]],
        steps: int,
        device: torch.device,
        depths: Sequence[float] | None = None,
    ) -> None:
        self.keys = keys
        self.steps = steps
        self.device = device
        self.depths = torch.tensor([1.0] * len(keys) if depths is None else depths, device=device)
        self._keys = round_keys(keys, device)
        self._constants: dict[tuple[float, ...], Tensor] = {}
        self._tables: dict[tuple[int, int], tuple[int, Tensor]] = {}

    def at(self, step: int, purpose: int) -> StepDraws:
        """The numbers for one purpose at one step: 0 is the start, ``1 + i`` the i-th transform of a recipe."""
        return StepDraws(self, step, purpose)

    def words(self, step: int, purpose: int, count: int) -> Tensor:
        """Words ``(N, count)``: int64 in [0, 2**32)."""
        ahead = min(self.steps, _AHEAD // count)
        if ahead <= 1:  # nothing for later steps: such as the start of a large image, which must not stay in memory
            return self._compute(step, 1, purpose, count)[0]
        first, table = self._tables.get((purpose, count), (0, None))
        if table is None or not first <= step < first + len(table):
            first, table = step, self._compute(step, ahead, purpose, count)
            self._tables[purpose, count] = first, table
        return table[step - first]

    def constant(self, values: Sequence[float]) -> Tensor:
        """Values as float32 on the device, put there once."""
        key = tuple(values)
        if key not in self._constants:
            self._constants[key] = torch.tensor(key, dtype=torch.float32, device=self.device)
        return self._constants[key]

    @cached_property
    def on_host(self) -> Draws:
        """The same numbers on the CPU."""
        return Draws(self.keys, self.steps, torch.device("cpu"), self.depths.tolist())

    def _compute(self, first: int, steps: int, purpose: int, count: int) -> Tensor:
        """Words ``(steps, N, count)``."""
        elements = torch.arange(-(-count // 4), device=self.device)
        numbers = torch.arange(first, first + steps, device=self.device)[:, None, None]
        return philox((elements, numbers, purpose, 0), self._keys).flatten(-2)[..., :count]


class StepDraws:
    """The numbers that one transform draws in one step, for each neuron apart; the order of the calls tells them apart.

    Attributes
    ----------
    step, steps
        The step, from 0, and how many there are.
    depths
        How deep in the model each neuron lies, ``(N,)``, from 0 for the first block to 1 for the last.
    """

    def __init__(self, draws: Draws, step: int, purpose: int) -> None:
        self._draws = draws
        self._next = purpose * _DRAWS_A_TRANSFORM
        self.step = step
        self.steps = draws.steps
        self.depths = draws.depths

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32, multiples of 2**-24; shape ``(N, *shape)``."""
        return _fractions(self._words(math.prod(shape))).reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32, by Box and Muller (1958); shape ``(N, *shape)``."""
        count = math.prod(shape)
        one, other = _fractions(self._words(2 * -(-count // 2))).chunk(2, dim=1)
        radius = (-2 * torch.log1p(-one)).sqrt_()
        angle = other.mul_(2 * math.pi)
        return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)[:, :count].reshape(-1, *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from ``low`` to ``high``, both included, int64; shape ``(N, *shape)``."""
        words = self._words(math.prod(shape))
        return ((words * (high - low + 1)) >> 32).add_(low).reshape(-1, *shape)

    def choice(self, values: Sequence[float], *shape: int) -> Tensor:
        """One of the values, all as likely, float32; shape ``(N, *shape)``."""
        return self._draws.constant(values)[self.integers(0, len(values) - 1, *shape)]

    def seeds(self) -> list[int]:
        """A seed of 64 bits for each neuron, on the host, for what draws from generators of its own."""
        purpose, self._next = self._next, self._next + 1
        return [first << 32 | second for first, second in self._draws.on_host.words(self.step, purpose, 2).tolist()]

    def _words(self, count: int) -> Tensor:
        purpose, self._next = self._next, self._next + 1
        return self._draws.words(self.step, purpose, count)


def _fractions(words: Tensor) -> Tensor:
    """Words as float32 in [0, 1); exact, so the same on every device."""
    return (words >> 8).float() * 2.0**-24
