"""A corpus that somebody else made: looking at it, packing and exporting it runs nothing that its files name."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from typer.testing import CliRunner

from vidaudio.cli.app import app
from vidaudio.config.corpus import CorpusRecipe, ExtractedMedia, FetchedMedia, PackBlock
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.corpus.stored_recipe import without_run_settings
from vidaudio.errors import RecipeError
from vidaudio.maintenance.export import export
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.build import pack

# Each writes a file named by the environment, in a process that evaluates or imports it.
CODE = "seconds.__init__.__globals__['__builtins__']['open'](PLACE, 'w')"
PANDAS_CODE = "@pd.compat.os.system('touch ' + PLACE)"
MODULE = """
import os, pathlib
pathlib.Path(os.environ["PLANTED_MARKER"]).write_text("imported")
from yt_dlp.extractor.common import InfoExtractor
class PlantedIE(InfoExtractor):
    _VALID_URL = "https?://.*"
"""


class Planted:
    """A copy of a corpus into which a stranger has written.

    Attributes:
        url: Of the copy.
        marker: A file that appears as soon as anything of the stranger's runs.
        door: Listens where the corpus says that a scheduler is.
    """

    def __init__(self, corpus: Corpus, folder: Path, expression: str) -> None:
        self.url = str(shutil.copytree(corpus.url, folder / "corpus", ignore=shutil.ignore_patterns("runs")))
        self.marker = folder / "marker"
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.setblocking(False)
        where = expression.replace("PLACE", repr(str(self.marker)))
        self.where = where
        run_settings = {
            "dask": {"scheduler": f"tcp://127.0.0.1:{self.door.getsockname()[1]}"},
            "download": {
                "extractors": ["planted_extractor:PlantedIE"],
                "ytdlp": {"proxy": f"http://127.0.0.1:{self.door.getsockname()[1]}"},
                "allow_private_addresses": True,
                "allow_file_urls": True,
            },
            "pack": {"where": where},
        }
        self.change("corpus.json", "recipe", run_settings)
        self.change("training/default/pack.json", "settings", {"where": where})

    def change(self, file: str, key: str, values: dict[str, Any]) -> None:
        path = Path(self.url, file)
        described = json.loads(path.read_text())
        for name, value in values.items():
            inner = described[key].get(name)
            described[key][name] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
        path.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")

    def ran(self) -> bool:
        """Whether anything of the stranger's ran, or was asked for."""
        try:
            self.door.accept()
        except BlockingIOError:
            return self.marker.exists()
        return True


@pytest.fixture(params=[CODE, PANDAS_CODE], ids=["attributes", "pandas"])
def planted(request, built_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "planted_extractor.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(modules))
    # An import is seen only where the module is not loaded yet.
    monkeypatch.delitem(sys.modules, "planted_extractor", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(modules), prepend=":")
    found = Planted(built_corpus, tmp_path, request.param)
    monkeypatch.setenv("PLANTED_MARKER", str(found.marker))
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # which hands these variables on
        yield found
    found.door.close()


def test_the_planted_code_would_run_if_anything_evaluated_it(planted: Planted, monkeypatch: pytest.MonkeyPatch):
    import planted_extractor

    assert planted_extractor.PlantedIE
    assert planted.ran()
    planted.marker.unlink()
    socket.create_connection(planted.door.getsockname()).close()
    assert planted.ran()


def test_status_and_verify_run_nothing_and_say_what_they_could_not_do(planted: Planted):
    assert corpus_status(planted.url).packs
    report = verify_corpus(planted.url, progress=False)
    assert not planted.ran()
    said = [note for note in report.notes if "the plan of training/default cannot be made again" in note]
    assert len(said) == 1
    assert "is not a selection over the columns of clips: at character" in said[0]
    for command in (["status", planted.url], ["verify", planted.url, "--quiet"]):
        result = CliRunner().invoke(app, command)
        assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not planted.ran()


def test_export_runs_nothing(planted: Planted, tmp_path: Path):
    export(planted.url, tmp_path / "all", pack="default", progress=False)
    with pytest.raises(RecipeError, match=r"--where .* is not a selection"):
        export(planted.url, tmp_path / "some", where=planted.where, progress=False)
    assert not planted.ran()


def test_pack_runs_nothing_neither_by_the_corpus_recipe_nor_by_ones_own(planted: Planted):
    with pytest.raises(RecipeError, match=r"pack\.where .* is not a selection over the columns of clips"):
        pack(planted.url, progress=False)
    assert not planted.ran()
    status = pack(planted.url, PackBlock(name="own", where="not silent"), progress=False)
    assert "own" in {found.name for found in status.packs}
    assert not planted.ran()


def test_an_expression_that_only_pandas_could_read_does_not_break_verify(built_corpus: Corpus, tmp_path: Path):
    old = Planted(built_corpus, tmp_path, "seconds ** 2 > 0")
    report = verify_corpus(old.url, progress=False)
    old.door.close()
    assert any("there is no power here; multiply" in note for note in report.notes)
    assert corpus_status(old.url).packs


def test_no_setting_of_a_run_is_kept_or_believed(built_corpus: Corpus, tmp_path: Path):
    """Whatever a recipe gets as a setting of a run later on: identity and settings together are all of it."""
    rate = {"requests_per_hour": 3.0}
    download = {"extractors": ["a:B"], "ytdlp": {"proxy": "http://user:secret@host"}, "rate": rate}
    download |= {"allow_private_addresses": True, "allow_file_urls": True}
    recipe = CorpusRecipe(download=download, dask={"workers": 1}, embed=built_corpus.settings.embed)
    create_or_open(str(tmp_path / "corpus"), recipe, built_corpus.manifest())
    stored = json.loads((tmp_path / "corpus" / "corpus.json").read_text())["recipe"]
    assert "secret" not in json.dumps(stored)
    assert set(stored["download"]) == set(FetchedMedia.model_fields)
    assert set(stored["extract"]) == set(ExtractedMedia.model_fields)
    assert "dask" not in stored


@pytest.mark.parametrize(
    "recipe",
    [None, [], "text", 3, {"download": 3}, {"dask": []}, {"pack": {"name": "x"}}, {"extract": {"frame_size": 8}}],
)
def test_what_is_no_recipe_passes_to_the_one_who_says_so(recipe: Any):
    kept = without_run_settings(recipe)
    assert kept == ({} if recipe == {"dask": []} else recipe)
