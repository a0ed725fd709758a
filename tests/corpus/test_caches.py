"""What a process remembers is keyed by what it stands for: a corpus begun anew at the same place is another corpus."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.media_world import world_recipe
from vidaudio.config.corpus import EncoderBlock
from vidaudio.corpus.corpus import Corpus, cached_corpus, create_or_open, open_corpus
from vidaudio.corpus.tombstones import read_tombstones, write_tombstones
from vidaudio.encoders.cache import cached_encoder
from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip, table_from_clips
from vidaudio.pipeline.stages.embed import encoder_identity
from vidaudio.shards.open import open_store
from vidaudio.shards.store import Store


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "corpus") if request.param == "folder" else f"memory://caches-{tmp_path.name}/corpus"


def wipe(url: str) -> None:
    store = open_store(url)
    for folder in ["", *store.folders("")]:
        for name in store.list(folder):
            store.remove(f"{folder}/{name}" if folder else name)


def clips(*ids: str) -> list[Clip]:
    return [Clip(id=clip_id, source=f"s:{clip_id}", dataset="d", url=f"/nowhere/{clip_id}.mp4") for clip_id in ids]


def begun(url: str, tiny_clip: Path) -> Corpus:
    return create_or_open(url, world_recipe(tiny_clip), table_from_clips(clips("a", "b")))


def grown(corpus: Corpus, ids: str) -> Corpus:
    from vidaudio.manifest.source import TableRows

    return corpus.grown(TableRows(table_from_clips(clips(*ids))), "added")


def test_removals_are_those_of_the_corpus_that_is_there(url: str, tiny_clip: Path):
    for removed in ("a", "b", "a"):
        store = begun(url, tiny_clip).store
        assert not read_tombstones(store)
        write_tombstones(store, {removed: f"s:{removed}"}, (), None)
        assert read_tombstones(store).ids == {removed}
        wipe(url)


def test_a_worker_s_corpus_is_the_one_that_its_task_was_made_for(url: str, tiny_clip: Path):
    """Settings, first list and number of parts are the same; only the second part differs."""
    for added in ("c", "d"):
        corpus = grown(begun(url, tiny_clip), added)
        kept = cached_corpus(corpus.ref)
        assert [clip.id for clip in kept.rows(1)] == [added]
        assert cached_corpus(open_corpus(url).ref) is kept, "opened once a process"
        wipe(url)


def test_a_task_of_a_corpus_that_is_gone_is_refused(url: str, tiny_clip: Path):
    old = grown(begun(url, tiny_clip), "c").ref
    wipe(url)
    grown(begun(url, tiny_clip), "d")
    with pytest.raises(CorpusError, match="was it deleted and begun anew"):
        cached_corpus(old)


def test_a_task_may_meet_its_corpus_grown(url: str, tiny_clip: Path):
    corpus = begun(url, tiny_clip)
    before = corpus.ref
    later = grown(corpus, "c")
    assert before.list_digest in later.list_digests()
    assert [clip.id for clip in cached_corpus(before).rows(0)] == ["a", "b"]


def test_a_file_that_was_replaced_has_another_version(url: str):
    store: Store = open_store(url)
    versions = set()
    for data in (b"one", b"two", b"one"):
        store.remove("x")
        assert store.create("x", data)
        versions.add(store.version("x"))
    # Equal contents may have equal versions; other contents never have.
    assert len(versions) >= 2


def test_an_encoder_whose_weights_were_replaced_is_loaded_anew(tiny_clip: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "encoder"
    shutil.copytree(tiny_clip, folder)
    block = EncoderBlock(architecture=str(folder), pretrained=None, precision="float32", batch_size=2)
    first, known = cached_encoder(block), encoder_identity(block)
    assert cached_encoder(block) is first
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    name = next(name for name, values in weights.items() if values.ndim == 2)
    save_file(weights | {name: weights[name] * 1.5}, path, metadata={"format": "pt"})
    assert cached_encoder(block) is not first
    assert encoder_identity(block).fingerprint != known.fingerprint
