"""The decoder's process: what it hands over decodes back, and when it dies or hangs it costs one clip and no more."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile
from PIL import Image

from tests.media.rendered import AAC, H264, OPUS, PCM, picture_seconds, render
from vidaudio.media.decode import extractor as extract
from vidaudio.media.decode.byte_range_file import FilePart
from vidaudio.media.decode.clip import DecodeOptions, decode_clip
from vidaudio.media.decode.extractor import ExtractOptions, Extractor, MediaSpan
from vidaudio.media.outcomes import Outcome, Reason, State


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extract")
    render(folder / "good.mp4", **H264, **AAC)
    render(folder / "good.mkv", **H264, **OPUS)
    render(folder / "good.ts", **H264, **AAC)
    render(folder / "silent.mkv", with_sound=True, **H264, acodec="pcm_s16le", af="volume=0")
    # Long enough to be caught in the middle of it, whatever the machine.
    render(folder / "long.mp4", seconds=60, fps=30, size=(640, 480), **H264 | {"g": 250}, **AAC)
    return folder


@pytest.fixture
def extractor():
    with Extractor() as one:
        yield one


def pid_of(extractor: Extractor) -> int:
    assert extractor._process is not None
    return extractor._process.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def whole(path: Path, start: float = 0.0, end: float | None = None) -> MediaSpan:
    return MediaSpan(path, start, end)


def test_parts_decode_back(media: Path, extractor: Extractor):
    for start, end in ((0.0, None), (1.3, 4.9)):
        done = extractor.extract(whole(media / "good.mp4", start, end))
        clip = decode_clip(str(media / "good.mp4"), start, end, DecodeOptions())
        assert done.outcome == Outcome.done()
        samples, rate = soundfile.read(io.BytesIO(done.parts["flac"]), dtype="int16")
        assert rate == 16_000
        np.testing.assert_array_equal(samples, clip.samples)
        assert list(done.parts) == ["flac", *(f"{n:03d}.jpg" for n in range(len(clip.images)))]
        for number, image in enumerate(clip.images):
            picture = Image.open(io.BytesIO(done.parts[f"{number:03d}.jpg"]))
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (224, 224))
            assert np.abs(np.asarray(picture).astype(int) - image).mean() < 3
            told = picture_seconds(np.asarray(picture))
            assert told == pytest.approx(start + done.facts["frame_seconds"][number], abs=0.02)
        assert done.facts["samples"] == len(clip.samples)
        assert done.facts["seconds"] == pytest.approx(len(clip.samples) / 16_000)
        assert done.facts["grid_seconds"] == clip.grid_seconds
        assert len(done.facts["frame_seconds"]) == len(clip.images)
        level = 10 * math.log10(np.mean((clip.samples / 32768.0) ** 2))
        assert done.facts["rms_dbfs"] == pytest.approx(level, abs=0.01)


def test_facts_are_numbers_even_of_silence(media: Path, extractor: Extractor):
    for name in ("good.mp4", "silent.mkv"):
        facts = extractor.extract(whole(media / name)).facts
        json.dumps(facts, allow_nan=False)
    assert facts["rms_dbfs"] == -120.0


def test_the_same_bytes_every_time_and_in_every_process(media: Path):
    results = []
    for _ in range(2):
        with Extractor() as one:
            results += [one.extract(whole(media / "good.mkv", 0.7, 5.2)) for _ in range(2)]
    assert all(result == results[0] for result in results)
    assert results[0].outcome.state is State.DONE


@pytest.mark.parametrize("name", ["good.mp4", "good.mkv", "good.ts"])
def test_a_member_of_a_tar_is_as_good_as_a_file(media: Path, tmp_path: Path, extractor: Extractor, name: str):
    archive = tmp_path / "shard.tar"
    with tarfile.open(archive, "w") as tar:
        for member in ("good.mkv", name, "good.ts"):
            tar.add(media / member, arcname=f"{member}.{tar.offset}")
    with tarfile.open(archive) as tar:
        member = tar.getmembers()[1]
    for start, end in ((0.0, None), (2.6, 5.5)):
        inside = extractor.extract(MediaSpan(archive, start, end, member.offset_data, member.size))
        outside = extractor.extract(whole(media / name, start, end))
        assert inside.outcome.state is State.DONE
        assert inside == outside


def test_a_part_that_reaches_beyond_its_file_ends_there(media: Path, extractor: Extractor):
    size = (media / "good.mkv").stat().st_size
    longer = extractor.extract(MediaSpan(media / "good.mkv", 0.0, None, 0, size + 5000))
    assert longer.outcome.state is State.DONE
    nothing = extractor.extract(MediaSpan(media / "good.mkv", 0.0, None, size + 10, 5000))
    assert nothing.outcome.reason is Reason.CORRUPT


def test_one_process_serves_clip_after_clip(media: Path, tmp_path: Path, extractor: Extractor):
    extractor.extract(whole(media / "good.mp4"))
    pid = pid_of(extractor)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    assert extractor.extract(whole(broken)).outcome.reason is Reason.CORRUPT
    assert extractor.extract(whole(tmp_path / "gone.mp4")).outcome == Outcome.failed(
        Reason.NOT_FOUND, "cannot be opened: No such file or directory"
    )
    assert extractor.extract(whole(media / "good.mp4", 1.0, 2.0)).outcome.reason is Reason.TOO_SHORT
    assert extractor.extract(whole(media / "good.mp4")).outcome.state is State.DONE
    assert pid_of(extractor) == pid


def test_a_disk_that_fails_is_not_the_clips_fault(media: Path, extractor: Extractor):
    # A folder opens like a file and then cannot be read.
    result = extractor.extract(whole(media))
    assert (result.outcome.state, result.outcome.reason) == (State.FAILED, Reason.DISK)
    assert result.outcome.transient


def test_closing_ends_the_process(media: Path):
    extractor = Extractor()
    extractor.close()
    assert extractor.extract(whole(media / "good.mp4")).outcome.state is State.DONE
    pid = pid_of(extractor)
    assert is_alive(pid)
    extractor.close()
    assert not is_alive(pid)
    assert extractor.extract(whole(media / "good.mp4")).outcome.state is State.DONE, "it can be used again"
    assert pid_of(extractor) != pid
    extractor.close()


class Killer(threading.Thread):
    """Sends SIGKILL to an extractor's process, each new one, once it is busy; so many of them."""

    def __init__(self, extractor: Extractor, kills: int) -> None:
        super().__init__(daemon=True)
        self.extractor, self.kills = extractor, kills
        self.killed: list[int] = []
        self.done = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.kills and not self.done.is_set():
            process = self.extractor._process
            if process is not None and process.pid not in self.killed and self._busy(process.pid):
                os.kill(process.pid, signal.SIGKILL)
                self.killed.append(process.pid)
            time.sleep(0.002)

    @staticmethod
    def _busy(pid: int) -> bool:
        # The clip is open: the process reads it. It would take a second or more to finish.
        try:
            return any("long.mp4" in os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))
        except OSError:
            return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see the clip being read")
