"""Videos with flashes and beeps at known times: what is seen and what is heard, apart by a known offset."""

from __future__ import annotations

from pathlib import Path

import ffmpeg

from vidaudio.media.ffmpeg import run_ffmpeg

EVENT_SECONDS = 0.08


def render_flashes(
    path: Path,
    times: tuple[float, ...],
    *,
    seconds: float = 6.0,
    sound_late_seconds: float = 0.0,
    rate: int = 25,
    codec: str = "libx264",
) -> Path:
    """A grey picture that flashes white at each of `times`, and a beep for each, later by `sound_late_seconds`."""
    flashes = "+".join(f"between(t,{time - 1e-3},{time + EVENT_SECONDS - 1e-3})" for time in times)
    heard = [time + sound_late_seconds for time in times]
    beeps = "+".join(f"between(t,{time},{time + EVENT_SECONDS})" for time in heard)
    # Grain, as a camera has it: a picture that never changes costs an encoder nothing.
    picture = (
        ffmpeg.input(f"color=c=gray:size=160x120:rate={rate}", f="lavfi", t=seconds)
        .filter("noise", alls=4, allf="t", all_seed=1)
        .filter("drawbox", color="white", t="fill", enable=flashes)
    )
    sound = ffmpeg.input(f"aevalsrc='0.5*sin(2*PI*1000*t)*({beeps})':s=44100", f="lavfi", t=seconds)
    options = {"pix_fmt": "yuv420p", "acodec": "aac" if path.suffix == ".mp4" else "libopus", "vcodec": codec}
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(ffmpeg.output(picture, sound, str(path), threads=1, **options))
    return path
