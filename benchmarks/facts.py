"""What the facts of a clip cost: extraction on one core with and without them, and with all frames decoded for motion.

    python -m benchmarks.facts [--clips FOLDER] [--limit N] [--rounds N] [--quick]

`without` is the stage of benchmarks/extraction.py with a decoder process that measures nothing; it still notes packets.
"""

from __future__ import annotations

from benchmarks.common import median_ratio, report, side_by_side
from benchmarks.extraction import SECONDS, chosen_clips, stage
from vidaudio.media.decode.extractor import CHILD, ExtractOptions, Extractor

MEASURES_NOTHING = "import vidaudio.media.decode.worker as w; w.measure_clip = lambda clip, rate: ({}, {}); w.main()"


class WithoutFacts(Extractor):
    """A decoder process that measures nothing of a clip."""

    def _code(self) -> str:
        before, _, _ = CHILD.partition("from vidaudio")
        return before + MEASURES_NOTHING


def main() -> None:
    paths, rounds, quick = chosen_clips(__doc__)
    with WithoutFacts() as without, Extractor() as with_facts, Extractor(ExtractOptions(decode="whole")) as whole:
        rates = side_by_side(
            {
                "without": lambda: stage(without, paths),
                "with facts": lambda: stage(with_facts, paths),
                "with facts, all frames": lambda: stage(whole, paths),
            },
            rounds=rounds,
        )
    settings = {"clips": [path.name for path in paths], "seconds": SECONDS, "rounds": rounds, "quick": quick}
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
