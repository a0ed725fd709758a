"""The fetching process: a source that hangs, dies or never ends costs that source, and the next one is fetched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.media.site.hostile import EXTRACTORS, HostileSite
from vidaudio.media.fetch import fetcher as fetching
from vidaudio.media.fetch import pool
from vidaudio.media.fetch.fetcher import Fetcher, FetcherCannotStart, _WorkingTime
from vidaudio.media.fetch.messages import describe_fetched, read_fetched
from vidaudio.media.fetch.rate_limit import MemoryRateLimiter, RateLimiterUnreachable, Rates, SiteRate
from vidaudio.media.fetch.types import ClipSpan, Fetched, FetchOptions, Traffic
from vidaudio.media.outcomes import Outcome, Reason, State

OPTIONS = FetchOptions(extractors=EXTRACTORS, retries=0, allow_private_addresses=True, keep_whole=True)
HURRIED = replace(OPTIONS, deadline_seconds=3.0)
WHOLE = [ClipSpan("c", 0.0, None)]


@pytest.fixture(scope="module")
def site() -> Iterator[HostileSite]:
    with HostileSite() as site:
        yield site


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    """One for all tests: whatever a test has done to it, the next one's source is fetched."""
    with Fetcher() as one:
        yield one


def fetch(fetcher: Fetcher, url: str, folder: Path, options: FetchOptions = OPTIONS, **told: object) -> Fetched:
    (clip,) = fetcher.fetch(url, WHOLE, folder, options, **told)
    return clip


def assert_next_is_fetched(fetcher: Fetcher, site: HostileSite, folder: Path) -> None:
    """Nothing is left of the source before, and another is fetched."""
    assert not list(folder.iterdir())
    clip = fetch(fetcher, site.url("a.mp4"), folder)
    assert clip.outcome.state is State.DONE, clip.outcome
    assert clip.path == folder / "c.mp4"
    assert clip.size_bytes == clip.path.stat().st_size
    assert os.listdir(folder) == ["c.mp4"]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(*pids: int) -> None:
    patience = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def wait_for(path: Path) -> str:
    patience = time.monotonic() + 120
    while not (path.exists() and path.read_text()) and time.monotonic() < patience:
        time.sleep(0.02)
    return path.read_text()


# --- sources without measure -----------------------------------------------------------------------------------------

PAGE = "a page or manifest of more than 64 MiB"
SOURCE = "download.max_source_gib"


@pytest.mark.parametrize(
    ("path", "reason", "told"),
    [
        ("endless.html", Reason.TOO_LARGE, PAGE),
        ("endless.m3u8", Reason.TOO_LARGE, PAGE),
        ("endless.mpd", Reason.TOO_LARGE, PAGE),
        ("mpd/endless.mpd", Reason.TOO_LARGE, PAGE),
        ("m3u8/endless.m3u8", Reason.TOO_LARGE, PAGE),
        ("json/endless.json", Reason.TOO_LARGE, PAGE),
        ("endless-redirect", Reason.TOO_LARGE, PAGE),
        ("bomb.html", Reason.TOO_LARGE, PAGE),
        ("endless.mp4", Reason.TOO_LARGE, SOURCE),
        ("huge.mp4", Reason.TOO_LARGE, SOURCE),
        ("mpd/wide.mpd", Reason.MEMORY, "0.5 GiB of memory to be fetched; download.memory_gib"),
        ("deed/memory", Reason.MEMORY, "0.5 GiB of memory to be fetched; download.memory_gib"),
    ],
)
def test_a_source_without_measure_is_ended_and_says_which_limit_it_met(
    fetcher: Fetcher, site: HostileSite, tmp_path: Path, path: str, reason: Reason, told: str
):
    options = replace(OPTIONS, max_source_gib=0.25, memory_gib=0.5)
    site.requests.clear()
    traffic = Traffic()
    clip = fetch(fetcher, site.url(path), tmp_path, options, traffic=traffic)
    assert (clip.outcome.state, clip.outcome.reason) == (State.FAILED, reason), clip.outcome
    assert told in clip.outcome.message
    assert sum(traffic.requests.values()) == site.requests.total() > 0
    assert_next_is_fetched(fetcher, site, tmp_path)


@pytest.mark.parametrize("path", ["script.html", "deed/search", "deed/sleep"])
def test_a_source_that_is_never_done_is_ended_at_its_deadline(
    fetcher: Fetcher, site: HostileSite, tmp_path: Path, path: str
):
    traffic = Traffic()
    clip = fetch(fetcher, site.url(path), tmp_path, HURRIED, traffic=traffic)
    assert clip.outcome == Outcome.failed(Reason.TIMEOUT, "not fetched within 3 s")
    assert clip.outcome.transient
    assert sum(traffic.requests.values()) > 0
    assert fetcher._process is None
    assert_next_is_fetched(fetcher, site, tmp_path)


