"""A mapping whose older values are kept as the text they were stored in until somebody looks at them.

Of ten thousand experiments most calls look at a few: reading only those makes `status` as quick at the end
of a long campaign as at its beginning.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from typing import TypeVar

T = TypeVar("T")
Make = Callable[[list[object]], T]


class Roster(MutableMapping[str, T]):
    """Values by name, in the order they came; `tally` counts those still asleep by their kind."""

    def __init__(self, known: Mapping[str, T] | None = None) -> None:
        self._known: dict[str, T | bytes] = dict(known or {})
        self._make: Make[T] | None = None
        self._awake: list[T] | None = None  # as `awake` gave it last, while that is true
        self._kinds: dict[str, str] = {}
        self.tally: dict[str, int] = {}

    @classmethod
    def of(
        cls, names: Sequence[str], rows: Sequence[bytes], kinds: Mapping[str, str], make: Make[T]
    ) -> Roster[T]:
        """Lay `rows` (each a JSON list that `make` understands) down; those without a kind are made now."""
        roster = cls()
        roster._known = dict(zip(names, rows, strict=True))
        roster._make, roster._kinds = make, dict(kinds)
        for kind in kinds.values():
            roster.tally[kind] = roster.tally.get(kind, 0) + 1
        roster._wake([name for name in names if name not in kinds])
        return roster

    def __getitem__(self, name: str) -> T:
        """The value, made of its row when it is asleep."""
        value = self._known[name]
        if isinstance(value, bytes):
            self._wake([name])
            value = self._known[name]
            assert not isinstance(value, bytes)
        return value

    def __setitem__(self, name: str, value: T) -> None:
        """Keep a value; a new name comes last."""
        self._count_out(name)
        self._known[name] = value

    def __delitem__(self, name: str) -> None:
        """Forget a value."""
        self._count_out(name)
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        """Names, oldest first."""
        return iter(self._known)

    def __reversed__(self) -> Iterator[str]:
        """Names, newest first."""
        return reversed(self._known)

    def __len__(self) -> int:
        """How many there are, asleep or not."""
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a name; wakes nothing."""
        return name in self._known

    def values(self) -> Values[T]:
        """All of them; from the newest on with `reversed`, which wakes no more than it comes to."""
        return Values(self)

    def awake(self) -> list[T]:
        """Those that are not asleep, oldest first."""
        if self._awake is None:
            self._awake = [value for value in self._known.values() if not isinstance(value, bytes)]
        return self._awake

    def wake_all(self) -> None:
        """Make every value that is still a row, all of them in one reading."""
        self._wake(list(self._kinds))

    def row(self, name: str) -> bytes | None:
        """The row of a value that is asleep."""
        value = self._known[name]
        return value if isinstance(value, bytes) else None

    def kind(self, name: str) -> str:
        """The kind of a value that is asleep."""
        return self._kinds[name]

    def _wake(self, names: Sequence[str]) -> None:
        rows = [row for name in names if isinstance(row := self._known[name], bytes)]
        assert self._make or not rows
        collecting = gc.isenabled()
        gc.disable()  # nothing here becomes garbage, and ten thousand new objects would be searched for it
        try:
            for name, row in zip(names, json.loads(b"[" + b",".join(rows) + b"]"), strict=True):
                assert self._make
                self._count_out(name)
                self._known[name] = self._make(row)
        finally:
            if collecting:
                gc.enable()

    def _count_out(self, name: str) -> None:
        self._awake = None
        kind = self._kinds.pop(name, None)
        if kind is not None:
            self.tally[kind] -= 1


class Values(ValuesView[T]):
    """The values of a roster."""

    _mapping: Roster[T]

    def __init__(self, roster: Roster[T]) -> None:
        super().__init__(roster)

    def __iter__(self) -> Iterator[T]:
        """Oldest first; wakes all of them."""
        self._mapping.wake_all()
        return iter(self._mapping.awake())

    def __reversed__(self) -> Iterator[T]:
        """Newest first; wakes them one by one."""
        return (self._mapping[name] for name in reversed(self._mapping))
