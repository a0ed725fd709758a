"""The delay of an MP3 encoder, read from the first frame where the container cannot report it.

An MP3 file begins with a frame that contains no sound but a header, "Xing" or "Info". In it, LAME and other encoders
write how many samples their filters put before the first one. Readers of MP3 files remove both the frame and these
samples. If the stream is copied packet by packet into AVI or another container, that frame looks like all others.
Picture and sound are then out of sync by its length and the delay: 17 to 70 ms.
"""

from __future__ import annotations

from typing import Any

import av

HEADER_WORDS = (b"Xing", b"Info")
# Optional fields after the word and its flags, as (flag, bytes): number of frames, number of bytes, seek table,
# quality.
_FIELD_BYTES = ((1, 4), (2, 4), (4, 100), (8, 4))
# The delay is in the first 12 bits from this byte of the encoder's own part, which begins with the encoder's name.
_DELAY_AT = 21
# Delay that every MPEG audio decoder adds: 528 samples of its filters, plus one.
DECODER_DELAY = 529
SAMPLES_A_FRAME = {3: 1152, 2: 576, 0: 576}  # by version bits: MPEG-1, 2, 2.5; layer III


def may_have_header(stream: Any) -> bool:
    """Return whether a track's first packet may be a header frame."""
    return stream.codec_context is not None and stream.codec_context.name in ("mp3", "mp3float")


def encoder_delay_seconds(packet: av.Packet) -> float:
    """Return how long before the first sample of the encoder's input a track's sound begins, in seconds; 0 if unknown.

    Args:
        packet: First packet of the track.
    """
    if not may_have_header(packet.stream):
        return 0.0
    rate = packet.stream.codec_context.sample_rate
    if not rate or packet.has_sidedata("skip_samples"):  # the container already reports the delay
        return 0.0
    return header_delay_samples(bytes(packet)) / rate


def header_delay_samples(frame: bytes) -> int:
    """Return the length of a header frame in samples, plus all delay if it states one; 0 for a frame of sound."""
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
