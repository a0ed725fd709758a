"""What the driver makes of a scheduler that dies between a task's end and the asking for its record."""

from __future__ import annotations

from distributed import Client, Future, LocalCluster
from distributed.client import FutureCancelledError

from vidaudio.pipeline.drive import SCHEDULER_GONE, Progress, drive
from vidaudio.pipeline.journal import RunReport


def test_a_scheduler_that_goes_before_the_records_are_fetched_ends_the_run_in_words():
    submitted: list[Future] = []
    report = RunReport()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def submit(shard: int) -> list[Future]:
            future = client.submit(lambda: {"stage": "download", "shard": shard}, key=f"download-{shard:06d}-run")
            assert future.result()["shard"] == shard

            def lost() -> None:
                raise FutureCancelledError(future.key, "scheduler-connection-lost")

            # Its end was told and what it returned is gone with the scheduler.
            future.result = lost
            submitted.append(future)
            return [future]

        progress = Progress("building", unit="clip", total=10, shards=10, shown=False)
        drive(iter(range(10)), submit, limit=1, units=lambda _: 1, report=report, progress=progress)
        assert len(submitted) == 1
        submitted.clear()
    assert list(report.errors.values()) == [SCHEDULER_GONE]
