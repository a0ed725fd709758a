"""Extraction of 10-s clips, one core: everything that the stage does against the bare decoding it cannot avoid.

    python -m benchmarks.extraction [--media FOLDER]

`bare loop` decodes, scales the pictures of the grid and resamples the sound, one thread. `with encoding` also writes
JPEG and FLAC in memory. `stage` is what a build does: a child process, members, facts, a tar, its hash.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import av
import soundfile
from PIL import Image

from benchmarks.common import media_argument, report, side_by_side
from vidaudio.media.extract import Extractor, MediaSpan
from vidaudio.shards.tar import ShardWriter, sha256_of

SECONDS = 10.0


def bare(path: Path, *, encode: bool) -> None:
    """The loop anybody would write with PyAV."""
    pictures, sound = [], []
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_count = 1
        following = 0.0
        for packet in container.demux(video, audio):
            for frame in packet.decode():
                if frame.time is None or frame.time >= SECONDS:
                    continue
                if isinstance(frame, av.VideoFrame):
                    if frame.time >= following:
                        scale = 224 / min(frame.width, frame.height)
                        size = {"width": round(frame.width * scale), "height": round(frame.height * scale)}
                        pictures.append(frame.reformat(**size, format="rgb24", interpolation="BICUBIC").to_ndarray())
                        following += 1.0
                else:
                    sound += [piece.to_ndarray() for piece in resampler.resample(frame)]
    if encode:
        for picture in pictures:
            Image.fromarray(picture).save(io.BytesIO(), "JPEG", quality=92)
        samples = [piece.reshape(-1) for piece in sound]
        with soundfile.SoundFile(io.BytesIO(), "w", 16_000, 1, "PCM_16", format="FLAC") as file:
            for piece in samples:
                file.write(piece)


def main() -> None:
    paths = media_argument(__doc__)

    def run_bare(encode: bool) -> int:
        for path in paths:
            bare(path, encode=encode)
        return len(paths)

    with Extractor() as extractor, tempfile.TemporaryDirectory() as folder:

        def run_stage() -> int:
            tar = Path(folder) / "shard.tar"
            done = 0
            with ShardWriter(tar) as writer:
                for number, path in enumerate(paths):
                    result = extractor.extract(MediaSpan(path, 0.0, SECONDS))
                    if result.parts:
                        writer.write(f"{number:06d}", {**result.parts, "json": b"{}"})
                        done += 1
            sha256_of(tar)
            tar.unlink()
            return done

        rates = side_by_side(
            {"bare loop": lambda: run_bare(False), "with encoding": lambda: run_bare(True), "stage": run_stage}
        )
    report("extraction", rates, "bare loop", {"clips": len(paths), "seconds": SECONDS})


if __name__ == "__main__":
    main()
