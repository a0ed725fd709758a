"""`make chaos`: builds killed at every placed point and at random moments, and a report of what was hit.

    python -m tests.chaos [--seed N] [--only POINT] [--random KILLS] [--record FILE]

What was found is added to the record, a line of JSON a campaign, so that a run that was interrupted goes on. A record
is of one commit: what another one withstood says nothing of this.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import commit
from tests.chaos.build import preload
from tests.chaos.campaign import Campaign, Harness, Outcome, at_random, placed
from tests.chaos.points import POINTS, VICTIMS
from tests.chaos.report import report

RANDOM_KILLS, KILLS_A_CORPUS = 60, 6
PLACED_A_CORPUS = 18
# A point that this many corpora in a row have not met is not there.
FRUITLESS_CORPORA = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="points whose name holds this text, and nothing at random")
    parser.add_argument("--random", type=int, default=RANDOM_KILLS, help="kills at random moments")
    parser.add_argument("--record", type=Path, help="the commit's own by default")
    parser.add_argument("--folder", type=Path, help="where to build; a temporary folder by default")
    chosen = parser.parse_args()
    chosen.record = chosen.record or Path(tempfile.gettempdir()) / f"vidaudio-chaos-{commit() or 'uncommitted'}.jsonl"
    preload()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        harness = Harness(Path(scratch) / "chaos")
        try:
            _placed_cases(harness, chosen.record, chosen.only or "")
            if not chosen.only:
                _random_moments(harness, chosen.record, chosen.random, chosen.seed)
        finally:
            small = harness.disk.small
            harness.close()
    return report(_recorded(chosen.record), only=chosen.only or "", small_disk=small, seconds=time.monotonic() - began)


def _placed_cases(harness: Harness, record: Path, only: str) -> None:
    for keep in ("all", "none", "until_extracted"):
        struck = {tuple(hit) for campaign in _recorded(record) for hit in campaign["hits"] if not campaign["random"]}
        # All victims of a point one after the other would hammer one shard: victim by victim is more varied.
        wanted = [
            (point.name, victim)
            for victim in VICTIMS
            for point in POINTS
            if point.keep == keep and only in point.name and (point.name, victim) not in struck
        ]
        fruitless = 0
        while wanted and fruitless < FRUITLESS_CORPORA:
            before = len(wanted)
            outcome = Campaign(harness, keep).run(placed(wanted, PLACED_A_CORPUS))
            fruitless = 0 if len(wanted) < before else fruitless + 1
            _note(record, outcome, keep, random=False)
            print(f"{len(wanted)} cases left", flush=True)


def _random_moments(harness: Harness, record: Path, kills: int, seed: int) -> None:
    done = sum(len(campaign["hits"]) for campaign in _recorded(record) if campaign["random"])
    draw = random.Random(f"{seed}:{done}")
    number = 0
    while done < kills:
        number += 1
        campaign = Campaign(harness, local=number % 3 == 0)
        outcome = campaign.run(at_random(draw, min(KILLS_A_CORPUS, kills - done)))
        done += len(outcome.hits)
        _note(record, outcome, "local" if campaign.local else "all", random=True)
        print(f"{done} of {kills} kills at random moments", flush=True)


def _note(record: Path, outcome: Outcome, kind: str, *, random: bool) -> None:
    with record.open("a") as file:
        file.write(json.dumps({"kind": kind, "random": random, **asdict(outcome)}) + "\n")
    counted = Counter(victim for _, victim in outcome.hits)
    print(
        f"{time.strftime('%H:%M:%S')} {kind}: {outcome.starts} starts, {len(outcome.hits)} strikes {dict(counted)}, "
        f"{outcome.opened} files read, {outcome.requests} requests, {len(outcome.faults)} faults",
        flush=True,
    )
    for fault in outcome.faults:
        print(f"  FAULT {fault}", flush=True)


def _recorded(record: Path) -> list[dict]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


if __name__ == "__main__":
    raise SystemExit(main())
