"""The files that a log is made of, and how they are read back.

A segment is a header and then records, each of them one entry. Checksums are chained: a record's
covers its predecessors', across segments, so that bytes which are intact but lost, repeated or
left over from earlier are found as well. A record's header has a checksum of its own, so that a
file which ends within a record is told from one whose length field is damaged.

At a power cut a file may have got its new size but not all of its new content: where blocks were
not written there are zeros then, up to its end. No record ends with a zero, so such a tail is told
from records.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from agentkeeper.consensus.disk import DamagedError, Disk, File, FormatError
from agentkeeper.consensus.entries import Entry

logger = logging.getLogger(__name__)

_MAGIC = b"AKLOGSEG"
_VERSION = 1
_HEADER = struct.Struct("<8sIQI")  # magic, version, sequence number, last checksum before it
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size

_FIELDS = struct.Struct("<IQQB")  # length of the command, index, term, flags
_CHECKSUMS = struct.Struct("<II")  # of the fields, of fields and command
_RECORD = struct.Struct("<IQQBII")
_END = b"\xff"
"""Follows the command."""
_BEGINS_ANEW = 1
"""Flag: all before this entry is void."""
_BEGINS_GROUP = 2
"""Flag: all before this entry was synced before it was written."""

_BLOCK_BYTES = 512
"""Size of which every file system's blocks are multiples; they are written whole."""

_NAME = re.compile(r"\d{8,}\.log", re.ASCII)


@dataclass
class Segment:
    """A segment in the folder."""

    sequence: int
    """Its number; each is one higher than the last one's."""
    last_index: int = 0
    """Highest index of the entries in it that later ones did not replace; 0 if there are none."""

    @property
    def name(self) -> str:
        """Its file's name."""
        return name_of(self.sequence)


@dataclass
class Contents:
    """What the segments hold, and where the log goes on."""

    entries: list[Entry]
    segments: list[Segment]
    file: File
    """The last segment's."""
    end: int
    """Where in `file` the last record ends."""
    chain: int
    """Checksum of the last record."""
    last_index: int
    """Index of the last record; 0 if there is none."""


def name_of(sequence: int) -> str:
    """Name a segment's file."""
    return f"{sequence:08d}.log"


def stored(disk: Disk) -> list[Segment]:
    """List the segments in the folder, oldest first."""
    names = filter(_NAME.fullmatch, disk.names())
    return [Segment(sequence) for sequence in sorted(int(name[:-4]) for name in names)]


def create(disk: Disk, sequence: int, chain: int) -> File:
    """Create a segment, durably, and give its file."""
    header = _HEADER.pack(_MAGIC, _VERSION, sequence, chain)
    file = disk.open(name_of(sequence), create=True)
    try:
        file.write(0, header + _CRC.pack(zlib.crc32(header)))
        file.sync()
        disk.sync()
    except OSError:
        file.close()
        raise
    return file


def encode(
    entries: Iterable[Entry], chain: int, *, begins_anew: bool, begins_group: bool
) -> tuple[bytes, int]:
    """Encode records; the flags are the first one's. Give them and the last one's checksum."""
    flags = _BEGINS_ANEW * begins_anew | _BEGINS_GROUP * begins_group
    pieces: list[bytes] = []
    for command, index, term in entries:
        fields = _FIELDS.pack(len(command), index, term, flags)
        fields_crc = zlib.crc32(fields, chain)
        chain = zlib.crc32(_END, zlib.crc32(command, fields_crc))
        pieces += (fields, _CHECKSUMS.pack(fields_crc, chain), command, _END)
        flags = 0
    return b"".join(pieces), chain


def record_bytes(entry: Entry) -> int:
    """Size of an entry's record."""
    return _RECORD.size + len(entry[0]) + len(_END)


def void_from(segments: Iterable[Segment], index: int) -> None:
    """Note that later records replace the entries of `segments` from `index` on."""
    for segment in segments:
        segment.last_index = min(segment.last_index, index - 1)


def read(disk: Disk, newest: int = 1) -> Contents:
    """Read all segments, up to number `newest` at least, and mend what a crash left at their end.

    Raises `DamagedError` for what no crash explains, `FormatError`, and `OSError`.
    """
    segments = stored(disk)
    begun = len(segments) > 1 and segments[-1].sequence > newest and _only_begun(disk, segments[-1])
    if begun:
        logger.warning("%s was only begun and is removed", disk.describe(segments[-1].name))
        disk.remove(segments.pop().name)
    if not segments or segments[-1].sequence < newest:
        raise DamagedError(disk.describe(name_of(newest)), 0, "it is missing")
    reader = _Reader(disk)
    for segment in segments:
        # One that another follows was synced before that one was begun.
        reader.read(segment, may_be_torn=segment is segments[-1] and not begun)
    return reader.reopen()


