"""An ordered set that knows ranks: insert, remove, rank and first are O(log n).

Keys stand in blocks of a few hundred, so that an insert moves a few hundred pointers at most; a Fenwick tree over the
blocks' sizes gives the keys before a block. A block is cut when it is full and goes when it is empty: only then is the
tree built anew, once in some hundred changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=tuple[Any, ...])

BLOCK = 512
"""A block with more keys than this is cut in two."""


class Ranked(Generic[K]):
    """Keys that compare with one another, each once."""

    __slots__ = ("_blocks", "_last", "_tree")

    def __init__(self, keys: Iterable[K] = ()) -> None:
        ordered = sorted(set(keys))
        self._blocks = [ordered[at : at + BLOCK // 2] for at in range(0, len(ordered), BLOCK // 2)]
        self._last: list[K] = [block[-1] for block in self._blocks]
        self._tree: list[int] = []
        self._count()

    def add(self, key: K) -> None:
        """Puts a key in; one that is there already stays once."""
        if not self._blocks:
            self._blocks, self._last = [[key]], [key]
            self._count()
            return
        at = min(bisect_left(self._last, key), len(self._last) - 1)
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place < len(block) and block[place] == key:
            return
        block.insert(place, key)
        self._last[at] = block[-1]
        if len(block) <= BLOCK:
            self._change(at, 1)
            return
        self._blocks[at : at + 1] = [block[: BLOCK // 2], block[BLOCK // 2 :]]
        self._last.insert(at, self._blocks[at][-1])
        self._count()

    def remove(self, key: K) -> None:
        """Takes a key out; one that is not there is no error."""
        at = bisect_left(self._last, key)
        if at == len(self._last):
            return
        block = self._blocks[at]
        place = bisect_left(block, key)
        if block[place] != key:
            return
        del block[place]
        if block:
            self._last[at] = block[-1]
            self._change(at, -1)
        else:
            del self._blocks[at], self._last[at]
            self._count()

    def rank(self, key: K) -> int:
        """How many keys come before this one, which need not be there."""
        at = bisect_left(self._last, key)
        before = self._before(at)
        return before if at == len(self._last) else before + bisect_left(self._blocks[at], key)

    @property
    def first(self) -> K | None:
        return self._blocks[0][0] if self._blocks else None

    def __iter__(self) -> Iterator[K]:
        """In order, over a copy: the set may change while one walks it."""
        return iter([key for block in self._blocks for key in block])

    def __len__(self) -> int:
        return self._before(len(self._blocks))

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def _before(self, at: int) -> int:
        """Keys in the first ``at`` blocks."""
        found, tree = 0, self._tree
        while at:
            found += tree[at]
            at &= at - 1
        return found

    def _change(self, at: int, by: int) -> None:
        tree = self._tree
        at += 1
        while at < len(tree):
            tree[at] += by
            at += at & -at

    def _count(self) -> None:
        tree = [0, *map(len, self._blocks)]
        for at in range(1, len(tree)):
            above = at + (at & -at)
            if above < len(tree):
                tree[above] += tree[at]
        self._tree = tree
