"""What the chaos builds: two dozen tiny clips of a site on loopback, some of them dead or useless, in small shards."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.media_world import render
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.manifest import TableOptions, read_table, write_manifest

CLIPS, CLIPS_A_SHARD = 24, 3
DEAD = ("clip05", "clip16")
TEXT = "clip09"
ENCODER = Path(__file__).resolve().parents[2] / "vidaudio" / "demo" / "clip"


class World:
    """The served folder, the list and the recipe in `folder`; the site runs until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "requests.jsonl"
        served = folder / "served"
        served.mkdir(parents=True)
        self.log.touch()
        kinds = [
            render(folder / f"{pitch}.mp4", 3, picture=picture, pitch=pitch, size="96x96")
            for picture, pitch in (("testsrc", 300), ("smptebars", 500), ("rgbtestsrc", 700))
        ]
        for number in range(CLIPS):
            name = f"clip{number:02d}"
            if name not in DEAD:
                shutil.copyfile(kinds[number % len(kinds)], served / f"{name}.mp4")
        (served / f"{TEXT}.mp4").write_text("this is no video\n" * 50)
        self._site = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.site", str(served), str(self.log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.url = self._site.stdout.readline().strip()
        self.manifest = self._list()
        self._recipes = {keep: self._recipe(keep) for keep in ("all", "none", "until_extracted")}

    def command(self, keep: str, corpus: Path, scheduler: str | None) -> list[str]:
        """Arguments of `vidaudio` that build the corpus, on a cluster or a local one."""
        where = [f"--scheduler={scheduler}"] if scheduler else ["--set=dask.workers=2"]
        recipe = str(self._recipes[keep])
        return ["build", recipe, "-m", str(self.manifest), "-o", str(corpus), "--quiet", *where]

    def close(self) -> None:
        self._site.stdin.close()
        self._site.wait(timeout=20)

    def _list(self) -> Path:
        table = self.folder / "list.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "url", "split"])
            writer.writerows([f"clip{n:02d}", f"{self.url}/clip{n:02d}.mp4", "train"] for n in range(CLIPS))
        listing = read_table(table, options=TableOptions(check_files=False, dataset="chaos"))
        write_manifest(listing.clips, self.folder / "list.parquet")
        return self.folder / "list.parquet"

    def _recipe(self, keep: str) -> Path:
        recipe = load_corpus_recipe(
            "folder",
            (
                f"shard_clips={CLIPS_A_SHARD}",
                "extract.frame_size=64",
                f"embed.encoder={{architecture: '{ENCODER}', pretrained: null, precision: float32, batch_size: 8}}",
                "pack={name: default, clips_per_shard: 5}",
                f"download={{allow_private_addresses: true, retry_wait_seconds: 0.1, keep: {keep}}}",
                f"download.rate.folder={self.folder / 'budget'}",
            ),
        )
        path = self.folder / f"keep-{keep}.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        return path
