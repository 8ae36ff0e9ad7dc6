"""What a replica must never forget: its term and vote (Raft paper, figure 2), and its standing.

Also how far its log goes at least: the number of the newest segment, so that losing that is found.

The file has a fixed size and holds two copies, written one after the other and each synced before
the next: a torn write or a damaged copy loses nothing, and a full disk keeps nobody from voting.
"""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import TypedDict, Unpack

import msgpack

from agentkeeper.consensus.disk import DamagedError, Disk, File, FormatError

logger = logging.getLogger(__name__)

FILE_NAME = "ballot"
COPY_BYTES = 4096

_MAGIC = b"AKBALLOT"
_VERSION = 1
_HEADER = struct.Struct("<8sIQI")  # magic, version, sequence number, length of what follows
_CRC = struct.Struct("<I")  # the last bytes of a copy: checksum of all before them
_CRC_AT = COPY_BYTES - _CRC.size


@dataclass(frozen=True, slots=True)
class _Stored:
    term: int = 0
    vote: str | None = None
    voter: bool = False
    founders: dict[str, str] = field(default_factory=dict)
    segment: int = 1


class Changes(TypedDict, total=False):
    """What can be stored; what is left out stays as it is."""

    term: int
    vote: str | None
    voter: bool
    founders: dict[str, str]
    segment: int


class Ballot:
    """Term, vote and standing, stored before anybody can learn of them."""

    def __init__(self, file: File | None, stored: _Stored, sequence: int) -> None:
        self._file = file
        self._stored = stored
        self._sequence = sequence

    @classmethod
    def open(cls, disk: Disk) -> Ballot:
        """Read the newest intact copy, and make sure that both hold it.

        Raises `DamagedError` if there is none, `FormatError`, and `OSError`.
        """
        path = disk.describe(FILE_NAME)
        try:
            file = disk.open(FILE_NAME)
        except FileNotFoundError as error:
            raise DamagedError(path, 0, "it is missing") from error
        try:
            copies = [file.read(0, COPY_BYTES), file.read(COPY_BYTES, COPY_BYTES)]
            sequences = [_sequence(copy) for copy in copies]
            newest = sequences.index(max(sequences))
            ballot = cls(file, _decode(copies[newest], path), sequences[newest])
            for at in (0, 1):
                if copies[at] != copies[newest]:
                    logger.warning("copy %d in %s is damaged or old: written anew", at + 1, path)
            # The newest itself first: where a sync of it has failed, the system takes it for
            # stored, unless it is written again.
            for at in (newest, 1 - newest):
                file.write(at * COPY_BYTES, copies[newest])
                file.sync()
        except BaseException:
            file.close()
            raise
        return ballot

    @classmethod
    def create(cls, disk: Disk, voter: bool) -> Ballot:
        """Store a new replica's, replacing any; raises `OSError`."""
        ballot = cls(disk.open(FILE_NAME, create=True), _Stored(voter=voter), 0)
        try:
            ballot._write(ballot._stored)
            disk.sync()
        except BaseException:
            ballot.close()
            raise
        return ballot

    @classmethod
    def in_memory(cls, voter: bool) -> Ballot:
        """Make one that is stored nowhere."""
        return cls(None, _Stored(voter=voter), 0)

    @property
    def term(self) -> int:
        """The current term."""
        return self._stored.term

    @property
    def vote(self) -> str | None:
        """Node id that got this replica's vote in the current term."""
        return self._stored.vote

    @property
    def voter(self) -> bool:
        """Whether this replica votes and counts."""
        return self._stored.voter

    @property
    def founders(self) -> dict[str, str]:
        """Incarnations of the replicas that the cluster began with, by node id."""
        return self._stored.founders

    @property
    def segment(self) -> int:
        """Number of the log's newest segment; one newer may have been created since."""
        return self._stored.segment

    def store(self, **changes: Unpack[Changes]) -> None:
        """Change some of it, durably whatever the durability of the log.

        If it raises, nothing has changed in memory, but the disk may have either. Raises `OSError`
        (then the replica must stop), and `ValueError` if it does not fit.
        """
        changed = replace(self._stored, **changes)
        if changed != self._stored:
            self._write(changed)
            self._stored = changed

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        if self._file is not None:
            self._file.close()

    def _write(self, stored: _Stored) -> None:
        if self._file is None:
            return
        copy = _encode(stored, self._sequence + 1)
        self._sequence += 1
        for offset in (0, COPY_BYTES):
            self._file.write(offset, copy)
            self._file.sync()


def _encode(stored: _Stored, sequence: int) -> bytes:
    content: bytes = msgpack.packb(asdict(stored))
    copy = _HEADER.pack(_MAGIC, _VERSION, sequence, len(content)) + content
    if len(copy) > _CRC_AT:
        raise ValueError(f"term, vote and founders take {len(copy)} bytes of {_CRC_AT}")
    copy = copy.ljust(_CRC_AT, b"\0")
    return copy + _CRC.pack(zlib.crc32(copy))


def _sequence(copy: bytes) -> int:
    """Give a copy's sequence number; 0, which none has, if it is not intact."""
    if len(copy) != COPY_BYTES or _CRC.unpack_from(copy, _CRC_AT)[0] != zlib.crc32(copy[:_CRC_AT]):
        return 0
    return int(_HEADER.unpack_from(copy)[2])


def _decode(copy: bytes, path: str) -> _Stored:
    if not _sequence(copy):
        raise DamagedError(path, 0, "neither of the two copies in it is intact")
    magic, version, _, length = _HEADER.unpack_from(copy)
    if magic != _MAGIC:
        raise DamagedError(path, 0, "it does not begin as a ballot does")
    if version != _VERSION:
        raise FormatError(path, version, _VERSION)
    return _Stored(**msgpack.unpackb(copy[_HEADER.size : _HEADER.size + length]))
