"""Random draws that depend on a name and an id alone.

seed + name + id ─> splitmix64 ─> uniform bits ─> unit, integer, choice, normal

There is no stream to keep in step: the third line of order 17 draws the same price whether or not
order 16 was made, which is what lets the company be recomputed for any day. It leaves out
cryptographic quality, which nobody needs here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Draws:
    """Draws for one seed; every method takes a name of the draw and the ids to draw for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def bits(self, name: str, ids: ArrayLike) -> NDArray[np.uint64]:
        """Returns 64 uniform bits for each id."""
        digest = hashlib.blake2b(f"{self.seed}:{name}".encode(), digest_size=8).digest()
        mixed = np.array(ids, dtype=np.int64, copy=True, ndmin=1).view(np.uint64)
        mixed *= _GOLDEN
        mixed += np.uint64(int.from_bytes(digest, "little"))
        mixed ^= mixed >> np.uint64(30)
        mixed *= _MIX_1
        mixed ^= mixed >> np.uint64(27)
        mixed *= _MIX_2
        mixed ^= mixed >> np.uint64(31)
        return mixed

    def unit(self, name: str, ids: ArrayLike) -> Floats:
        """Returns a uniform number in [0, 1) for each id."""
        return (self.bits(name, ids) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, name: str, ids: ArrayLike, limit: ArrayLike) -> Ints:
        """Returns a uniform integer in [0, limit) for each id; `limit` is one for all or each."""
        scaled: Floats = self.unit(name, ids) * np.asarray(limit)
        return scaled.astype(np.int64)

    def chance(self, name: str, ids: ArrayLike, probability: ArrayLike) -> Bools:
        """Returns whether an event of the given probability happens to each id."""
        return self.unit(name, ids) < np.asarray(probability)

    def weighted(self, name: str, ids: ArrayLike, weights: Sequence[float]) -> Ints:
        """Returns for each id an index into `weights`, drawn in proportion to them."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        found = np.searchsorted(edges[:-1] / edges[-1], self.unit(name, ids), side="right")
        return np.asarray(found, dtype=np.int64)

    def normal(self, name: str, ids: ArrayLike) -> Floats:
        """Returns a standard normal number for each id (Box and Muller)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.unit(f"{name}/radius", ids)))
        return radius * np.cos(2.0 * np.pi * self.unit(f"{name}/angle", ids))
