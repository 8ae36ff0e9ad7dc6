"""An approximate index of vectors: a graph of near neighbours, walked towards the query.

After Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs" (IEEE TPAMI 42(4), 2020), as hnswlib has it. It only
proposes rows; scores and order come from the vectors themselves.

The graph is never stored. It grows in a thread of its own, which alone changes it, a few vectors
at a time. Where vectors stand in tight groups, as those of a fleet of near-equal agents do, the
walk misses many of the nearest. So the graph is checked against the exact scan, at first with each
search and then with some, and given up where it finds too little.
"""

import importlib.util
import threading
import time
from itertools import islice
from typing import Any, Final

import structlog
from pyroaring import BitMap

from agentkeeper.search.blocks import Floats, VectorBlocks, row_array

log = structlog.get_logger(__name__)

LINKS: Final = 16
"""The paper's M."""
BUILD_WIDTH: Final = 100
"""How many candidates an insertion looks at: efConstruction."""
SEARCH_WIDTH: Final = 300
"""How many candidates a search looks at, at least: ef."""
SLICE_ROWS: Final = 8
"""Added between two chances for a search; some milliseconds."""
BATCH_ROWS: Final = 256
"""So many changes wake the thread; rows that are not in the graph yet are scanned."""
REST: Final = 1.0
"""How long the thread rests after each slice, as a multiple of the slice's CPU time."""
PATIENCE_S: Final = 0.02
"""A search that can't have the graph so soon scans."""

PROBATION: Final = 32
"""So many searches are all checked, and later each CHECK_EVERYth."""
CHECK_EVERY: Final = 32
LEAST_RECALL: Final = 0.97
"""What the graph must find of the true best, on the average of checks."""
SPAN: Final = 64
"""About how many of the last checks the average is of."""


def available() -> bool:
    """Whether hnswlib is installed."""
    return importlib.util.find_spec("hnswlib") is not None


class Graph:
    """Proposes near rows. One thread adds and drops rows; any may search."""

    def __init__(self, dimension: int, blocks: VectorBlocks) -> None:
        self._dimension = dimension
        self._blocks = blocks
        self._sets = threading.Lock()  # held for moments
        self._waiting = BitMap()
        self._adding = BitMap()
        self._covered = BitMap()
        self._spent = BitMap()  # a row is put in once: hnswlib's updates spoil its links
        self._gone = BitMap()
        self._thread: threading.Thread | None = None
        self._library = threading.Lock()  # its searches must not meet its changes
        self._index: Any = None
        self._closed = False
        self._searches = 0
        self._checks = 0
        self._recall = 0.0

    def __len__(self) -> int:
        return len(self._covered)

    @property
    def closed(self) -> bool:
        """Whether it was closed or has given up."""
        return self._closed

    @property
    def worn(self) -> bool:
        """Whether most of it is what was dropped, so that a new graph would serve better."""
        with self._sets:
            lost = len(self._spent) - len(self._covered) - len(self._adding)
            return lost >= BATCH_ROWS and lost * 3 > len(self._spent) * 2

    def add(self, rows: BitMap) -> None:
        """Takes rows in, by and by. One that was dropped stays out."""
        with self._sets:
            self._waiting |= rows - self._spent
            self._wake()

    def drop(self, row: int) -> None:
        """Proposes a row no longer, since it is gone or has got another vector."""
        with self._sets:
            self._waiting.discard(row)
            if row in self._covered or row in self._adding:
                self._covered.discard(row)
                self._adding.discard(row)
                self._gone.add(row)
                self._wake()

    def close(self) -> None:
        """Ends the thread soon. Nothing is proposed any more."""
        self._closed = True

    def covers(self, rows: BitMap) -> BitMap:
        """Those of the rows that it may propose."""
        with self._sets:
            return rows & self._covered

    def near(self, query: Floats, count: int) -> BitMap | None:
        """About the `count` rows nearest to the query, or None if the graph can't tell now."""
        if not self._library.acquire(timeout=PATIENCE_S):
            return None
        try:
            if self._closed or self._index is None:
                return None
            self._index.set_ef(max(SEARCH_WIDTH, 2 * count))
            labels, _ = self._index.knn_query(query, count, num_threads=1)
        except RuntimeError:  # it has fewer
            return None
        finally:
            self._library.release()
        return BitMap(labels[0].tolist())

    def to_check(self) -> bool:
        """Whether this search is one to be checked."""
        self._searches += 1
        return self._searches <= PROBATION or self._searches % CHECK_EVERY == 0

    def judge(self, recall: float) -> None:
        """Takes in what share of the best a search found. Closes where that is too little."""
        self._checks += 1
        self._recall += (recall - self._recall) / min(self._checks, SPAN)
        if self._checks >= PROBATION / 4 and self._recall < LEAST_RECALL and not self._closed:
            log.info("vectors are too alike for a graph, searches scan", recall=self._recall)
            self.close()
            with self._library:
                self._index = None

    def _wake(self) -> None:
        changes = len(self._waiting) + len(self._gone)
        if self._thread is None and changes >= BATCH_ROWS and not self._closed:
            self._thread = threading.Thread(target=self._grow, name="vector-graph")
            self._thread.start()

    def _grow(self) -> None:
        try:
            # At exit the interpreter waits for this thread, after its main thread has ended.
            while not self._closed and threading.main_thread().is_alive():
                began_s = time.thread_time()
                if not self._step():
                    break
                # Not by a low priority: whoever waits for the interpreter's lock would have it too.
                time.sleep(REST * (time.thread_time() - began_s))
        except Exception:
            log.exception("the graph of vectors is given up, searches scan")
            self.close()

    def _step(self) -> bool:
        """Adds and drops a few rows. Tells whether there may be more to do."""
        with self._sets:
            gone, self._gone = self._gone, BitMap()
            rows = BitMap(list(islice(self._waiting, SLICE_ROWS)))
            if not rows and not gone:
                self._thread = None
                return False
            self._waiting -= rows
            self._adding = rows.copy()
            self._spent |= rows
        with self._library:
            if self._closed:
                return False
            for row in gone:
                self._index.mark_deleted(row)
            if rows:
                self._insert(rows)
        with self._sets:
            self._covered |= self._adding
            self._adding = BitMap()
        return True

    def _insert(self, rows: BitMap) -> None:
        if self._index is None:
            import hnswlib  # noqa: PLC0415 - optional

            self._index = hnswlib.Index(space="ip", dim=self._dimension)
            self._index.init_index(
                2 * (len(self._waiting) + BATCH_ROWS),
                ef_construction=BUILD_WIDTH,
                M=LINKS,
                random_seed=1,
            )
        wanted = self._index.get_current_count() + len(rows)
        if wanted > self._index.get_max_elements():
            self._index.resize_index(2 * wanted)
        labels = row_array(rows)
        self._index.add_items(self._blocks.gather(labels), labels, num_threads=1)
