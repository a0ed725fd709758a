"""A corpus that somebody else made: nothing is written, deleted, asked for or run outside it because it says so."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, VidaudioError
from vidaudio.maintenance.export import export
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.stages.embed import recorded_encoder
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, write_checksum
from vidaudio.shards.commit import encode_table, read_table


@pytest.fixture
def foreign(built_corpus: Corpus, tmp_path: Path) -> Path:
    """A copy of the built corpus, deep enough for `../../` to lead somewhere of this test's."""
    return Path(shutil.copytree(built_corpus.url, tmp_path / "a" / "b" / "corpus"))


def renamed_in(folder: Path, old: str, new: str) -> None:
    """Give a clip another id in the list and in every table, with seals that hold."""
    store = open_corpus(str(folder)).store
    for table_at in sorted(folder.glob("av/*.parquet")) + sorted(folder.glob("clips/*.parquet")):
        table, record = read_table(store, str(table_at.relative_to(folder)))
        table_at.write_bytes(encode_table(_renamed(table, old, new), record))
    path = folder / "manifest.parquet"
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata) | {SEAL_KEY: OPEN_SEAL}
    pq.write_table(_renamed(table, old, new).replace_schema_metadata(metadata), path, compression="zstd")
    write_checksum(path)


def _renamed(table: pa.Table, old: str, new: str) -> pa.Table:
    ids = [new if clip == old else clip for clip in table["id"].to_pylist()]
    return table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids, pa.string()))


def test_an_id_that_leads_out_is_refused_and_nothing_is_written(foreign: Path, tmp_path: Path) -> None:
    renamed_in(foreign, "bars", "../../../escaped")
    before = sorted(path for path in tmp_path.rglob("*") if foreign not in path.parents)
    for act in (
        lambda: export(str(foreign), tmp_path / "out", progress=False),
        lambda: remove(str(foreign), ["clock"], progress=False),
        lambda: open_corpus(str(foreign)).rows(0),
    ):
        with pytest.raises(CorpusError, match=r"escaped|column id"):
            act()
    assert not verify_corpus(str(foreign), progress=False).ok
    after = sorted(path for path in tmp_path.rglob("*") if foreign not in path.parents and "escaped" in path.name)
    assert not after
    assert set(before) <= set(tmp_path.rglob("*"))


def test_a_table_that_names_a_tar_behind_a_link_deletes_nothing(foreign: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / "000000.tar"
    store = open_corpus(str(foreign)).store
    table_at = foreign / "av" / "000000.parquet"
    table, record = read_table(store, "av/000000.parquet")
    shutil.copyfile(foreign / "av" / record.tar, precious)
    (foreign / "av" / "linked").symlink_to(outside)
    table_at.write_bytes(encode_table(table, replace(record, tar="linked/000000.tar")))
    with pytest.raises(VidaudioError):
        remove(str(foreign), [table["id"][0].as_py()], progress=False)
    assert precious.exists()
    # A whole folder that is a link out.
    table_at.write_bytes(encode_table(table, record))
    shutil.move(foreign / "av", outside / "av")
    (foreign / "av").symlink_to(outside / "av")
    kept = sorted(path.name for path in (outside / "av").iterdir())
    with pytest.raises(VidaudioError, match="not followed"):
        remove(str(foreign), [table["id"][0].as_py()], progress=False)
    with pytest.raises(VidaudioError, match="not followed"):
        verify_corpus(str(foreign), progress=False)
    assert sorted(path.name for path in (outside / "av").iterdir()) == kept


def test_what_a_corpus_says_of_its_run_is_not_taken(foreign: Path) -> None:
    described = json.loads((foreign / "corpus.json").read_text())
    before = open_corpus(str(foreign)).settings
    described["recipe"] |= {"dask": {"scheduler": "tcp://203.0.113.7:8786"}, "corpus": "/elsewhere"}
    described["recipe"]["download"] |= {"ytdlp": {"exec": "touch /tmp/x"}, "rate": {"folder": "/elsewhere"}}
    (foreign / "corpus.json").write_text(json.dumps(described))
    # A corpus has no place for such settings, and what it has is as before.
    assert open_corpus(str(foreign)).settings == before


def test_an_encoder_that_a_corpus_names_is_not_needed_to_pack(foreign: Path) -> None:
    described = json.loads((foreign / "corpus.json").read_text())
    (about,) = foreign.glob("embeddings/*/encoder.json")
    told = json.loads(about.read_text())
    described["recipe"]["embed"]["encoder"] |= {"architecture": "hf-hub:nobody/nothing"}
    (foreign / "corpus.json").write_text(json.dumps(described))
    with pytest.raises(VidaudioError, match="nothing is fetched"):
        recorded_encoder(open_corpus(str(foreign)))
    report = verify_corpus(str(foreign), progress=False)
    assert any("--trust-encoder" in note for note in report.notes)
    described["recipe"]["embed"]["encoder"] |= {"architecture": told["architecture"]}
    (foreign / "corpus.json").write_text(json.dumps(described))
    assert recorded_encoder(open_corpus(str(foreign))) == about.parent.name


@pytest.mark.parametrize(
    "name", ["corpus.json", "manifest.parquet", "av/000000.parquet", "training/default/index.arrow"]
)
def test_a_garbled_file_is_a_sentence(foreign: Path, tmp_path: Path, name: str) -> None:
    path = foreign / name
    whole = path.read_bytes()
    chance = random.Random(name)
    for number in range(12):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[chance.randrange(len(data)) :]
        elif number % 3 == 1:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            place = chance.randrange(len(data) - 8)
            data[place : place + 8] = b"\xff" * 8
        path.unlink()
        path.write_bytes(data)
        for act in (
            lambda: corpus_status(str(foreign)),
            lambda: export(str(foreign), tmp_path / f"out{number}", progress=False),  # noqa: B023
            lambda: verify_corpus(str(foreign), sample=0.0, progress=False),
        ):
            try:
                act()
            except VidaudioError as error:
                assert "\n" not in str(error)  # noqa: PT017 - a sentence or an answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"format": 1}',
        "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        '{"format": 1, "x": "\\ud800"}',
    ],
    ids=range(8),
)
def test_a_description_that_is_none_is_a_sentence(foreign: Path, text: str) -> None:
    (foreign / "corpus.json").write_text(text)
    with pytest.raises(CorpusError, match=r"corpus\.json|corpus format"):
        open_corpus(str(foreign))


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": -1},
        {"shards": 1 << 60},
        {"shards": "4"},
        {"clips": None},
        {"plan_hash": 7},
        {"recipe": []},
        {"recipe": 5},
    ],
)
def test_a_description_that_no_build_writes_is_a_sentence(foreign: Path, changes: dict) -> None:
    described = json.loads((foreign / "corpus.json").read_text())
    (foreign / "corpus.json").write_text(json.dumps(described | changes))
    with pytest.raises(CorpusError, match="does not describe a corpus"):
        open_corpus(str(foreign))