@pytest.mark.parametrize("kills", [1, 2, 3])
def test_a_clip_is_failed_once_its_own_process_has_died_on_it_alone_twice(
    media: Path, extractor: Extractor, kills: int
):
    before = extractor.extract(whole(media / "good.mp4"))
    killer = Killer(extractor, kills)
    killer.start()
    result = extractor.extract(whole(media / "long.mp4"))
    killer.done.set()
    killer.join()
    assert len(killer.killed) == kills
    assert not any(is_alive(pid) for pid in killer.killed)
    if kills < 3:  # the first of them had decoded another clip before: that death says nothing against this one
        assert result.outcome.state is State.DONE
        assert len(result.facts["frame_seconds"]) == 60
        assert extractor._process is None, "what a suspect has been in is not used again"
    else:
        assert result.outcome == Outcome.failed(Reason.CRASH, "the decoder ended with signal 9")
        assert result.parts == {}
    assert extractor.extract(whole(media / "good.mp4")) == before


def with_child(monkeypatch: pytest.MonkeyPatch, prelude: str) -> None:
    """Let the decoder's process begin with `prelude`."""
    monkeypatch.setattr(
        extract, "CHILD", f"import sys; sys.path.append({extract.PACKAGES!r})\n{prelude}\n" + extract.CHILD
    )


