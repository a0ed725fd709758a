"""Budgets: no hour sees more than its requests, a pause holds for everybody, and processes share one."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from vidaudio.media.fetch.rate_limit import (
    PROBE_SECONDS,
    FileRateLimiter,
    MemoryRateLimiter,
    Rates,
    SiteRate,
    SiteState,
    acquire,
    user_rate_folder,
)
from vidaudio.media.fetch.session import retry_after_seconds


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def granted(rate_limiter: MemoryRateLimiter, clock: Clock, site: str, seconds: float) -> list[float]:
    """When requests were granted to somebody who always wants one and comes back when told."""
    end, times = clock.now + seconds, []
    while clock.now < end:
        wait = rate_limiter.try_acquire(site)
        if not wait:
            times.append(clock.now)
        clock.now += wait
    return times


@pytest.mark.parametrize("rate", [SiteRate(requests_per_hour=250), SiteRate(requests_per_hour=36, jitter_seconds=30)])
def test_no_hour_sees_more_requests_than_its_budget(rate: SiteRate):
    clock = Clock()
    times = granted(MemoryRateLimiter(Rates(rate), clock=clock), clock, "s", 3 * 3600)
    for start in times:
        assert sum(start <= t < start + 3600 - 1e-3 for t in times) <= rate.requests_per_hour
    assert min(b - a for a, b in pairwise(times)) >= rate.interval_seconds - 1e-6
    if not rate.jitter_seconds:
        assert len(times) == pytest.approx(3 * rate.requests_per_hour, abs=2)


def test_intervals_are_spread_by_the_jitter_and_never_shorter():
    clock = Clock()
    rates = Rates(SiteRate(minimum_interval_seconds=2.0, jitter_seconds=3.0))
    gaps = [b - a for a, b in pairwise(granted(MemoryRateLimiter(rates, clock=clock), clock, "s", 2000))]
    assert 2.0 - 1e-6 <= min(gaps) < 2.3
    assert 4.7 < max(gaps) <= 5.0 + 1e-6


def test_sites_have_budgets_of_their_own():
    rates = Rates(SiteRate(), {"slow": SiteRate(minimum_interval_seconds=60)})
    rate_limiter = MemoryRateLimiter(rates, clock=Clock())
    assert [rate_limiter.try_acquire("fast"), rate_limiter.try_acquire("fast"), rate_limiter.try_acquire("slow")] == [
        0,
        0,
        0,
    ]
    assert rate_limiter.try_acquire("slow") == 60
    assert (rate_limiter.state("fast").spent, rate_limiter.state("slow").spent) == (2, 1)


def test_pauses_double_while_a_site_goes_on_refusing_and_end_with_an_answer():
    clock = Clock()
    rate_limiter = MemoryRateLimiter(Rates(SiteRate(first_pause_seconds=10, longest_pause_seconds=60)), clock=clock)
    pauses = []
    for _ in range(5):
        assert rate_limiter.try_acquire("s") == 0
        pauses.append(rate_limiter.report_throttled("s", None))
        assert rate_limiter.try_acquire("s") == pauses[-1]
        clock.now += pauses[-1]
    assert pauses == [10, 20, 40, 60, 60]
    assert rate_limiter.try_acquire("s") == 0
    rate_limiter.report_ok("s")
    assert (rate_limiter.try_acquire("s"), rate_limiter.report_throttled("s", None)) == (0, 10)


def test_several_refusals_of_one_moment_are_one():
    clock = Clock()
    rate_limiter = MemoryRateLimiter(clock=clock)
    assert [rate_limiter.try_acquire("s") for _ in range(4)] == [0] * 4
    assert [rate_limiter.report_throttled("s", None) for _ in range(4)] == [10] * 4


def test_retry_after_is_taken_at_its_word_up_to_the_longest_pause():
    clock = Clock()
    rate_limiter = MemoryRateLimiter(Rates(SiteRate(longest_pause_seconds=600)), clock=clock)
    assert rate_limiter.report_throttled("a", 90.0) == 90
    assert rate_limiter.report_throttled("b", 1e9) == 600
    assert rate_limiter.report_throttled("c", 0.0) == 0
    assert rate_limiter.report_throttled("c", 0.0) == 20, "a site that refuses again did not mean it"


def test_after_a_pause_one_request_asks_for_all():
    clock = Clock()
    rate_limiter = MemoryRateLimiter(clock=clock)
    rate_limiter.report_throttled("s", 5.0)
    clock.now += 5
    assert rate_limiter.try_acquire("s") == 0
    assert rate_limiter.try_acquire("s") > 0
    rate_limiter.report_ok("s")
    assert [rate_limiter.try_acquire("s"), rate_limiter.try_acquire("s")] == [0, 0]


def test_one_who_asks_and_gets_no_answer_lets_the_next_ask(tmp_path: Path):
    """A connection that breaks says nothing of the pause, and the others do not wait for it."""
    for rate_limiter in (MemoryRateLimiter(), FileRateLimiter(tmp_path)):
        rate_limiter.report_throttled("s", 0.0)
        assert rate_limiter.try_acquire("s") == 0
        assert rate_limiter.try_acquire("s") > 0
        rate_limiter.report_no_response("s")
        assert rate_limiter.try_acquire("s") == 0
        assert rate_limiter.state("s").refusals == 1, "nothing was learned"


def test_one_who_asks_and_dies_does_not_hold_the_others_for_ever():
    clock = Clock()
    rate_limiter = MemoryRateLimiter(clock=clock)
    rate_limiter.report_throttled("s", 5.0)
    clock.now += 5
    assert rate_limiter.try_acquire("s") == 0
    clock.now += PROBE_SECONDS
    assert rate_limiter.try_acquire("s") == 0


def test_a_clock_set_back_does_not_stop_everything():
    state = SiteState(next_at=9e9, paused_until=9e9)
    rate = SiteRate(minimum_interval_seconds=5, longest_pause_seconds=60)
    assert acquire(state, rate, 1e6, 0.5)[1] == 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("0", 0.0), ("-5", None), ("nan", None), ("inf", None), (None, None), ("", None), ("soon", None),
     ("nan days", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after_in_all_its_forms(header: str | None, seconds: float | None):
    assert retry_after_seconds(header) == seconds


def test_processes_share_a_folder_and_its_interval(tmp_path: Path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom vidaudio.media.fetch.rate_limit import *\n"
        "limiter = FileRateLimiter(Path(sys.argv[1]), Rates(SiteRate(minimum_interval_seconds=0.02)))\n"
        "for _ in range(20):\n"
        "    while wait := limiter.try_acquire('s'):\n        time.sleep(wait)\n"
        "    print(time.time(), flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "budget")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    times = sorted(float(line) for process in running for line in process.communicate(timeout=60)[0].split())
    assert len(times) == FileRateLimiter(tmp_path / "budget").state("s").spent == 60
    assert times[-1] - times[0] >= 59 * 0.02 - 0.02


def test_a_killed_process_leaves_neither_lock_nor_half_a_file(tmp_path: Path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom vidaudio.media.fetch.rate_limit import *\n"
        "limiter = FileRateLimiter(Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "while True:\n    limiter.try_acquire('s'), limiter.report_throttled('t', 0.0)\n"
    )
    rate_limiter = FileRateLimiter(tmp_path)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = rate_limiter.state("s").spent
        assert rate_limiter.try_acquire("s") == 0
        assert rate_limiter.state("s").spent == before + 1
        assert rate_limiter.state("t").refusals >= 0


def test_file_budgets_travel_and_keep_their_folder_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rate_limiter = FileRateLimiter(tmp_path / "b", Rates(SiteRate(requests_per_hour=1)))
    copy = pickle.loads(pickle.dumps(rate_limiter))
    assert copy.try_acquire("../../evil/..\n") == 0
    assert rate_limiter.try_acquire("../../evil/..\n") == pytest.approx(3600, abs=5)
    rate_limiter.report_throttled("../../evil/..\n", 7000)
    assert copy.state("../../evil/..\n").refusals == 1
    copy.report_ok("../../evil/..\n")
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "b"]
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert user_rate_folder().parent == tmp_path
    user_rate_folder().rmdir()
    os.symlink(tmp_path / "b", tmp_path / f"vidaudio-budget-{os.getuid()}")
    with pytest.raises(PermissionError, match=r"download\.rate\.folder"):
        user_rate_folder()
