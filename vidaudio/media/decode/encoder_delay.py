"""The delay of an MP3 encoder, where the first frame tells it and the container cannot.

An MP3 file begins with a frame that holds no sound but a header, "Xing" or "Info", in which LAME and others write how
many samples their filters put before the first one. Readers of MP3 files take both away. Put into AVI or another
container, packet by packet, that frame is one like all others, and picture and sound are apart by its length and the
delay: 17 to 70 ms.
"""

from __future__ import annotations

from typing import Any

import av

HEADER_WORDS = (b"Xing", b"Info")
# After the word and its flags: which of the number of frames, of bytes, a table, and the quality follow.
_FIELD_BYTES = ((1, 4), (2, 4), (4, 100), (8, 4))
# The delay stands in the first 12 bits of this byte of the encoder's own part, which begins with its name.
_DELAY_AT = 21
# What every MPEG audio decoder adds: 528 samples of its filters, and one.
DECODER_DELAY = 529
SAMPLES_A_FRAME = {3: 1152, 2: 576, 0: 576}  # by version bits: MPEG-1, 2, 2.5; layer III


def may_have_header(stream: Any) -> bool:
    """Return whether a track's first packet may be a header frame."""
    return stream.codec_context is not None and stream.codec_context.name in ("mp3", "mp3float")


def encoder_delay_seconds(packet: av.Packet) -> float:
    """Return how long before the first sample of the encoder's input the sound of a track begins; 0 if unknown.

    Args:
        packet: The first of a track.
    """
    if not may_have_header(packet.stream):
        return 0.0
    rate = packet.stream.codec_context.sample_rate
    if not rate or packet.has_sidedata("skip_samples"):  # the container has told it
        return 0.0
    return header_delay_samples(bytes(packet)) / rate


def header_delay_samples(frame: bytes) -> int:
    """Return the samples that a header frame and the delay it tells amount to; 0 where it is a frame of sound."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return 0
    version, mono = frame[1] >> 3 & 3, frame[3] >> 6 == 3
    if version not in SAMPLES_A_FRAME or frame[1] >> 1 & 3 != 1:
        return 0
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    at = 4 + side_bytes
    if frame[at : at + 4] not in HEADER_WORDS:
        return 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    encoder = at + 8 + sum(size for flag, size in _FIELD_BYTES if flags & flag)
    told = frame[encoder + _DELAY_AT : encoder + _DELAY_AT + 3]
    delay = told[0] << 4 | told[1] >> 4 if len(told) == 3 else 0
    return SAMPLES_A_FRAME[version] + (delay + DECODER_DELAY if delay else 0)