def test_a_clip_that_takes_too_long(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Extractor() as patient:
        expected = patient.extract(whole(media / "good.mp4"))
    hang = "c.run_job = lambda job: time.sleep(1000) if 'hang' in job['path'] else plain(job)"
    with_child(monkeypatch, f"import time, vidaudio.media.decode.worker as c\nplain = c.run_job\n{hang}")
    with Extractor(ExtractOptions(deadline_seconds=0.5)) as extractor:
        result = extractor.extract(whole(tmp_path / "hang.mp4"))
        assert result.outcome == Outcome.failed(Reason.TIMEOUT, "not decoded within 0.5 s")
        assert result.outcome.transient
        assert extractor._process is None, "what hung is gone"
        # The deadline was for this test's patience; the next clip may take what it takes.
        extractor.options = ExtractOptions()
        assert extractor.extract(whole(media / "good.mp4")) == expected


NOISE = """
import ctypes, os, sys
import vidaudio.media.decode.worker as child
plain = child.decode_clip
libc = ctypes.CDLL(None)
def noisy(*arguments):
    print('{"state": "done", "parts": []}')
    print("to stderr", file=sys.stderr)
    libc.puts(b'{"state": "done", "parts": []}')
    libc.fflush(None)
    os.write(1, b'{"state": "done", "parts": []}\\n')
    os.write(2, b"x" * 200_000)
    return plain(*arguments)
child.decode_clip = noisy
"""


def test_noise_is_no_message(media: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch):
    expected = [extractor.extract(whole(media / name)) for name in ("good.mp4", "good.mkv")]
    with_child(monkeypatch, NOISE)
    with Extractor() as noisy:
        assert [noisy.extract(whole(media / name)) for name in ("good.mp4", "good.mkv")] == expected


@pytest.mark.parametrize(
    ("prelude", "reason"),
    [
        ("import os, vidaudio.media.decode.worker as c\nc.decode_clip = lambda *a: os._exit(3)", Reason.CRASH),
        ("import os, vidaudio.media.decode.worker as c\nc.decode_clip = lambda *a: os.abort()", Reason.CRASH),
        (
            "import ctypes, vidaudio.media.decode.worker as c\nc.decode_clip = lambda *a: ctypes.string_at(0)",
            Reason.CRASH,
        ),
        ("import sys\nsys.exit('cannot start')", Reason.CRASH),
        ("import vidaudio.media.decode.worker as c\nc.encode_clip = lambda *a: 1 / 0", Reason.UNKNOWN),
        ("import vidaudio.media.decode.worker as c\nc.encode_clip = lambda *a: bytearray(1 << 62)", Reason.CRASH),
    ],
    ids=["exit", "abort", "segfault", "start", "mistake", "memory"],
)
def test_every_death_is_an_outcome(media: Path, monkeypatch: pytest.MonkeyPatch, prelude: str, reason: Reason):
    with_child(monkeypatch, prelude)
    with Extractor() as dying:
        for _ in range(2):
            outcome = dying.extract(whole(media / "good.mp4")).outcome
            assert (outcome.state, outcome.reason) == (State.FAILED, reason)
            assert outcome.message


def test_a_death_between_header_and_parts(media: Path, monkeypatch: pytest.MonkeyPatch):
    with_child(
        monkeypatch,
        "import os, sys\nsys.stdin.readline()\n"
        'os.write(1, b\'{"state": "done", "facts": {}, "parts": [["flac", 100]]}\\nabc\')\nos._exit(0)',
    )
    with Extractor() as dying:
        assert dying.extract(whole(media / "good.mp4")).outcome == Outcome.failed(
            Reason.CRASH, "the decoder ended with exit code 0"
        )


@pytest.mark.parametrize("garbage", [b"not json\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b"\n"])
def test_garbage_for_a_job_ends_the_process_and_no_clip_gets_its_answer(
    media: Path, extractor: Extractor, garbage: bytes
):
    expected = extractor.extract(whole(media / "good.mp4"))
    process = extractor._process
    process.stdin.write(garbage)
    process.stdin.flush()
    assert extractor.extract(whole(media / "good.mp4")) == expected
    assert extractor._process is not process
    assert process.returncode not in (0, None)


def test_a_child_without_a_parent_ends(media: Path):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", extract.CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child.stdin.close()
    assert child.wait(timeout=60) == 0
    child.stdout.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see the clip being read")
def test_a_busy_child_ends_with_its_parent(media: Path, tmp_path: Path):
    # The pipe stays open, here: it is the parent's death itself that ends the child, not the end of its input.
    prelude = (
        f"import sys; sys.path.append({extract.PACKAGES!r})\nimport time, vidaudio.media.decode.worker as c\n"
        f"c.decode_clip = lambda *a: (open({str(tmp_path / 'busy')!r}, 'w').close(), time.sleep(1000))\n"
    )
    parent = f"""
import subprocess, sys, time
from pathlib import Path
from vidaudio.media.decode import extractor as extract
extract.CHILD = {prelude!r} + extract.CHILD
one = extract.Extractor()
import threading
threading.Thread(target=one.extract, args=(extract.MediaSpan(Path({str(media / "good.mp4")!r}), 0.0, None),)).start()
while not Path({str(tmp_path / "busy")!r}).exists():
    time.sleep(0.01)
print(one._process.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Unlike `is_alive`, not of one that has ended and that nobody has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def claiming(path: Path, side: int) -> Path:
    """A video of tiny PNG pictures, the header of each claiming `side` x `side` pixels."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("png", rate=1)
        video.width = video.height = 64
        video.pix_fmt = "rgb24"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for second in range(4):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * second, np.uint8))
            picture.pts = second
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), layout="mono")
            sound.rate, sound.pts = 16_000, 16_000 * second
            container.mux([*video.encode(picture), *audio.encode(sound)])
        container.mux([*video.encode(), *audio.encode()])
    data = bytearray(path.read_bytes())
    place = data.find(b"IHDR")
    while place >= 0:
        data[place + 4 : place + 12] = struct.pack(">II", side, side)
        data[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(data[place : place + 17]))
        place = data.find(b"IHDR", place + 1)
    path.write_bytes(data)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not hold to the limit")
