"""Croissant metadata of a corpus: what it describes is there, and others can read it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.report.report_world import copy_of
from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.report.corpus import CorpusReport, report


def test_croissant_describes_the_tables_that_are_there(scored_report: CorpusReport, scored_corpus: str):
    described = json.loads(scored_report.croissant.read_text())
    assert described["@type"] == "sc:Dataset"
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert described["@context"]["cr"] == "http://mlcommons.org/croissant/"
    ids = [each["@id"] for each in described["distribution"]]
    ids += [record["@id"] for record in described["recordSet"]]
    ids += [field["@id"] for record in described["recordSet"] for field in record["field"]]
    assert len(ids) == len(set(ids))
    files = {each["@id"]: each for each in described["distribution"]}
    for each in files.values():
        assert each["@type"] in ("cr:FileObject", "cr:FileSet")
        if each["@type"] == "cr:FileSet":
            assert list(Path(scored_corpus).glob(each["includes"])), each["includes"]
        else:
            assert Path(scored_corpus, each["contentUrl"]).stat().st_size == int(each["contentSize"].split()[0])
            assert re.fullmatch("[0-9a-f]{64}", each["sha256"])
    for record in described["recordSet"]:
        for field in record["field"]:
            assert field["source"]["fileSet"]["@id"] in files
            assert field.get("references", {"field": {"@id": "list/id"}})["field"]["@id"] in ids
            pattern = files[field["source"]["fileSet"]["@id"]]["includes"]
            table = parquet.read_schema(next(iter(sorted(Path(scored_corpus).glob(pattern)))))
            assert field["source"]["extract"]["column"] in table.names
    assert f"{scored_report.facts.clips:,} clips" in described["description"]
    assert "license" not in described


def test_mlcroissant_accepts_it(scored_report: CorpusReport, scored_corpus: str, tmp_path: Path):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    copy = copy_of(scored_corpus, tmp_path)
    shutil.copy(scored_report.croissant, copy / "croissant.json")
    dataset = mlcroissant.Dataset(str(copy / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("facts"))
    assert len(records) == scored_report.facts.clips


def test_verify_knows_the_metadata_in_the_corpus_s_folder(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    report(str(copy), tmp_path / "r.html", clips=0, croissant=copy / "croissant.json", progress=False)
    assert "croissant" not in str(verify_corpus(str(copy), progress=False))


def test_scores_at_chance_are_said_to_mean_nothing(scored_corpus: str, tmp_path: Path):
    copy = copy_of(scored_corpus, tmp_path)
    facts = copy / "scorers" / "default" / "facts.json"
    for above, shown in ((True, False), (False, True)):
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"above_chance": above}))
        made = report(str(copy), tmp_path / f"{above}.html", clips=0, croissant=tmp_path / "c.json", progress=False)
        page = (tmp_path / f"{above}.html").read_text()
        assert (AT_CHANCE in page) is shown
        assert ("estimated not to correspond" in page) is not shown
        assert ("An estimated" in made.croissant.read_text()) is not shown
