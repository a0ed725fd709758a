"""The same job done with FFmpeg processes: the plain ways, and the commands that others' tools build for it.

Every way turns one local file into pictures at 1 a second, 224 pixels, and mono sound at 16 kHz, in a scratch folder.
Arguments only; the executable is put before them, and `-nostdin -loglevel error -y` after it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from vidaudio.media.ffmpeg import ffmpeg_executable

# Short side to 224, then the centre: as the stage does.
SQUARE = "fps=1,scale=224:224:force_original_aspect_ratio=increase:flags=bicubic,crop=224:224"
Commands = list[list[str]]
# Who leaves what behind; nobody is charged for what others do not make.
MAKES = [
    {"name": "bare loop", "pictures": "RGB in memory", "sound": "int16 in memory", "processes": "none"},
    {"name": "bare + JPEG, FLAC", "pictures": "JPEG 92 in memory", "sound": "FLAC in memory", "processes": "none"},
    {"name": "stage", "pictures": "JPEG 92, true times", "sound": "FLAC, true time",
     "processes": "one decoder, kept; tar, hash, table"},
    {"name": "stage, fast", "pictures": "JPEG 92, true times of the last picture that others refer to",
     "sound": "FLAC, true time", "processes": "as stage"},
    {"name": "one ffmpeg", "pictures": "JPEG q 2 files", "sound": "WAV file", "processes": "1 a clip"},
    {"name": "two ffmpeg", "pictures": "JPEG q 2 files", "sound": "WAV file", "processes": "2 a clip"},
    {"name": "CLIPSep's scripts", "pictures": "JPEG files, written twice", "sound": "WAV file",
     "processes": "2 a clip, then Pillow"},
    {"name": "video2dataset", "pictures": "none: an MP4 of 1 picture a second", "sound": "WAV file",
     "processes": "3 a clip; its ffprobe and tar left out"},
    {"name": "video2dataset, exact cut", "pictures": "none: an MP4 of 1 picture a second", "sound": "WAV file",
     "processes": "5 a clip; its ffprobe and tar left out"},
]  # fmt: skip


def one_process(source: Path, folder: Path, seconds: float) -> Commands:
    """One open, two outputs."""
    outputs = ["-map", "0:v:0", "-vf", SQUARE, "-q:v", "2", "-t", f"{seconds:g}", f"{folder}/%03d.jpg"]
    outputs += ["-map", "0:a:0", "-ac", "1", "-ar", "16000", "-t", f"{seconds:g}", f"{folder}/sound.wav"]
    return [["-threads", "1", "-i", str(source), *outputs]]


def two_processes(source: Path, folder: Path, seconds: float) -> Commands:
    """One for the pictures, one for the sound."""
    begin = ["-threads", "1", "-t", f"{seconds:g}", "-i", str(source)]
    return [
        [*begin, "-an", "-vf", SQUARE, "-q:v", "2", f"{folder}/%03d.jpg"],
        [*begin, "-vn", "-ac", "1", "-ar", "16000", f"{folder}/sound.wav"],
    ]


def clipsep_scripts(source: Path, folder: Path, seconds: float) -> Commands:
    """CLIPSep's preprocessing: FFmpeg once a product; its Python then resizes and writes every picture again."""
    begin = ["-t", f"{seconds:g}", "-i", str(source)]
    return [
        [*begin, "-ac", "1", "-ar", "16000", f"{folder}/sound.wav"],
        [*begin, "-r", "1", f"{folder}/%06d.jpg"],
    ]


def shrink_pictures(folder: Path) -> None:
    """The second half of CLIPSep's preprocessing: read every picture, short side to 224, centre, write it."""
    for path in folder.glob("*.jpg"):
        with Image.open(path) as picture:
            scale = 224 / min(picture.size)
            resized = picture.convert("RGB").resize(
                (max(224, round(picture.width * scale)), max(224, round(picture.height * scale))),
                Image.Resampling.BICUBIC,
            )
        left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
        resized.crop((left, top, left + 224, top + 224)).save(path, quality=92)


def video2dataset(picture: Path, sound: Path, folder: Path, seconds: float, *, cut: bool) -> Commands:
    """What video2dataset builds with ffmpeg-python: a process a step, a file between any two.

    Rebuilt from its sources, each in the newest version at hand: the order of steps from its download worker (133f6f7;
    the same in all versions), clipping 8ed5074 with `precision: exact`, resolution 9ee7152 with `scale` and `crop`,
    frames 50fc2a8 at 1 a second, audio rate 0f18b90 with one channel. The streams come to it as files of their own.

    Args:
        picture, sound: One clip each, of this length.
        folder: Where files are left.
        seconds: The clip's length.
        cut: Whether it is told to cut the clip out, as it is wherever a list names times.
    """
    if not cut:
        whole_picture, whole_sound, steps = str(picture), str(sound), []
    else:
        whole_picture, whole_sound = f"{folder}/clip_0.mp4", f"{folder}/clip_0.m4a"
        times = f"{seconds}"
        options = ["-f", "segment", "-force_key_frames", times, "-map", "0", "-reset_timestamps", "1"]
        options += ["-segment_times", times]
        steps = [
            ["-i", str(picture), *options, f"{folder}/clip_%d.mp4"],
            ["-i", str(sound), *options, f"{folder}/clip_%d.m4a"],
        ]
    return [
        *steps,
        ["-i", whole_picture, "-filter_complex", "[0]scale=-2:224[s0];[s0]crop=h=224:w=224[s1]",
         "-map", "[s1]", "-reset_timestamps", "1", f"{folder}/small.mp4"],
        ["-i", f"{folder}/small.mp4", "-filter_complex", "[0]fps=fps=1[s0]", "-map", "[s0]",
         "-reset_timestamps", "1", f"{folder}/slow.mp4"],
        ["-i", whole_sound, "-ac", "1", "-ar", "16000", "-f", "wav", f"{folder}/sound.wav"],
    ]  # fmt: skip


def run(commands: Commands) -> None:
    """Run commands one after another.

    Raises:
        RuntimeError: One failed; says which, and FFmpeg's last line.
    """
    for arguments in commands:
        command = [ffmpeg_executable(), "-nostdin", "-loglevel", "error", "-y", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"ffmpeg {' '.join(arguments)}: {last[0]}")


def split_streams(source: Path, folder: Path, seconds: float) -> tuple[Path, Path]:
    """Picture and sound as two files of one clip, as a site serves them to video2dataset; not part of its time."""
    picture, sound = folder / f"{source.stem}.picture.mp4", folder / f"{source.stem}.sound.m4a"
    begin = ["-t", f"{seconds:g}", "-i", str(source)]
    codec = ["-c", "copy"] if _is_aac(source) else ["-c:a", "aac"]
    run([[*begin, "-map", "0:v:0", "-c", "copy", str(picture)], [*begin, "-map", "0:a:0", *codec, str(sound)]])
    return picture, sound


def told(build: Callable[..., Commands], *paths: Path, **options: bool) -> list[str]:
    """The commands of one clip, for people."""
    return ["ffmpeg " + " ".join(arguments) for arguments in build(*paths, Path("OUT"), 10.0, **options)]


def _is_aac(source: Path) -> bool:
    import av

    with av.open(str(source)) as container:
        return container.streams.audio[0].codec_context.name == "aac"
