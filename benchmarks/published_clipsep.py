"""The separated sounds of CLIPSep's authors, scored by our evaluation.

    python -m benchmarks.published_clipsep FOLDER

FOLDER holds what lies on the authors' page: folders with `mix.wav`, `gt.wav` (target), `int.wav` (interference),
`pred.wav` (CLIPSep-NIT) and `clipsep/`, `pit/`, `labelsep/` with a `pred.wav` each. A handful of chosen examples: the
figures say that the evaluation measures what it should, not how good the systems are. PIT is scored as its authors do:
its sound or what it leaves of the mixture, whichever is better.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import write_result
from vidaudio.errors import MediaError, VidaudioError
from vidaudio.tasks.separation.evaluation.score_files import score_files

SYSTEMS = {
    "clipsep_nit": "pred.wav",
    "clipsep": "clipsep/pred.wav",
    "labelsep": "labelsep/pred.wav",
    "pit (oracle)": "pit/pred.wav",
}


def examples(folder: Path) -> list[Path]:
    """Folders with a mixture and both its sources.

    Raises:
        MediaError: There are none.
    """
    found = sorted(path.parent for path in folder.rglob("mix.wav") if (path.parent / "gt.wav").is_file())
    if not found:
        raise MediaError(f"{folder} holds no folders with mix.wav, gt.wav and int.wav")
    return found


def score_example(folder: Path, scorer: str) -> dict[str, Any]:
    """Scores of all systems that have a sound of one mixture."""
    paths = {name: folder / file for name, file in SYSTEMS.items() if (folder / file).is_file()}
    references = (folder / "mix.wav", folder / "gt.wav", folder / "int.wav")
    oracle = [path for name, path in paths.items() if "oracle" in name]
    found = score_files(*references, list(paths.values()), or_rest=oracle, scorer=scorer)
    scores = {"mixture": found.mixture, **{name: found.estimates[str(path)] for name, path in paths.items()}}
    return {
        "example": folder.name,
        "residual_db": round(found.residual_db, 2),
        "scores": {name: score.as_dict() for name, score in scores.items() if score is not None},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scorer", choices=("museval", "batched"), default="museval")
    arguments = parser.parse_args()
    try:
        rows = [score_example(folder, arguments.scorer) for folder in examples(arguments.folder)]
    except VidaudioError as error:
        raise SystemExit(str(error)) from None
    names = ["mixture", *SYSTEMS]
    table = [
        {"sdr_in_db": row["example"], **{name: round(score["sdr"], 2) for name, score in row["scores"].items()}}
        for row in rows
    ]
    print(f"{'SDR, dB':<48}" + "".join(f"{name:>14}" for name in names))
    for row in table:
        print(f"{row['sdr_in_db'][:47]:<48}" + "".join(f"{row.get(name, '-'):>14}" for name in names))
    means = {}
    for name in names:
        values = [row["scores"][name]["sdr"] for row in rows if name in row["scores"]]
        means[name] = {"mean_sdr": round(statistics.fmean(values), 3), "n": len(values)} if values else {"n": 0}
    settings = {"scorer": arguments.scorer, "sounds": "the examples on the page of Dong et al., CLIPSep, ICLR 2023"}
    write_result("published_clipsep", settings, {"table": table, "examples": rows, "means": means})


if __name__ == "__main__":
    main()
