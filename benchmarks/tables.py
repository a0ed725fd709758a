"""The newest result of every benchmark as Markdown tables, for the README and docs.

python -m benchmarks.tables [NAME ...]
python -m benchmarks.tables --write docs/results.md     # of the trainings, as a page
python -m benchmarks.tables --fill docs/corpus.md       # anew, between marks that name the benchmarks
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, machine_words
from benchmarks.gains import gains_markdown
from benchmarks.gap_tables import gap_markdown
from benchmarks.training_tables import TITLES, training_markdown, training_results

BLOCK = re.compile(r"<!-- results: (?P<names>[^>]+?) -->.*?<!-- end of results -->", re.DOTALL)
PAGE = """# Results of training

Every table here is printed by `python -m benchmarks.tables --write docs/results.md` from `benchmarks/results/`, where
each finished run leaves one JSON. Runs are short, made for two cores, and the tables grow as runs are added: they
compare systems at one small budget, and say nothing about what a system reaches when it is trained to its end.

"""


def newest() -> dict[str, dict[str, Any]]:
    """The latest result of every benchmark by its date, by name, but trainings and what was only tried.

    `gpu_steps.json` beside the folder of results counts as one, where a GPU was at hand.
    """
    results: dict[str, dict[str, Any]] = {}
    for path in [*sorted(RESULTS.glob("*.json")), *RESULTS.parent.glob("gpu_steps.json")]:
        result = json.loads(path.read_text())
        if result["settings"].get("quick") or result["settings"].get("kind") == "training":
            continue
        known = results.get(result["benchmark"])
        if known is None or result["date"] > known["date"]:
            results[result["benchmark"]] = result
    return results


def rows_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table, with the columns of all of them; empty where a row has none of that name."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numbers = [all(isinstance(row.get(key, 0), int | float) for row in rows) for key in columns]
    lines = [
        "| " + " | ".join(key.replace("_", " ") for key in columns) + " |",
        "| " + " | ".join("---:" if number else "---" for number in numbers) + " |",
    ]
    lines += ["| " + " | ".join(_cell(row.get(key, "")) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def markdown(result: dict[str, Any]) -> str:
    """One result: its name and machine, then every list of rows in it, then its single figures.

    Rows that hold more than figures and words are for programs, and left out.
    """
    told = [f"**{result['benchmark']}**, {machine_words(result['machine'])}, commit {result['commit'] or 'unknown'}"]
    found = result["results"] if isinstance(result["results"], dict) else {"rows": result["results"]}
    # Of the variants that could not be measured, why.
    found = {**found, "failed": result.get("failed", [])}
    figures = []
    for key, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            if any(isinstance(cell, dict | list) for row in value for cell in row.values()):
                continue
            told.append(rows_table(value))
        elif isinstance(value, str | int | float):
            figures.append({"figure": key.replace("_", " "), "value": value})
    return "\n\n".join(told + ([rows_table(figures)] if figures else []))


def tables_of(names: list[str], results: dict[str, dict[str, Any]]) -> str:
    """The tables of these benchmarks, one after the other.

    Trainings are known by the names of their tables, all of them together by `gains`, and the bare table of the methods
    against the modality gap by `gap_methods`.

    Raises:
        SystemExit: One was never measured.
    """
    trainings = {table: training_markdown(training_results(table), [table]) for table in TITLES if table in names}
    if "gains" in names:
        trainings["gains"] = gains_markdown(training_results())
    if "gap_methods" in names:
        trainings["gap_methods"] = gap_markdown(training_results("gap"))
    if missing := [name for name in names if name not in results and not trainings.get(name)]:
        raise SystemExit(f"no result of {', '.join(missing)} in {RESULTS}; run python -m benchmarks.{missing[0]} first")
    return "\n\n".join(trainings.get(name) or markdown(results[name]) for name in names)


def filled(text: str, results: dict[str, dict[str, Any]], where: str) -> str:
    """A document with the tables between its marks made anew, from the results that the first mark names.

    Raises:
        SystemExit: It has no marks, or one of its results was never measured.
    """
    if not BLOCK.search(text):
        raise SystemExit(f"{where} has no <!-- results: NAME ... --> and <!-- end of results --> to write between")

    def block(match: re.Match[str]) -> str:
        names = match["names"].split()
        return f"<!-- results: {' '.join(names)} -->\n\n{tables_of(names, results)}\n\n<!-- end of results -->"

    return BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of benchmarks; all by default, and the trainings")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables of the trainings there")
    parser.add_argument(
        "--fill", type=Path, metavar="FILE", help="make the tables of a document anew, between its marks"
    )
    chosen = parser.parse_args()
    if chosen.fill is not None:
        document = chosen.fill.read_text(encoding="utf-8")
        chosen.fill.write_text(filled(document, newest(), str(chosen.fill)), encoding="utf-8")
        return
    trainings = training_markdown(training_results())
    if chosen.write is not None:
        chosen.write.write_text(PAGE + (trainings or "No run is finished yet.") + "\n", encoding="utf-8")
        return
    results = newest()
    wanted = chosen.names or sorted(results)
    if not wanted and not trainings:
        raise SystemExit(f"no results in {RESULTS}; run make bench first")
    printed = [tables_of(wanted, results)] if wanted else []
    print("\n\n".join(printed + ([trainings] if trainings and not chosen.names else [])))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
