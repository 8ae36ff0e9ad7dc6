"""Where vectors are kept, by row, and how they are compared with a query.

Each dot product is computed by itself (`numpy.vecdot`, in one thread), not by a matrix product,
whose last bits depend on where in the matrix a row stands: equal vectors must get equal scores, for
ties to fall to the agent that came first.
"""

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

Floats = NDArray[np.float32]
Rows = NDArray[np.uint32]

BLOCK_ROWS = 4096
"""Vectors are kept in blocks of so many rows: growing moves none, and a scan needs no memory but
for one of them."""
GATHER_SHARE = 0.3
"""Up to this share of a block's rows, gathering them is cheaper than reading all."""


def unit(vector: bytes, dimension: int) -> Floats:
    """The vector, made of little-endian float32, at unit length.

    Raises ValueError if it has another dimension, no direction, or a number that is not finite.
    """
    if len(vector) != 4 * dimension:
        raise ValueError(f"a vector of {len(vector)} bytes, where {4 * dimension} were expected")
    wide = np.frombuffer(vector, dtype="<f4").astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length) or length == 0:
        raise ValueError("a vector without direction, or with a number that is not finite")
    return (wide / length).astype(np.float32)


def row_array(rows: BitMap) -> Rows:
    """The rows of a set, ascending."""
    return np.asarray(rows.to_array(), np.uint32)


class VectorBlocks:
    """Vectors by row."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._blocks: list[Floats] = []

    def put(self, row: int, vector: Floats) -> None:
        """Sets a row's vector."""
        number, place = divmod(row, BLOCK_ROWS)
        while len(self._blocks) <= number:
            # The system gives memory for zeros only once they are written over.
            self._blocks.append(np.zeros((BLOCK_ROWS, self._dimension), np.float32))
        self._blocks[number][place] = vector

    def gather(self, rows: Rows) -> Floats:
        """The vectors of ascending rows; zeros where none was put."""
        vectors = np.zeros((len(rows), self._dimension), np.float32)
        for block, start, places in self._parts(rows):
            vectors[start : start + len(places)] = block[places]
        return vectors

    def cut(self, end: int) -> None:
        """Gives back the memory of rows from `end` on, block by block."""
        del self._blocks[-(-end // BLOCK_ROWS) :]

    def scores(self, rows: Rows, query: Floats) -> Floats:
        """The dot products of the query with ascending rows."""
        scores = np.zeros(len(rows), np.float32)
        for block, start, places in self._parts(rows):
            first, end = int(places[0]), int(places[-1]) + 1
            if len(places) > GATHER_SHARE * (end - first):
                part = np.vecdot(block[first:end], query)[places - first]
            else:
                part = np.vecdot(block[places], query)
            scores[start : start + len(places)] = part
        return scores

    def _parts(self, rows: Rows) -> list[tuple[Floats, int, Rows]]:
        """For each block that has some of the rows: it, where its rows begin, places in it."""
        blocks = self._blocks.copy()  # another thread may be adding some
        bounds = np.arange(len(blocks) + 1, dtype=np.uint32) * BLOCK_ROWS
        edges = np.searchsorted(rows, bounds).tolist()
        return [
            (block, edges[number], rows[edges[number] : edges[number + 1]] - number * BLOCK_ROWS)
            for number, block in enumerate(blocks)
            if edges[number] < edges[number + 1]
        ]
