"""Program of the decoder process: reads jobs from standard input, writes encoded clips to standard output, one by one.

Decoders crash and hang on broken files. In a process of its own, such a decoder costs one clip and not a shard. A
message is a line of JSON followed by the raw bytes that it announces, so nothing is ever unpickled.

The kernel enforces the limits of a clip: memory, processor time, no core files. When memory runs short, the kernel ends
this process, not the worker that waits for it.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import sys
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

from vidaudio.media.decode.byte_range_file import FilePart
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.facts.measure import ENVELOPES, as_float16, measure_media
from vidaudio.media.outcomes import Outcome, Reason
from vidaudio.media.worker_limits import GIBIBYTE, JobLimits, become_worker

SILENCE_DBFS = -120.0
# Time after a clip's deadline at which the decoder process ends itself.
ORPHAN_SECONDS = 10.0


def encode_clip(clip: DecodedClip, sample_rate: int, jpeg_quality: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the facts of a clip, and its members by extension: `flac`, `000.jpg`, `001.jpg`, ..."""
    parts: dict[str, bytes] = {}
    sound = io.BytesIO()
    soundfile.write(sound, clip.samples, sample_rate, format="FLAC", subtype="PCM_16")
    parts["flac"] = sound.getvalue()
    for number, image in enumerate(clip.images):
        picture = io.BytesIO()
        Image.fromarray(image).save(picture, "JPEG", quality=jpeg_quality)
        parts[f"{number:03d}.jpg"] = picture.getvalue()
    level = clip.samples.astype(np.float64) / 32768
    rms = math.sqrt(float(np.mean(level**2)))
    facts = {
        "seconds": round(len(clip.samples) / sample_rate, 6),
        "video_seconds": round(clip.video_seconds, 6),
        "samples": len(clip.samples),
        "sample_rate": sample_rate,
        "audio_start_seconds": round(clip.audio_start_seconds, 6),
        "frame_seconds": [round(s, 6) for s in clip.frame_seconds],
        "grid_seconds": [round(s, 6) for s in clip.grid_seconds],
        "rms_dbfs": round(20 * math.log10(rms), 2) if rms > 0 else SILENCE_DBFS,
        "motion": round(clip.motion, 3),
        "decode_errors": clip.decode_errors,
        "audio_gaps": clip.audio_gaps,
        "time_jumps": clip.time_jumps,
        "filled_seconds": round(clip.filled_seconds, 6),
        "held_seconds": round(clip.held_seconds, 6),
        "audio_channel": clip.audio_channel,
        "tone_mapped": clip.tone_mapped,
    }
    return facts, parts


def measure_clip(clip: DecodedClip, sample_rate: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what is measured of a clip by field, and the envelopes by field as the bytes of float16 values."""
    values = measure_media(clip.samples, sample_rate, clip.audio_start_seconds, clip.images)
    values |= {"motion_source": clip.motion_source, "motion_envelope": as_float16(clip.motion_envelope)}
    envelopes = {name: values.pop(name).tobytes() for name in ENVELOPES}
    return values, envelopes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job came to.

    Attributes:
        header: `state`, and either `facts` and `measured` or `reason` and `message`.
        parts: Members of the tar by extension.
        envelopes: Envelopes by name, float16.
    """

    header: dict[str, Any]
    parts: dict[str, bytes] = field(default_factory=dict)
    envelopes: dict[str, bytes] = field(default_factory=dict)


def run_job(job: dict[str, Any]) -> Answer:
    """Decode and encode one job.

    Raises:
        MemoryError: When the job needs more memory than it may have.
    """
    options = DecodeOptions(**job["options"])
    try:
        file = FilePart(job["path"], job["offset"], job["length"])
    except OSError as error:
        return _no_clip(Outcome.failed(Reason.NOT_FOUND, f"cannot be opened: {error.strerror}"))
    with file:
        result = decode_clip(file, job["start_seconds"], job["end_seconds"], options)
        if file.error is not None:  # what was decoded so far is not the whole clip
            result = Outcome.failed(Reason.DISK, f"cannot be read: {file.error.strerror}")
    if isinstance(result, Outcome):
        return _no_clip(result)
    facts, parts = encode_clip(result, options.sample_rate, job["jpeg_quality"])
    measured, envelopes = measure_clip(result, options.sample_rate)
    return Answer({"state": "done", "facts": facts, "measured": measured}, parts, envelopes)


def _no_clip(outcome: Outcome) -> Answer:
    return Answer({"state": outcome.state, "reason": outcome.reason, "message": outcome.message})


def main() -> None:
    """Serve jobs until standard input closes.

    A line that is not a job ends the process, because what follows that line is unknown.
    """
    become_worker()
    av.logging.set_level(av.logging.PANIC)
    # Output of a codec, even by printf, must not be read as a message.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin.buffer:
            job = json.loads(line)
            memory = {resource.RLIMIT_AS: int(job["memory_gib"] * GIBIBYTE)}
            # Decoding uses one thread, so its processor time has the same limit.
            with JobLimits(job["deadline_seconds"] + ORPHAN_SECONDS, memory):
                answer = _answer(job)
            blobs = {"parts": answer.parts, "envelopes": answer.envelopes}
            lengths = {kind: [[name, len(data)] for name, data in named.items()] for kind, named in blobs.items()}
            output.write(json.dumps(answer.header | lengths).encode() + b"\n")
            for named in blobs.values():
                output.writelines(named.values())
            output.flush()


def _answer(job: dict[str, Any]) -> Answer:
    try:
        return run_job(job)
    except MemoryError:
        wanted = f"wants more than {job['memory_gib']:g} GiB of memory to be decoded"
        return _no_clip(Outcome.failed(Reason.CRASH, wanted))
    except Exception as error:  # a bug costs only this clip, and its message says what it was
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return _no_clip(Outcome.failed(Reason.UNKNOWN, text))


if __name__ == "__main__":
    main()
