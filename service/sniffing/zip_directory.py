"""A zip archive's directory, read from the end of the file in bounded pieces; no member is unpacked.

APPNOTE.TXT 6.3.10: the end-of-central-directory record (4.3.16) with its zip64 form (4.3.14, 4.3.15) says
where the directory is; an entry (4.3.12) has a member's name, sizes and place.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

ReadRange = Callable[[int, int], bytes]
"""`read(start, length)`: bytes of the stored file."""

_EOCD: Final = struct.Struct("<4s4H2LH")
_EOCD64_LOCATOR: Final = struct.Struct("<4sLQL")
_EOCD64: Final = struct.Struct("<4sQ2H2L4Q")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_PIECE: Final = 1 << 20
MAX_MEMBERS: Final = 2_000_000


class ZipDamagedError(ValueError):
    """The file has no directory that holds together; the message says what is wrong with it."""


@dataclass(frozen=True)
class Member:
    """A member as the directory describes it. `method`: 0 stored, 8 deflated."""

    name: str
    method: int
    compressed: int
    size: int
    header_at: int
    encrypted: bool
    is_link: bool


def members(read: ReadRange, size: int) -> Iterator[Member]:
    """Every member of the archive of `size` bytes, in the order of the directory.

    Raises:
        ZipDamagedError: the directory is missing, cut short, inconsistent or larger than `MAX_MEMBERS`.
    """
    count, length, start = _find(read, size)
    if count > MAX_MEMBERS:
        raise ZipDamagedError(f"it lists {count:,} members; {MAX_MEMBERS:,} are the most that are read")
    held, at, taken = b"", 0, 0
    for _ in range(count):
        while len(held) - at < _ENTRY.size or len(held) - at < _entry_length(held, at):
            piece = read(start + taken, min(_PIECE, length - taken))
            if not piece:
                raise ZipDamagedError("its directory is cut short")
            held, at, taken = held[at:] + piece, 0, taken + len(piece)
        end = at + _entry_length(held, at)
        yield _member(held[at:end])
        at = end
    if taken != length or at != len(held):
        raise ZipDamagedError("its directory has more in it than it says")


def local_data(read: ReadRange, member: Member, length: int) -> bytes:
    """The first `length` stored (perhaps deflated) bytes of a member.

    Raises:
        ZipDamagedError: there is no such member where the directory says.
    """
    header = read(member.header_at, _LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise ZipDamagedError(f"{member.name} is not where the directory says")
    name_length, extra_length = _LOCAL.unpack(header)[9:11]
    at = member.header_at + _LOCAL.size + name_length + extra_length
    return read(at, min(length, member.compressed))


def escapes(name: str) -> bool:
    """Whether a member's name leads out of the folder that it would be unpacked into."""
    parts = re.split(r"[/\\]", name)
    return (
        ".." in parts or name[:1] in ("/", "\\") or "\x00" in name or bool(re.match(r"[A-Za-z]:", parts[0]))
    )


def _find(read: ReadRange, size: int) -> tuple[int, int, int]:
    """Number of entries, bytes and place of the directory."""
    tail_length = min(size, _EOCD.size + 0xFFFF + _EOCD64_LOCATOR.size)
    tail_at = size - tail_length
    tail = read(tail_at, tail_length)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _EOCD.size:
        raise ZipDamagedError("its directory is missing; the file was cut short")
    _, disk, _, _, count, length, start, comment = _EOCD.unpack_from(tail, at)
    end = tail_at + at
    if disk not in (0, 0xFFFF) or at + _EOCD.size + comment != len(tail):
        raise ZipDamagedError("it does not end with its directory")
    # Some writers (torch.jit.save) add the zip64 records where the plain one would have been enough.
    has_locator = tail[max(at - _EOCD64_LOCATOR.size, 0) : at].startswith(b"PK\x06\x07")
    if has_locator or count == 0xFFFF or length == 0xFFFFFFFF or start == 0xFFFFFFFF:
        count, length, start, end = _find64(read, tail, at, end)
    if start + length != end:
        raise ZipDamagedError("its directory is not where the file says; the file was cut short or changed")
    return count, length, start


def _find64(read: ReadRange, tail: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    locator_at = at - _EOCD64_LOCATOR.size
    if locator_at < 0 or tail[locator_at : locator_at + 4] != b"PK\x06\x07":
        raise ZipDamagedError("its zip64 directory is missing")
    record_at = _EOCD64_LOCATOR.unpack_from(tail, locator_at)[2]
    if record_at > end:
        raise ZipDamagedError("its zip64 directory is not where the file says")
    record = read(record_at, _EOCD64.size)
    if len(record) < _EOCD64.size or record[:4] != b"PK\x06\x06":
        raise ZipDamagedError("its zip64 directory is not where the file says")
    fields = _EOCD64.unpack(record)
    return fields[7], fields[8], fields[9], record_at


def _entry_length(held: bytes, at: int) -> int:
    if held[at : at + 4] != b"PK\x01\x02":
        raise ZipDamagedError("its directory is damaged")
    name, extra, comment = _ENTRY.unpack_from(held, at)[10:13]
    return _ENTRY.size + int(name) + int(extra) + int(comment)


def _member(entry: bytes) -> Member:
    fields = _ENTRY.unpack_from(entry)
    made_by, flags, method = fields[1], fields[3], fields[4]
    compressed, size, name_length, extra_length = fields[8:12]
    attributes, header_at = fields[15:17]
    name_end = _ENTRY.size + name_length
    name = entry[_ENTRY.size : name_end].decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
    wide = _zip64_values(entry[name_end : name_end + extra_length])
    if size == 0xFFFFFFFF:
        size = next(wide, size)
    if compressed == 0xFFFFFFFF:
        compressed = next(wide, compressed)
    if header_at == 0xFFFFFFFF:
        header_at = next(wide, header_at)
    is_link = made_by >> 8 == 3 and (attributes >> 16) & 0o170000 == 0o120000
    return Member(name, method, compressed, size, header_at, bool(flags & 1), is_link)


def _zip64_values(extra: bytes) -> Iterator[int]:
    """The 64-bit values of the zip64 extra field (id 1), in order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = extra[at + 4 : at + 4 + length]
            yield from struct.unpack(f"<{len(values) // 8}Q", values[: len(values) // 8 * 8])
        at += 4 + length
