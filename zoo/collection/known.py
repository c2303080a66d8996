"""What a collection knows of contents: the rows that have each, by the sha256 of its bytes."""

import numpy as np

__all__ = ["Contents"]

_Block = tuple[np.ndarray, np.ndarray]  # digests in their order, and the row of each


class Contents:
    """Rows by the digest of their content, in sorted blocks: forty bytes a row.

    A dictionary would take five times as much. One thread adds, others may ask meanwhile.
    """

    def __init__(self) -> None:
        self._blocks: tuple[_Block, ...] = ()
        self._new: dict[bytes, list[int]] = {}

    def add(self, digest: bytes, row: int) -> None:
        """A row has this content."""
        self._new.setdefault(digest, []).append(row)
        if len(self._new) >= 4096:
            self.settle()

    def add_many(self, digests: np.ndarray, rows: np.ndarray) -> None:
        """Rows have these contents, an array of ``S32``."""
        if len(rows):
            order = np.argsort(digests, kind="stable")
            self._blocks = _merged((*self._blocks, (digests[order], rows[order])))

    def settle(self) -> None:
        """Sort what was added one by one."""
        digests = [digest for digest, rows in self._new.items() for _ in rows]
        numbers = [row for rows in self._new.values() for row in rows]
        self.add_many(np.array(digests, "S32"), np.array(numbers, np.int64))
        self._new = {}

    def rows(self, digest: bytes) -> list[int]:
        """The rows that have this content, in order."""
        found = [*self._new.get(digest, ())]
        wanted = np.array([digest], "S32")
        for digests, rows in self._blocks:
            first = int(np.searchsorted(digests, wanted, "left")[0])
            while first < len(digests) and digests[first] == wanted[0]:
                found.append(int(rows[first]))
                first += 1
        return sorted(set(found))

    def digests(self) -> np.ndarray:
        """All contents, sorted, as ``S32``."""
        self.settle()
        found = [digests for digests, _ in self._blocks]
        return np.unique(np.concatenate([np.zeros(0, "S32"), *found]))

    def __contains__(self, digest: bytes) -> bool:
        return bool(self.rows(digest))


def _merged(blocks: tuple[_Block, ...]) -> tuple[_Block, ...]:
    """Blocks of which each is less than half as large as the one before it."""
    while len(blocks) > 1 and 2 * len(blocks[-1][0]) > len(blocks[-2][0]):
        digests = np.concatenate([blocks[-2][0], blocks[-1][0]])
        rows = np.concatenate([blocks[-2][1], blocks[-1][1]])
        order = np.argsort(digests, kind="stable")
        blocks = (*blocks[:-2], (digests[order], rows[order]))
    return blocks
