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
    FileBudget,
    MemoryBudget,
    Rates,
    SiteRate,
    SiteState,
    take_turn,
    users_budget_folder,
)
from vidaudio.media.fetch.session import retry_after_seconds


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def granted(budget: MemoryBudget, clock: Clock, site: str, seconds: float) -> list[float]:
    """When requests were granted to somebody who always wants one and comes back when told."""
    end, times = clock.now + seconds, []
    while clock.now < end:
        wait = budget.turn(site)
        if not wait:
            times.append(clock.now)
        clock.now += wait
    return times


@pytest.mark.parametrize("rate", [SiteRate(requests_per_hour=250), SiteRate(requests_per_hour=36, jitter_seconds=30)])
def test_no_hour_sees_more_requests_than_its_budget(rate: SiteRate):
    clock = Clock()
    times = granted(MemoryBudget(Rates(rate), clock=clock), clock, "s", 3 * 3600)
    for start in times:
        assert sum(start <= t < start + 3600 - 1e-3 for t in times) <= rate.requests_per_hour
    assert min(b - a for a, b in pairwise(times)) >= rate.interval_seconds - 1e-6
    if not rate.jitter_seconds:
        assert len(times) == pytest.approx(3 * rate.requests_per_hour, abs=2)


def test_intervals_are_spread_by_the_jitter_and_never_shorter():
    clock = Clock()
    rates = Rates(SiteRate(minimum_interval_seconds=2.0, jitter_seconds=3.0))
    gaps = [b - a for a, b in pairwise(granted(MemoryBudget(rates, clock=clock), clock, "s", 2000))]
    assert 2.0 - 1e-6 <= min(gaps) < 2.3
    assert 4.7 < max(gaps) <= 5.0 + 1e-6


def test_sites_have_budgets_of_their_own():
    rates = Rates(SiteRate(), {"slow": SiteRate(minimum_interval_seconds=60)})
    budget = MemoryBudget(rates, clock=Clock())
    assert [budget.turn("fast"), budget.turn("fast"), budget.turn("slow")] == [0, 0, 0]
    assert budget.turn("slow") == 60
    assert (budget.state("fast").spent, budget.state("slow").spent) == (2, 1)


def test_pauses_double_while_a_site_goes_on_refusing_and_end_with_an_answer():
    clock = Clock()
    budget = MemoryBudget(Rates(SiteRate(first_pause_seconds=10, longest_pause_seconds=60)), clock=clock)
    pauses = []
    for _ in range(5):
        assert budget.turn("s") == 0
        pauses.append(budget.refused("s", None))
        assert budget.turn("s") == pauses[-1]
        clock.now += pauses[-1]
    assert pauses == [10, 20, 40, 60, 60]
    assert budget.turn("s") == 0
    budget.answered("s")
    assert (budget.turn("s"), budget.refused("s", None)) == (0, 10)


def test_several_refusals_of_one_moment_are_one():
    clock = Clock()
    budget = MemoryBudget(clock=clock)
    assert [budget.turn("s") for _ in range(4)] == [0] * 4
    assert [budget.refused("s", None) for _ in range(4)] == [10] * 4


def test_retry_after_is_taken_at_its_word_up_to_the_longest_pause():
    clock = Clock()
    budget = MemoryBudget(Rates(SiteRate(longest_pause_seconds=600)), clock=clock)
    assert budget.refused("a", 90.0) == 90
    assert budget.refused("b", 1e9) == 600
    assert budget.refused("c", 0.0) == 0
    assert budget.refused("c", 0.0) == 20, "a site that refuses again did not mean it"


def test_after_a_pause_one_request_asks_for_all():
    clock = Clock()
    budget = MemoryBudget(clock=clock)
    budget.refused("s", 5.0)
    clock.now += 5
    assert budget.turn("s") == 0
    assert budget.turn("s") > 0
    budget.answered("s")
    assert [budget.turn("s"), budget.turn("s")] == [0, 0]


def test_one_who_asks_and_gets_no_answer_lets_the_next_ask(tmp_path: Path):
    """A connection that breaks says nothing of the pause, and the others do not wait for it."""
    for budget in (MemoryBudget(), FileBudget(tmp_path)):
        budget.refused("s", 0.0)
        assert budget.turn("s") == 0
        assert budget.turn("s") > 0
        budget.unanswered("s")
        assert budget.turn("s") == 0
        assert budget.state("s").refusals == 1, "nothing was learned"


def test_one_who_asks_and_dies_does_not_hold_the_others_for_ever():
    clock = Clock()
    budget = MemoryBudget(clock=clock)
    budget.refused("s", 5.0)
    clock.now += 5
    assert budget.turn("s") == 0
    clock.now += PROBE_SECONDS
    assert budget.turn("s") == 0


def test_a_clock_set_back_does_not_stop_everything():
    state = SiteState(next_at=9e9, paused_until=9e9)
    rate = SiteRate(minimum_interval_seconds=5, longest_pause_seconds=60)
    assert take_turn(state, rate, 1e6, 0.5)[1] == 60


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
        "budget = FileBudget(Path(sys.argv[1]), Rates(SiteRate(minimum_interval_seconds=0.02)))\n"
        "for _ in range(20):\n"
        "    while wait := budget.turn('s'):\n        time.sleep(wait)\n"
        "    print(time.time(), flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "budget")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    times = sorted(float(line) for process in running for line in process.communicate(timeout=60)[0].split())
    assert len(times) == FileBudget(tmp_path / "budget").state("s").spent == 60
    assert times[-1] - times[0] >= 59 * 0.02 - 0.02


def test_a_killed_process_leaves_neither_lock_nor_half_a_file(tmp_path: Path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom vidaudio.media.fetch.rate_limit import *\n"
        "budget = FileBudget(Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "while True:\n    budget.turn('s'), budget.refused('t', 0.0)\n"
    )
    budget = FileBudget(tmp_path)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = budget.state("s").spent
        assert budget.turn("s") == 0
        assert budget.state("s").spent == before + 1
        assert budget.state("t").refusals >= 0


def test_file_budgets_travel_and_keep_their_folder_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    budget = FileBudget(tmp_path / "b", Rates(SiteRate(requests_per_hour=1)))
    copy = pickle.loads(pickle.dumps(budget))
    assert copy.turn("../../evil/..\n") == 0
    assert budget.turn("../../evil/..\n") == pytest.approx(3600, abs=5)
    budget.refused("../../evil/..\n", 7000)
    assert copy.state("../../evil/..\n").refusals == 1
    copy.answered("../../evil/..\n")
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "b"]
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert users_budget_folder().parent == tmp_path
    users_budget_folder().rmdir()
    os.symlink(tmp_path / "b", tmp_path / f"vidaudio-budget-{os.getuid()}")
    with pytest.raises(PermissionError, match=r"download\.rate\.folder"):
        users_budget_folder()
