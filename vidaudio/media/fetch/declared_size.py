"""Number of missing bytes of a media file, according to the sizes that its container states.

A body that was cut off in transit often opens and plays as far as it goes. The sizes in its boxes and chunks reveal the
loss. Only the outermost headers are parsed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"ssix", b"free", b"skip", b"wide", b"uuid"}
    | {b"meta", b"udta", b"emsg", b"prft", b"pdin", b"pnot"}
)
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# ASF (WMV, WMA): the file's header, and the object in it that states the file's size.
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1
# Sizes that a writer leaves in the header if it never finishes the file.
_UNFINISHED = frozenset({0, 0xFFFFFFFF})
# Enough of the file's end to hold its last Ogg page, which has at most 65,307 bytes.
_OGG_TAIL_BYTES = 1 << 17


def missing_bytes(path: Path) -> int:
    """Return how many bytes a file's container announces beyond the file's end; 0 if it announces none."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        if head[4:8] in _BOXES:
            end = _end_of_boxes(file, size)
        elif head[:4] == _EBML:
            end = _end_of_segment(file)
        elif head[:4] == b"RIFF":
            end = _end_of_riff(file, size)
        elif head == _ASF:
            end = _end_of_asf(file)
        else:
            end = 0
        return max(0, end - size)


def ends_inside(path: Path) -> str:
    """Return the name of the unit that a file without sizes ends in the middle of; empty if it ends as it should."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(189)
        if head[:1] == b"\x47" and head[188:189] == b"\x47" and size % 188:
            return "an MPEG-TS packet"
        if head[:4] == b"OggS":
            file.seek(max(0, size - _OGG_TAIL_BYTES))
            tail = file.read()
            last = tail.rfind(b"OggS")
            if last >= 0 and last + 5 < len(tail) and not tail[last + 5] & 4:
                return "an Ogg stream"
    return ""


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return the end of the last box of an MP4 or MOV file; stop at unknown boxes, since some files carry a tail."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if header[4:8] not in _BOXES:
            break
        if length == 0:  # extends to the end of the file, wherever that is
            return size
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            break
        offset += length
    return offset


def _end_of_segment(file: BinaryIO) -> int:
    """Return the end of the segment of a Matroska file; 0 if its length is unknown."""
    file.seek(4)
    header_bytes, known = _vint(file)
    if not known:
        return 0
    file.seek(header_bytes, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length, known = _vint(file)
    return file.tell() + length if known else 0


def _vint(file: BinaryIO) -> tuple[int, bool]:
    """Return EBML's variable-width number at the file's position, and whether its value is known."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    width = 9 - first[0].bit_length()
    value = first[0] & ((1 << (8 - width)) - 1)
    for byte in file.read(width - 1):
        value = value << 8 | byte
    return value, value != (1 << 7 * width) - 1


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Return the end of the last RIFF chunk of an AVI or WAV file."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length in _UNFINISHED:
            break
        offset += 8 + length + length % 2
    return offset if offset <= size or offset - size > 1 else size


def _end_of_asf(file: BinaryIO) -> int:
    """Return the file size that an ASF file states; 0 if it states none, as in a broadcast."""
    file.seek(16)
    end = int.from_bytes(file.read(8), "little")
    offset = 30
    while offset + 24 <= end:
        file.seek(offset)
        properties = file.read(92)
        length = int.from_bytes(properties[16:24], "little")
        if properties[:16] == _ASF_PROPERTIES and len(properties) == 92:
            is_broadcast = int.from_bytes(properties[88:], "little") & _ASF_BROADCAST
            return 0 if is_broadcast else int.from_bytes(properties[40:48], "little")
        if length < 24:
            break
        offset += length
    return 0