def test_programs_that_a_fetch_has_started_end_with_it(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    out = tmp_path / "out"
    url = site.url(f"deed/program?pid={tmp_path / 'pid'}")
    assert fetch(fetcher, url, out, HURRIED).outcome.reason is Reason.TIMEOUT
    wait_until_gone(int((tmp_path / "pid").read_text()))
    assert_next_is_fetched(fetcher, site, out)


def test_the_kernel_holds_the_limits(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    if not Path("/proc/self/limits").exists():
        pytest.skip("needs /proc")
    fetch(fetcher, site.url("a.mp4"), tmp_path, replace(OPTIONS, memory_gib=1.5, max_source_gib=4.0))
    proc = Path("/proc", str(fetcher._process.pid))
    rows = [line.split() for line in (proc / "limits").read_text().splitlines()]
    soft = {" ".join(row[1 : -3 if len(row) > 4 else -2]): row[-3] for row in rows}
    assert soft["data size"] == str(3 << 29)
    assert soft["file size"] == str(5 << 30)
    assert soft["core file size"] == "0"
    assert 1800 < int(soft["cpu time"]) < 1900
    assert (proc / "oom_score_adj").read_text().strip() == "1000"


def test_a_parent_that_holds_much_memory_keeps_its_process(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    fetcher.close()
    much = b"x" * (400 << 20)
    options = replace(OPTIONS, memory_gib=0.5)
    pids = set()
    for _ in range(2):
        assert fetch(fetcher, site.url("a.mp4"), tmp_path, options).outcome.state is State.DONE
        pids.add(fetcher._process.pid)
    del much
    assert len(pids) == 1


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_a_death_costs_a_source_only_where_it_happens_again(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    out = tmp_path / "out"
    traffic = Traffic()
    url = site.url(f"deed/die?signal={signal.SIGSEGV.value}")
    assert fetch(fetcher, url, out, traffic=traffic).outcome == Outcome.failed(
        Reason.CRASH, f"the fetching process ended with signal {signal.SIGSEGV.value}"
    )
    assert sum(traffic.requests.values()) == 2, "two tries, a page each"
    assert_next_is_fetched(fetcher, site, out)
    again = fetch(fetcher, f"{url}&once={tmp_path / 'once'}", out)
    assert again.outcome.state is State.DONE


def test_a_process_that_the_system_kills_may_have_met_a_shortage_of_memory(
    fetcher: Fetcher, site: HostileSite, tmp_path: Path
):
    outcome = fetch(fetcher, site.url(f"deed/die?signal={signal.SIGKILL.value}"), tmp_path).outcome
    assert (outcome.reason, outcome.transient) == (Reason.MEMORY, True)
    assert "signal 9" in outcome.message
    assert_next_is_fetched(fetcher, site, tmp_path)


def test_what_is_printed_is_no_answer(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    assert fetch(fetcher, site.url("deed/print"), tmp_path).outcome.state is State.DONE


def test_a_busy_process_and_its_programs_end_with_the_parent(site: HostileSite, tmp_path: Path):
    # A regular expression holds the interpreter's lock: no thread of the process can watch for the parent.
    parent = f"""
import sys
sys.path[:] = {sys.path!r}
from pathlib import Path
import threading
from vidaudio.media.fetch.fetcher import Fetcher
from vidaudio.media.fetch.types import ClipSpan, FetchOptions
options = FetchOptions(extractors={EXTRACTORS!r}, allow_private_addresses=True)
one = Fetcher()
url = {site.url(f"deed/program?pid={tmp_path / 'pid'}")!r}
spans = [ClipSpan("c", 0.0, None)]
threading.Thread(target=one.fetch, args=(url, spans, Path({str(tmp_path / "out")!r}), options)).start()
while one._process is None:
    pass
print(one._process.pid, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        program = int(wait_for(tmp_path / "pid"))
        process.kill()
    wait_until_gone(child, program)


def test_a_process_that_does_not_start_is_nobodys_outcome(
    site: HostileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "CHILD", "raise SystemExit('no such module')")
    with Fetcher() as broken, pytest.raises(FetcherCannotStart, match="no such module"):
        fetch(broken, site.url("a.mp4"), tmp_path)
    assert not list(tmp_path.iterdir())


# --- the parent's part -----------------------------------------------------------------------------------------------


def test_waiting_for_the_rate_limit_is_not_the_sources_time(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    slow = MemoryRateLimiter(Rates(SiteRate(minimum_interval_seconds=12.0)))
    traffic = Traffic()
    # The page and the file: of the time between them the deadline and the grace allow less than is waited.
    options = replace(OPTIONS, deadline_seconds=6.0)
    clip = fetch(fetcher, site.url("a.mp4"), tmp_path, options, rate_limiter=slow, traffic=traffic)
    assert clip.outcome.state is State.DONE, clip.outcome
    assert traffic.waited_seconds > 8.0
    assert sum(traffic.requests.values()) == 2


def test_a_fetch_can_be_stopped_while_it_waits(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    rate_limiter, stop = MemoryRateLimiter(Rates(SiteRate(minimum_interval_seconds=600))), threading.Event()
    rate_limiter.try_acquire(site.url("").split("/")[2])
    threading.Timer(0.5, stop.set).start()
    clip = fetch(fetcher, site.url("a.mp4"), tmp_path, rate_limiter=rate_limiter, stop=stop)
    assert clip.outcome == Outcome.failed(Reason.UNKNOWN, "stopped from outside")


class _Failing(MemoryRateLimiter):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def try_acquire(self, site: str) -> float:
        raise self.error


def test_a_budget_that_fails_is_not_the_sources_fault(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    site.requests.clear()
    lost = RateLimiterUnreachable("the scheduler is gone")
    with pytest.raises(RateLimiterUnreachable) as raised:
        fetch(fetcher, site.url("a.mp4"), tmp_path, rate_limiter=_Failing(lost))
    assert raised.value is lost
    full = fetch(fetcher, site.url("a.mp4"), tmp_path, rate_limiter=_Failing(OSError(28, "No space left on device")))
    assert full.outcome.reason is Reason.DISK
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is no outcome
        fetch(fetcher, site.url("a.mp4"), tmp_path, rate_limiter=_Failing(ZeroDivisionError()))
    assert not site.requests
    assert_next_is_fetched(fetcher, site, tmp_path)


def test_options_that_nobody_takes_are_errors_here(fetcher: Fetcher, site: HostileSite, tmp_path: Path):
    with pytest.raises(ImportError, match="No module named"):
        fetch(fetcher, site.url("a.mp4"), tmp_path, replace(OPTIONS, extractors=("no.such:Thing",)))
    with pytest.raises(ValueError, match="same id"):
        fetcher.fetch(site.url("a.mp4"), WHOLE * 2, tmp_path, OPTIONS)


def test_the_process_has_the_environment_and_the_folder_of_now(
    fetcher: Fetcher, site: HostileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    assert fetch(fetcher, site.url("a.mp4"), out).outcome.state is State.DONE
    pid = fetcher._process.pid
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch(fetcher, site.url("a.mp4"), out).outcome.reason is Reason.NETWORK
    assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
    monkeypatch.delenv("http_proxy")
    assert fetch(fetcher, site.url("a.mp4"), out).outcome.state is State.DONE
    assert fetcher._process.pid == pid, "one process serves source after source"


def test_the_clock_stands_still_while_any_thread_waits(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(fetching.time, "monotonic", lambda: now)
    clock = _WorkingTime(10.0)
    now = 4.0
    clock.note(1, waits=True)
    now = 30.0
    clock.note(2, waits=True)
    now = 50.0
    clock.note(1, waits=False)
    now = 60.0
    assert clock.deadline() == 120.0, "it waits, and must ask again soon"
    clock.note(2, waits=False)
    assert (clock.waited_seconds, clock.deadline()) == (56.0, 66.0)
    now = 65.0
    clock.note(3, waits=False)
    assert clock.deadline() == 66.0


@pytest.mark.parametrize(
    "clip",
    [
        Fetched("a", Outcome.failed(Reason.CRASH, "half a \ud83d pair")),
        Fetched("b", Outcome.done(), Path("/x/b.mp4"), True, 0.1 + 0.2, 1 << 40, "ab", {"title": "\0\u202e\udc80"}),
        Fetched("c", Outcome.dropped(Reason.TOO_SHORT, "x" * 300_000), info={"duration": 1e-17}),
    ],
)
def test_a_record_comes_through_the_pipe_as_it_was(clip: Fetched):
    import json

    assert read_fetched(json.loads(json.dumps(describe_fetched(clip)).encode())) == clip


# --- the pool --------------------------------------------------------------------------------------------------------


def test_a_process_is_kept_for_the_next_source_and_ends_when_none_comes(
    site: HostileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pool.close_idle()
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    before = set(psutil.Process().children())
    local = tmp_path / "local.mp4"
    local.write_bytes(b"x")
    pool.fetch_in_process(str(local), WHOLE, tmp_path / "out", OPTIONS)
    assert set(psutil.Process().children()) == before, "a file of this machine needs no process"
    monkeypatch.setattr(pool, "IDLE_SECONDS", 3600.0)
    pids = []
    for _ in range(2):
        pool.fetch_in_process(site.url("a.mp4"), WHOLE, tmp_path / "out", OPTIONS)
        pids.append([process.pid for process in set(psutil.Process().children()) - before])
    assert len(pids[0]) == 1
    assert pids[0] == pids[1]
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    pool._timer.cancel()
    pool._timer.join()
    pool.fetch_in_process(site.url("a.mp4"), WHOLE, tmp_path / "out", OPTIONS)
    wait_until_gone(*pids[0])