def _only_begun(disk: Disk, segment: Segment) -> bool:
    content = _content(disk, segment)
    return len(content) < HEADER_BYTES or content == bytes(HEADER_BYTES)


def _content(disk: Disk, segment: Segment) -> bytes:
    file = disk.open(segment.name)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


class _Reader:
    """Follows the records through all segments."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._entries: list[Entry] = []
        self._segments: list[Segment] = []
        self._chain = 0
        self._last_index = 0
        # Of the segment that was read last:
        self._data = b""
        self._zeros = 0
        """Where the zeros begin that a power cut may have left at its end."""
        self._end = 0
        self._group = 0

    def read(self, segment: Segment, *, may_be_torn: bool) -> None:
        """Read the next segment; one that may be torn up to where its last whole record ends."""
        if self._segments:
            missing = self._segments[-1].sequence + 1
            if segment.sequence != missing:
                path = self._disk.describe(name_of(missing))
                raise DamagedError(path, 0, "it is missing, though a later one is there")
        self._segments.append(segment)
        self._data = _content(self._disk, segment)
        self._zeros = len(self._data.rstrip(b"\0") if may_be_torn else self._data)
        self._read_header()
        self._read_records()
        segment.last_index = self._last_index
        if self._end < len(self._data) and not may_be_torn:
            raise self._damage(self._end, "it ends within a record, though others follow")

    def reopen(self) -> Contents:
        """Mend the segment read last, and open it to go on there."""
        file = self._disk.open(self._segments[-1].name)
        try:
            if self._end < len(self._data):
                logger.warning(
                    "%s ended within a record, as a crash leaves it: cut from %d bytes to %d",
                    self._path,
                    len(self._data),
                    self._end,
                )
                file.truncate(self._end)
            # The last group may be in the system's memory only. Where a sync of it has failed, the
            # system takes it for stored, unless it is written again.
            file.write(self._group, self._data[self._group : self._end])
            file.sync()
            self._disk.sync()
        except OSError:
            file.close()
            raise
        return Contents(
            self._entries, self._segments, file, self._end, self._chain, self._last_index
        )

    @property
    def _path(self) -> str:
        return self._disk.describe(self._segments[-1].name)

    def _read_header(self) -> None:
        data = self._data
        if len(data) < HEADER_BYTES:
            raise self._damage(0, "it is shorter than its header")
        magic, version, sequence, chain = _HEADER.unpack_from(data)
        if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise self._damage(0, "its header does not match its checksum")
        if magic != _MAGIC:
            raise self._damage(0, "it does not begin as a segment does")
        if version != _VERSION:
            raise FormatError(self._path, version, _VERSION)
        if sequence != self._segments[-1].sequence:
            raise self._damage(0, f"it is segment {sequence} under another one's name")
        if len(self._segments) > 1 and chain != self._chain:
            raise self._damage(0, "it does not continue the segment before it")
        self._chain = chain

    def _read_records(self) -> None:
        data = self._data
        size = len(data)
        offset = HEADER_BYTES
        self._group = 0
        while (start := offset + _RECORD.size) <= size and offset < self._zeros:
            length, index, term, flags, fields_crc, crc = _RECORD.unpack_from(data, offset)
            if zlib.crc32(data[offset : offset + _FIELDS.size], self._chain) != fields_crc:
                if self._has_unwritten_block(start):
                    break
                raise self._damage(offset, "the header of a record does not match its checksum")
            end = start + length + len(_END)
            if end > size:
                break
            command = data[start : start + length]
            if zlib.crc32(data[start + length : end], zlib.crc32(command, fields_crc)) != crc:
                if self._has_unwritten_block(end):
                    break
                raise self._damage(offset, f"entry {index} does not match its checksum")
            if index != self._last_index + 1 or flags & _BEGINS_ANEW:
                self._turn_to(offset, index, anew=bool(flags & _BEGINS_ANEW))
            if flags & _BEGINS_GROUP:
                self._group = offset
            self._entries.append((command, index, term))
            self._last_index = index
            self._chain = crc
            offset = end
        self._end = offset

    def _has_unwritten_block(self, end: int) -> bool:
        """Tell whether the zeros at the file's end include all of a block that begins before `end`.

        They begin after the last intact record, so it is what was written last that lacks a block.
        """
        return -(-self._zeros // _BLOCK_BYTES) * _BLOCK_BYTES < end

    def _turn_to(self, offset: int, index: int, *, anew: bool) -> None:
        entries = self._entries
        if anew:
            entries.clear()
            void_from(self._segments, 1)
        elif entries:
            if index > self._last_index:
                raise self._damage(offset, f"entry {index} follows entry {self._last_index}")
            del entries[max(0, index - entries[0][1]) :]
            void_from(self._segments, index)

    def _damage(self, offset: int, what: str) -> DamagedError:
        return DamagedError(self._path, offset, what)
