"""`make chaos`: builds killed at every placed point and at random moments, and a report of what was hit.

For every point and victim a build is started on a fresh folder, killed once, and run again without faults. It passes
when every file but runs/ is then byte-identical to an uninterrupted build, and when a reader that opened whatever was
visible throughout saw nothing partial.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from tests.media_world import list_world, render_world, world_recipe
from tests.pipeline.test_build import contents
from tests.pipeline.test_kill import Reader, command
from vidaudio.demo.serve import FolderServer

POINTS = (
    "decode",
    "write tar",
    "before tar is put",
    "behind tar, before table",
    "before table is created",
    "behind table",
    "embed",
    "before pack's tar is put",
    "behind pack's tar, before table",
    "journal",
)
VICTIMS = ("worker", "decoder", "driver")
# When the driver writes its journal, its cluster is closed already.
NOBODY = {("journal", "worker"), ("journal", "decoder")}
RANDOM_KILLS = 30
DEMO_CLIP = Path(__file__).resolve().parents[2] / "vidaudio" / "demo" / "clip"


def main() -> int:
    draw = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    hits: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        render_world(folder / "world")
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(world_recipe(DEMO_CLIP).model_dump(mode="json")))
        with FolderServer(folder / "world") as server:
            manifest = list_world(folder / "world", server.url).manifest
            clean = folder / "clean"
            subprocess.run(command(recipe, manifest, clean), check=True, capture_output=True)
            expected = contents(clean)
            cases = [(point, victim) for point in POINTS for victim in VICTIMS if (point, victim) not in NOBODY]
            cases += [("random moment", draw.choice(("worker", "driver"))) for _ in range(RANDOM_KILLS)]
            for number, (point, victim) in enumerate(cases, start=1):
                hit, found = one_case(folder / "corpus", recipe, manifest, point, victim, draw, expected)
                hits[point, victim] += hit
                faults += [f"{point} x {victim}: {fault}" for fault in found]
                print(
                    f"{number}/{len(cases)}  {point} x {victim}: {'hit' if hit else 'not hit'} {found or ''}",
                    flush=True,
                )
    return report(hits, faults)


def one_case(
    corpus: Path, recipe: Path, manifest: Path, point: str, victim: str, draw: random.Random, expected: dict[str, bytes]
) -> tuple[bool, list[str]]:
    """Kill a build once, run it again, compare; whether the kill happened, and what is wrong."""
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    marker = corpus.with_suffix(".marker")
    marker.unlink(missing_ok=True)
    reader = Reader(corpus)
    reader.start()
    line = command(recipe, manifest, corpus)
    environment = dict(os.environ)
    if point != "random moment":
        # Points of the driver are passed once; the others by every shard, and not always is it the first that dies.
        skip = 0 if point in ("journal", "embed") or "pack" in point else draw.randint(0, 1)
        environment |= {
            "CHAOS_POINT": point,
            "CHAOS_VICTIM": victim,
            "CHAOS_MARKER": str(marker),
            "CHAOS_SKIP": str(skip),
        }
        line = [sys.executable, "-m", "tests.chaos.killed_build", *line[3:]]
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment
    )
    hit = False
    if point == "random moment":
        while process.poll() is None and not list(corpus.glob(".tmp-*")):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 2))
        if process.poll() is None:
            hit = kill_random(process.pid, victim, draw)
    process.wait(timeout=300)
    hit = hit or marker.exists()
    # Workers of a killed driver notice within seconds; they must not outlive the case.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    again = subprocess.run(command(recipe, manifest, corpus), capture_output=True, text=True, timeout=300)
    reader.stop()
    faults = list(reader.partial)
    if again.returncode:
        faults.append(f"the same command again failed: {again.stderr.strip().splitlines()[-1:]}")
    found = contents(corpus)
    faults += [
        f"{name} differs" for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)
    ]
    return hit, faults


def kill_random(driver: int, victim: str, draw: random.Random) -> bool:
    import psutil

    if victim == "driver":
        os.killpg(driver, signal.SIGKILL)
        return True
    running = psutil.Process(driver).children(recursive=True)
    if running:
        draw.choice(running).kill()
    return bool(running)


def report(hits: Counter[tuple[str, str]], faults: list[str]) -> int:
    """Print the table kill point x victim x times hit; 0 where no cell is empty and nothing was wrong."""
    print(f"\n{'kill point':<34}" + "".join(f"{victim:>10}" for victim in VICTIMS))
    empty = 0
    for point in (*POINTS, "random moment"):
        cells = ["nobody" if (point, victim) in NOBODY else hits[point, victim] for victim in VICTIMS]
        print(f"{point:<34}" + "".join(f"{cell or '-':>10}" for cell in cells))
        empty += sum(not cell for cell, victim in zip(cells, VICTIMS, strict=True) if (point, victim) in hits)
    print(f"\n{sum(hits.values())} kills, {empty} empty cells, {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults or empty else 0


if __name__ == "__main__":
    raise SystemExit(main())