def test_a_decoder_bomb_costs_its_clip_and_not_the_process(media: Path, tmp_path: Path):
    with Extractor(ExtractOptions(memory_gib=0.6)) as one:
        before = one.extract(whole(media / "good.mp4"))
        pid = pid_of(one)
        bomb = one.extract(whole(claiming(tmp_path / "bomb.mov", 16_000)))
        assert bomb.outcome == Outcome.failed(Reason.CRASH, "wants more than 0.6 GiB of memory to be decoded")
        # So large that the decoder does not even try.
        assert one.extract(whole(claiming(tmp_path / "lie.mov", 30_000))).outcome.reason is Reason.CORRUPT
        assert one.extract(whole(media / "good.mp4")) == before
        assert pid_of(one) == pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads the limits from /proc")
def test_limits_are_the_kernels_to_enforce(media: Path, extractor: Extractor):
    extractor.extract(whole(media / "good.mp4"))
    proc = Path("/proc") / str(pid_of(extractor))
    rows = [line.split() for line in (proc / "limits").read_text().splitlines()]
    soft = {" ".join(row[1 : -3 if len(row) > 4 else -2]): row[-3] for row in rows}
    assert soft["core file size"] == "0"
    assert soft["address space"] == str(4 << 30)
    assert 120 < int(soft["cpu time"]) < 150
    assert (proc / "oom_score_adj").read_text().strip() == "1000"


def test_a_hanging_child_without_a_parent_is_ended_by_its_own_alarm(media: Path):
    prelude = (
        f"import sys; sys.path.append({extract.PACKAGES!r})\nimport time, vidaudio.media.decode.worker as c\n"
        "c.ORPHAN_SECONDS = 0.2\nc.decode_clip = lambda *a: time.sleep(1000)\n"
    )
    job = {"path": str(media / "good.mp4"), "offset": 0, "length": None, "start_seconds": 0, "end_seconds": None}
    job |= {"options": {}, "jpeg_quality": 92, "deadline_seconds": 0.2, "memory_gib": 4.0}
    child = subprocess.run(
        [sys.executable, "-P", "-c", prelude + extract.CHILD],
        input=json.dumps(job).encode() + b"\n",
        capture_output=True,
        timeout=60,
    )
    assert child.returncode == -signal.SIGALRM


def test_modules_in_the_working_folder_are_not_the_childs(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("av", "json", "random", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    with Extractor() as one:
        assert one.extract(whole(media / "good.mp4")).outcome.state is State.DONE


def test_options_reach_the_decoder(media: Path):
    options = ExtractOptions(frame_size=96, frames_per_second=2, sample_rate=8_000, min_seconds=5.0, jpeg_quality=30)
    with Extractor(options) as one:
        done = one.extract(whole(media / "good.mp4"))
        assert len(done.facts["frame_seconds"]) == 12
        assert done.facts["sample_rate"] == soundfile.info(io.BytesIO(done.parts["flac"])).samplerate == 8_000
        assert Image.open(io.BytesIO(done.parts["000.jpg"])).size == (96, 96)
        assert one.extract(whole(media / "good.mp4", 2.0)).outcome.reason is Reason.TOO_SHORT


def test_file_part_is_a_file(tmp_path: Path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    with FilePart(tmp_path / "f", 10, 20) as part:
        assert part.readable()
        assert part.seekable()
        assert part.read() == bytes(range(10, 30))
        assert part.read() == b""
        assert part.seek(-5, os.SEEK_END) == 15
        assert part.read(3) == bytes([25, 26, 27])
        assert part.tell() == 18
        assert part.seek(-2, os.SEEK_CUR) == 16
        assert part.seek(-99) == 0
        buffer = bytearray(8)
        assert part.readinto(buffer) == 8
        assert buffer == bytes(range(10, 18))
        assert part.seek(500) == 500
        assert part.read(10) == b""
    assert part.closed
    with FilePart(tmp_path / "f", 90) as rest:
        assert rest.read() == bytes(range(90, 100))


def test_pcm_sound_at_the_wanted_rate_is_kept_bit_for_bit(tmp_path: Path, extractor: Extractor):
    path = render(tmp_path / "a.mkv", seconds=3, fps=5, sample_rate=16_000, **H264, **PCM)
    original, _ = soundfile.read(tmp_path / "a.mkv.wav", dtype="int16")
    samples, _ = soundfile.read(io.BytesIO(extractor.extract(whole(path)).parts["flac"]), dtype="int16")
    np.testing.assert_array_equal(samples, original)
