"""What the facts of a clip cost: extraction on one core with and without them, and with all frames decoded for motion.

    python -m benchmarks.facts [--clips FOLDER] [--limit N] [--rounds N] [--quick]

`without` is the stage of benchmarks/extraction.py with a decoder process that measures nothing; it still notes packets.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.common import median_ratio, report, side_by_side
from benchmarks.extraction import SECONDS, stage
from benchmarks.media import clips
from vidaudio.media.decode.extractor import CHILD, ExtractOptions, Extractor

MEASURES_NOTHING = "import vidaudio.media.decode.worker as w; w.measure_clip = lambda clip, rate: ({}, {}); w.main()"


class WithoutFacts(Extractor):
    """A decoder process that measures nothing of a clip."""

    def _code(self) -> str:
        ways, _, _ = CHILD.partition("from vidaudio")
        return ways + MEASURES_NOTHING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; the demo's are rendered otherwise")
    parser.add_argument("--limit", type=int, default=32, help="at most so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two clips, one round: only to see it work")
    chosen = parser.parse_args()
    limit, rounds = (2, 1) if chosen.quick else (chosen.limit, chosen.rounds)
    paths = clips(chosen.clips, limit, least_seconds=9.5 if chosen.clips else 3.0)
    if hasattr(os, "sched_setaffinity"):  # children inherit it: everybody has this one core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with WithoutFacts() as without, Extractor() as with_facts, Extractor(ExtractOptions(decode="whole")) as whole:
        rates = side_by_side(
            {
                "without": lambda: stage(without, paths),
                "with facts": lambda: stage(with_facts, paths),
                "with facts, all frames": lambda: stage(whole, paths),
            },
            rounds=rounds,
        )
    settings = {"clips": [path.name for path in paths], "seconds": SECONDS, "rounds": rounds, "quick": chosen.quick}
    report(
        "facts",
        rates,
        "without",
        settings,
        with_facts_of_without=median_ratio(rates, "with facts", "without"),
        all_frames_of_with_facts=median_ratio(rates, "with facts, all frames", "with facts"),
    )


if __name__ == "__main__":
    main()
