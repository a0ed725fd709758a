"""Samplers and numbers of steps on a trained generator: how near their sounds are to real ones.

    python -m benchmarks.samplers --run RUN --data PACKED --judge NAME=PLACE [--samplers ancestral:1000,...]

Every sampler makes the sounds of the same pictures, from the same seeds. KAD, FD and what is heard are by the judge,
the level by the sounds; intervals are 95 %. For the generators of `benchmarks.generation`, RUN is
FOLDER/generation/clipsonic_iq-seed0-4000steps, and the judge is FOLDER/generation-world/judge.pt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from benchmarks.common import write_result
from vidaudio.generation.samplers import SAMPLERS, SamplerName
from vidaudio.tasks.generation.evaluate import GenerationRequest, evaluate_generators
from vidaudio.tasks.generation.evaluation.report import ReportRow

DEFAULT = (
    "sde-dpm-solver++:25,sde-dpm-solver++:50,dpm-solver++:25,dpm-solver++:100,ddim:100,ancestral:100,ancestral:250,"
    "ancestral:1000"
)
SCORES = {"right": "right", "kernel": "KAD x100", "frechet": "FD", "coverage": "coverage"}


def parse_samplers(text: str) -> list[tuple[SamplerName, int]]:
    """Return samplers and their steps from `NAME:STEPS,...`."""
    found = []
    for part in text.split(","):
        name, _, steps = part.strip().partition(":")
        if name not in SAMPLERS or not steps.isdecimal():
            raise SystemExit(f"--samplers {part!r}: NAME:STEPS is wanted, such as ancestral:1000")
        found.append((cast(SamplerName, name), int(steps)))
    return found


def told(row: ReportRow, sampler: str, steps: int | str) -> dict[str, Any]:
    """Return a row of the table: values, and the half widths of their intervals."""
    (scores,) = row.scores.values()
    found: dict[str, Any] = {"sampler": sampler, "steps": steps, "sounds": scores.sounds}
    named = {shown: getattr(scores, name) for name, shown in SCORES.items()} | {"level dB": row.level}
    for shown, score in named.items():
        if score is not None:
            found[shown] = f"{score.value:.2f} ± {score.half_width:.2f}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run of a generator")
    parser.add_argument("--data", required=True, help="packed corpus, its split test")
    parser.add_argument("--judge", required=True, help="embedding model, NAME=PLACE")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--samplers", default=DEFAULT)
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for sampler, steps in parse_samplers(chosen.samplers):
        report = evaluate_generators(
            GenerationRequest(
                checkpoints=[chosen.run],
                data=chosen.data,
                embeddings=[chosen.judge],
                out=chosen.run / "samplers" / f"{sampler}-{steps}",
                methods=["image"],
                sampler=sampler,
                steps=steps,
                clips=chosen.clips,
            )
        )
        if not rows:
            rows += [told(row, row.name, "") for row in report.rows if row.kind != "generated"]
        rows += [told(row, sampler, steps) for row in report.rows if row.kind == "generated"]
        print(rows[-1], flush=True)
    settings = {"run": chosen.run.name, "clips": chosen.clips, "guidance": "the recipe's"}
    write_result("samplers", settings, {"rows": rows})


if __name__ == "__main__":
    main()
