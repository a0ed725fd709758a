"""A corpus built under fire: struck at wanted points, or killed at random moments, until the build comes through.

Then it is looked at: the same command again ends well and in the same bytes as an undisturbed build, a reader that
opened whatever was visible has seen nothing partial, and nothing was fetched after its shard had been committed.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.build import Build
from tests.chaos.cluster import NANNIES, Cluster
from tests.chaos.disk import Disk
from tests.chaos.points import CONTROL, fill
from tests.chaos.processes import below, is_decoder, is_worker
from tests.chaos.site import read_log
from tests.chaos.world import CLIPS, CLIPS_A_SHARD, World
from vidaudio.manifest import read_manifest
from vidaudio.shards.scratch import PREFIX

# From a build's start or the last strike on, until it counts as hanging.
HANGS_SECONDS = 240
MOST_STARTS = 60
# What one strike can cost at most: two chains a worker.
SHARDS_IN_FLIGHT = 2 * NANNIES
# File systems tell the time in ticks of the kernel's clock.
CLOCK_TICK_SECONDS = 0.01
# What a full disk has to be called by whoever stops over it.
FULL_DISK = re.compile(r"No space left on device|disk", re.IGNORECASE)


@dataclass(slots=True)
class Outcome:
    """What a campaign came to.

    Attributes:
        hits: `[point or stage, victim]` of every strike, in order.
        faults: What was wrong, in words.
        starts: Builds started until it came through.
        opened: Files that the reader saw whole.
        requests: To the site; the least is `least_requests`.
    """

    hits: list[list[str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    starts: int = 0
    opened: int = 0
    requests: int = 0
    least_requests: int = 0


class Harness:
    """What all campaigns share: world, disk, cluster, and the undisturbed corpora to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.control = folder, folder / "control"
        self.control.mkdir(parents=True)
        (self.control / "doing").mkdir()
        self.environment = {
            CONTROL: str(self.control),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.chaos.points",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        os.environ.update(self.environment)
        self.world = World(folder / "world")
        self.disk = Disk(folder / "disk", self.control)
        self.cluster = Cluster(folder, self.environment)
        self.seconds, self.least_requests = 10.0, 0
        self._expected: dict[str, dict[str, bytes]] = {}

    def close(self) -> None:
        self.cluster.close()
        self.world.close()
        self.disk.close()

    def expected(self, keep: str) -> dict[str, bytes]:
        """The files of an undisturbed build."""
        if keep not in self._expected:
            self.cluster.restore()
            self.cluster.wait()
            for _ in range(2):  # the second with warm workers: that is the one to measure
                corpus = self.disk.folder / "clean"
                shutil.rmtree(corpus, ignore_errors=True)
                self.world.log.write_text("")
                build = self.start(keep, corpus, "clean", self.cluster.address)
                while build.poll() is None:
                    time.sleep(0.01)
                if build.code:
                    raise RuntimeError(f"an undisturbed build failed: {build.said()}")
                self.seconds = time.monotonic() - build.began
            self.least_requests = len(read_log(self.world.log))
            self._expected[keep] = contents(corpus)
            shutil.rmtree(corpus)
        return self._expected[keep]

    def start(self, keep: str, corpus: Path, name: str, scheduler: str | None) -> Build:
        return Build(self.world.command(keep, corpus, scheduler), self.folder / f"{name}.log", self.environment)

    def disarm(self) -> None:
        for name in ("token", "taken", "struck.json", "armed.json"):
            (self.control / name).unlink(missing_ok=True)


class Campaign:
    """One corpus under fire.

    Args:
        harness: Where.
        keep: Its `download.keep`.
        local: On a local cluster instead of the harness's own.
    """

    def __init__(self, harness: Harness, keep: str = "all", *, local: bool = False) -> None:
        self.harness, self.keep, self.local = harness, keep, local
        self.outcome = Outcome()
        self._corpus = harness.disk.folder / "corpus"
        self._build: Build | None = None
        self._said: list[str] = []

    def run(self, fire: Callable[[Campaign], str | None]) -> Outcome:
        """Start the build until it comes through; `fire` is asked again and again and says whom it has struck."""
        harness = self.harness
        expected = harness.expected(self.keep)
        shutil.rmtree(self._corpus, ignore_errors=True)
        self._corpus.mkdir()
        harness.world.log.write_text("")
        reader = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.reader", str(self._corpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        while self._one_build(fire) != 0 and self.outcome.starts < MOST_STARTS:
            pass
        if self._one_build(lambda _: None) != 0:
            self.outcome.faults.append(f"the same command again failed: {self._build.said()[-300:]}")
        told, _ = reader.communicate(timeout=60)
        seen = json.loads(told)
        self.outcome.opened = seen["opened"]
        self.outcome.faults += [f"partial: {text}" for text in seen["partial"]]
        if not seen["opened"]:
            self.outcome.faults.append("the reader has seen nothing")
        found = contents(self._corpus)
        names = sorted(expected.keys() | found.keys())
        self.outcome.faults += [f"{name} differs" for name in names if expected.get(name) != found.get(name)]
        self._look_at_requests()
        return self.outcome

    def _one_build(self, fire: Callable[[Campaign], str | None]) -> int:
        """Run the command once, under fire; its exit code."""
        harness, outcome = self.harness, self.outcome
        if not self.local:
            harness.cluster.restore()
            harness.cluster.wait()
        outcome.starts += 1
        build = self._build = harness.start(
            self.keep, self._corpus, f"build-{outcome.starts:02d}", None if self.local else harness.cluster.address
        )
        struck: list[str] = []
        quiet_since = build.began
        while build.poll() is None:
            if (victim := fire(self)) is not None:
                struck.append(victim)
                quiet_since = time.monotonic()
                if victim == "nanny" and not self.local:
                    harness.cluster.restore()
            if time.monotonic() - quiet_since > HANGS_SECONDS:
                outcome.faults.append(f"hung after {struck[-3:] or 'nothing'}: {build.said()[-300:]}")
                break
            time.sleep(0.01)
        while (victim := fire(self)) is not None:  # struck as it ended
            struck.append(victim)
        build.kill()
        harness.disarm()
        harness.disk.make_room()
        if build.code and not struck:
            outcome.faults.append(f"failed by itself: {build.said()[-300:]}")
        if "Traceback" in build.said():
            outcome.faults.append(f"a traceback after {struck[-3:]}: {build.said()[-300:]}")
        if struck == ["disk"] and build.code and not FULL_DISK.search(build.said()):
            outcome.faults.append(f"a full disk that is not called so: {build.said()[-300:]}")
        return build.code

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Whom there is to kill, by victim."""
        driver = psutil.Process(self._build.process_id)
        found = {"driver": [driver]}
        if self.local:
            processes = below(driver.pid)
        else:
            cluster = self.harness.cluster
            found["scheduler"] = [psutil.Process(cluster.scheduler.pid)]
            found["nanny"] = [psutil.Process(nanny.pid) for nanny in cluster.nannies if nanny.poll() is None]
            processes = [child for nanny in found["nanny"] for child in below(nanny.pid)]
        found["decoder"] = [child for child in processes if is_decoder(child)]
        found["worker"] = [child for child in processes if is_worker(child)]
        return {victim: living for victim, living in found.items() if living}

    def _look_at_requests(self) -> None:
        """Nothing is fetched whose shard's table stood when that was looked at, last before the request."""
        manifest = read_manifest(str(self._corpus / "manifest.parquet")).to_pylist()
        # A table's bytes are older than it is: it is linked to its name once it is whole, and that is what ctime says.
        committed = {
            f"/{row['id']}.mp4": (self._corpus / "clips" / f"{row['shard']:06d}.parquet").stat().st_ctime
            for row in manifest
        }
        requests = read_log(self.harness.world.log)
        self.outcome.requests = len(requests)
        self.outcome.least_requests = least = self.harness.least_requests
        lost = len(self.outcome.hits) * SHARDS_IN_FLIGHT * CLIPS_A_SHARD * math.ceil(least / CLIPS)
        if not least <= len(requests) <= least + lost:
            self.outcome.faults.append(f"{len(requests)} requests, and {least} to {least + lost} can be explained")
        for request in requests:
            late = request.looked - committed[request.path]
            if late > CLOCK_TICK_SECONDS:
                self.outcome.faults.append(f"{request.path} was fetched {late:.2f} s after its commit")


def placed(wanted: list[tuple[str, str]], most: int) -> Callable[[Campaign], str | None]:
    """Fire that strikes at wanted points, `(point, victim)`, and takes what it hits off the list; `most` a corpus."""
    once: set[int] = set()

    def fire(campaign: Campaign) -> str | None:
        control = campaign.harness.control
        struck = control / "struck.json"
        if struck.exists():
            hit = json.loads(struck.read_text())
            wanted.remove((hit["point"], hit["victim"]))
            campaign.outcome.hits.append([hit["point"], hit["victim"]])
            campaign.harness.disarm()
            if hit["victim"] in ("worker", "decoder", "nanny"):
                once.discard(campaign._build.process_id)
            return hit["victim"]
        enough = not wanted or len(campaign.outcome.hits) >= most
        if campaign._build.process_id not in once and campaign._build.code is None and not enough:
            cluster = campaign.harness.cluster
            armed = {
                "cases": wanted,
                "since": time.time() - (time.monotonic() - campaign._build.began),
                "driver": campaign._build.process_id,
                "scheduler": cluster.scheduler.pid,
                "nannies": [nanny.pid for nanny in cluster.nannies if nanny.poll() is None],
                "disk": str(campaign.harness.disk.folder) if campaign.harness.disk.small else None,
            }
            (control / "armed.json").write_text(json.dumps(armed))
            (control / "token").touch()
            once.add(campaign._build.process_id)
        return None

    return fire


def at_random(draw: random.Random, kills: int) -> Callable[[Campaign], str | None]:
    """Fire at moments drawn evenly over the time of an undisturbed build, from each start and each kill on."""
    due: dict[int, float] = {}

    def fire(campaign: Campaign) -> str | None:
        build, now = campaign._build, time.monotonic()
        if build.code is not None or len(campaign.outcome.hits) >= kills:
            return None
        if build.process_id not in due:
            due[build.process_id] = now + draw.uniform(0, campaign.harness.seconds)
        if now < due[build.process_id]:
            return None
        del due[build.process_id]
        living = campaign.processes()
        victim = draw.choice([*sorted(living), "disk"])
        process = draw.choice(living[victim]) if victim in living else None
        stages = _doing(campaign.harness.control / "doing", process.pid if victim == "worker" else None)
        if process is None:
            disk = campaign.harness.disk
            fill(str(disk.folder) if disk.small else None)
        else:
            process.send_signal(signal.SIGKILL)
        campaign.outcome.hits.append([stages, victim])
        return victim

    return fire


def contents(corpus: Path) -> dict[str, bytes]:
    """Every file that two builds must agree on, by name."""
    files = {str(path.relative_to(corpus)): path for path in sorted(corpus.rglob("*")) if path.is_file()}
    return {n: path.read_bytes() for n, path in files.items() if not n.startswith(("runs/", PREFIX))}


def _doing(folder: Path, process_id: int | None) -> str:
    """Which stages were running, on one worker or on all."""
    stages = set()
    for told in folder.iterdir():
        owner, _, stage = told.name.split(".")
        if not psutil.pid_exists(int(owner)):
            told.unlink(missing_ok=True)
        elif process_id in (None, int(owner)):
            stages.add(stage)
    order = ("download", "extract", "facts", "embed", "pack")
    return " + ".join(stage for stage in order if stage in stages) or "between tasks"
