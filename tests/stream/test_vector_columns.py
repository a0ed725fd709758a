"""Vectors of several encoders in one pack: each kind is cut by its own rule, and read only when it is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.further_vectors import (
    HOP_SECONDS,
    PICTURES,
    SOUND,
    TEXT,
    WINDOW_SECONDS,
    WITHOUT_TEXT,
    as_before,
    own_encoder,
    vector_of,
)
from tests.media_world import pack_here
from tests.packed import make_packed
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, UsageError
from vidaudio.shards.commit import read_table, table_name
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape, open_index, shard_urls, webdataset
from vidaudio.stream.index import INDEX_FILE, read_index, write_index
from vidaudio.stream.order import TEXTS, WINDOWS, generator
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.vector_columns import VectorColumn
from vidaudio.stream.windows import Window

SHAPE = WindowShape(frames=3, samples=32_000)
CONFIG = StreamConfig(split="train", sources=2, shape=SHAPE, batch_size=5, seed=7, block_shards=2)


@pytest.fixture(scope="module")
def corpus(further_corpus: Corpus) -> Corpus:
    return further_corpus


@pytest.fixture(scope="module")
def own(corpus: Corpus) -> str:
    return own_encoder(corpus)


@pytest.fixture(scope="module")
def packed(packed_with_further: str) -> str:
    return packed_with_further


@pytest.fixture(scope="module")
def clips(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """The av row of each clip, with the start of its cut and its labels."""
    found = {}
    for shard in range(corpus.shards):
        rows = {clip.id: clip for clip in corpus.rows(shard)}
        for row in read_table(corpus.store, table_name("av", shard))[0].to_pylist():
            clip = rows[row["id"]]
            found[row["id"]] = row | {"start_seconds": clip.start_seconds, "labels": clip.labels}
    return found


def texts_of(clip: dict[str, Any]) -> list[str]:
    if clip["id"] == WITHOUT_TEXT:
        return []
    return [text for label in clip["labels"] for text in (label, f"a sound of {label}", f"{label}, far away")]


def starts_of(clip: dict[str, Any], described: dict[str, Any]) -> list[float]:
    """Starts of the windows of time of a sample, on its own clock, worked out from the clip's own."""
    every = [clip["audio_start_seconds"] + HOP_SECONDS * n for n in range(200)]
    every = [s for s in every if s == every[0] or s + WINDOW_SECONDS <= every[0] + clip["samples"] / 16_000]
    shift = described["start_seconds"] - clip["start_seconds"]
    if described["samples"] == clip["samples"]:
        return every
    end = shift + described["samples"] / 16_000
    return [s - shift for s in every if s < end and s + WINDOW_SECONDS > shift]


def samples_of(packed: str) -> dict[str, dict[str, Any]]:
    return {sample["__key__"]: sample for sample in webdataset(shard_urls(packed))}


class TestPacked:
    def test_every_sample_holds_its_own_vectors_of_every_encoder(self, packed, own, clips):
        cut = 0
        for key, sample in samples_of(packed).items():
            described = sample["json"]
            clip = clips[described["id"]]
            shift = described["start_seconds"] - clip["start_seconds"]
            further = sample["further_vectors"]
            assert list(further) == sorted((PICTURES, SOUND, TEXT))
            assert sample["vectors"].shape == (len(described["frame_seconds"]), 32)
            seconds = [
                s for s in clip["frame_seconds"] if any(abs(s - shift - t) < 1e-5 for t in described["frame_seconds"])
            ]
            assert np.array_equal(further[PICTURES], [vector_of("frames", clip["id"], s) for s in seconds])
            starts = starts_of(clip, described)
            assert np.allclose(described["vectors_seconds"][SOUND], starts, atol=1e-5)
            told = [clip["audio_start_seconds"] + HOP_SECONDS * n for n in range(200)]
            told = [s for s in told if any(abs(s - shift * (key != clip["id"]) - t) < 1e-5 for t in starts)]
            assert np.array_equal(further[SOUND], [vector_of("sound", clip["id"], s) for s in told])
            assert described["vectors_texts"] == {TEXT: texts_of(clip)}
            assert further[TEXT].shape == (len(texts_of(clip)), 12)
            assert all(
                np.array_equal(v, vector_of("text", clip["id"], t))
                for v, t in zip(further[TEXT], texts_of(clip), strict=True)
            )
            cut += key != clip["id"]
        assert cut > 2

    def test_the_index_and_pack_json_name_them_the_corpus_own_first(self, packed, own):
        index, described = open_index(packed), json.loads(Path(packed, "pack.json").read_text())
        found = [(c.encoder, c.member, c.input, c.dimensions) for c in index.vectors]
        assert found == [
            (own, "clip.npy", "frames", 32),
            (SOUND, f"{SOUND}.npy", "sound", 8),
            (TEXT, f"{TEXT}.npy", "text", 12),
            (PICTURES, f"{PICTURES}.npy", "frames", 16),
        ]
        keys = ("encoder", "member", "input", "dimensions")
        assert described["vectors"] == [dict(zip(keys, column, strict=True)) for column in found]
        assert described["encoder"] == own
        assert (index.encoder, index.dimensions) == (index.vectors[0].fingerprint, 32)

    def test_a_pack_without_the_corpus_own_has_no_member_of_it(self, corpus):
        url = pack_here(corpus, corpus.pack.model_copy(update={"name": "sound", "vectors": (SOUND,)}))
        assert [column.encoder for column in open_index(url).vectors] == [SOUND]
        for sample in samples_of(url).values():
            assert "vectors" not in sample
            assert list(sample["further_vectors"]) == [SOUND]
        batch = next(iter(MixtureStream(url, CONFIG)))
        assert batch["vectors"].shape == (5, 2, 4, 8)
        with pytest.raises(CorpusError, match=f"partners='distant' compares pictures .* those of {SOUND} \\(sound\\)"):
            MixtureStream(url, replace(CONFIG, partners="distant"))

    def test_the_same_bytes_with_and_without_an_input_cache(self, corpus, packed, monkeypatch):
        from vidaudio.packs.input_cache import sources_folder, write_sources
        from vidaudio.packs.plan import begin_pack, plan_pack
        from vidaudio.packs.vectors import packed_columns
        from vidaudio.packs.write import pack_shard
        from vidaudio.pipeline.stages.embed import prepare_encoder

        encoder = prepare_encoder(corpus)
        was = json.loads(Path(packed, "pack.json").read_text())["settings"]
        block = corpus.pack.model_validate(was | {"name": "cached"})
        plan = plan_pack(corpus, block, {"embed": encoder})
        begin_pack(corpus, plan, {"embed": encoder})
        tasks = plan.tasks.reading(sources_folder(plan.plan_hash))
        for shard in tasks.source_shards().tolist():
            assert write_sources(corpus, shard, packed_columns(corpus.store, block, encoder), tasks.sources)
        monkeypatch.setattr("vidaudio.packs.gather.from_tables", None)
        for task in tasks:
            pack_shard(corpus, task, {"embed": encoder})
        for path in Path(packed).glob("*.tar"):
            assert Path(corpus.url, plan.folder, path.name).read_bytes() == path.read_bytes()
        shutil.rmtree(Path(corpus.url, plan.folder))


def run_around(starts: list[float], middle: float, count: int) -> list[int]:
    """The rows of the consecutive windows of time whose common middle is nearest; the last repeated."""
    inside = min(count, len(starts))
    runs = [list(range(first, first + inside)) for first in range(len(starts) - inside + 1)]
    best = min(runs, key=lambda run: abs((starts[run[0]] + starts[run[-1]] + WINDOW_SECONDS) / 2 - middle))
    return best + [best[-1]] * (count - inside)


class TestBatches:
    def test_they_equal_a_slow_formula(self, packed, own, clips):
        stream = MixtureStream(packed, replace(CONFIG, vectors=(own, PICTURES, SOUND, TEXT)))
        reader, rate = SampleReader(stream.index), stream.index.sample_rate
        keys = stream.index.table["key"].to_pylist()
        samples, seen = samples_of(packed), set()
        for batch in islice(iter(stream), 12):
            for place, position in enumerate(stream.positions(batch["step"])):
                rng = generator(WINDOWS, CONFIG.seed, position)
                draws = generator(TEXTS, CONFIG.seed, position).random(2)
                for slot in range(2):
                    row = int(batch["rows"][place, slot])
                    window = stream.windows.random(row, rng)
                    sample = samples[keys[row]]
                    got = {name: vectors[place, slot].numpy() for name, vectors in batch["vectors"].items()}
                    assert np.array_equal(got[own], sample["vectors"][list(window.frames)])
                    assert np.array_equal(got[PICTURES], sample["further_vectors"][PICTURES][list(window.frames)])
                    middle = sample["json"]["audio_start_seconds"] + (window.first_sample + 16_000) / rate
                    rows = run_around(sample["json"]["vectors_seconds"][SOUND], middle, 4)
                    assert np.array_equal(got[SOUND], sample["further_vectors"][SOUND][rows])
                    texts = sample["further_vectors"][TEXT]
                    assert np.array_equal(got[TEXT], texts[[int(draws[slot] * len(texts))]])
                    seen.add((keys[row], got[TEXT].tobytes()))
                    for name, vectors in got.items():
                        assert np.array_equal(vectors, reader.window_vectors(row, window, name, draw=draws[slot]))
        assert len(seen) > 1.5 * len({key for key, _ in seen})

    def test_a_name_gives_an_array_a_tuple_a_dictionary_and_the_rest_stays_as_it_is(self, packed, own):
        whole = list(islice(iter(MixtureStream(packed, CONFIG)), 4))
        every = list(islice(iter(MixtureStream(packed, replace(CONFIG, vectors=(own, SOUND, TEXT)))), 4))
        for asked in (own, PICTURES, SOUND, TEXT, (TEXT,), ()):
            stream = MixtureStream(packed, replace(CONFIG, vectors=asked))
            for batch, first, all_ in zip(islice(iter(stream), 4), whole, every, strict=True):
                assert all(torch.equal(batch[key], first[key]) for key in ("audio", "rows", "gains", "corpora"))
                if isinstance(asked, tuple):
                    assert set(batch["vectors"]) == set(asked)
                elif asked in all_["vectors"]:
                    assert torch.equal(batch["vectors"], all_["vectors"][asked])
                assert torch.equal(first["vectors"], all_["vectors"][own])
                assert {name: tuple(v.shape[2:]) for name, v in all_["vectors"].items()} == {
                    own: (3, 32),
                    SOUND: (4, 8),
                    TEXT: (1, 12),
                }

    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
    def test_texts_are_a_function_of_seed_and_position(self, packed):
        config = replace(CONFIG, vectors=(TEXT, SOUND))
        whole = [batch["vectors"] for batch in islice(iter(MixtureStream(packed, config)), 9)]

        def equal(found: Iterator[dict], wanted: list[dict]) -> bool:
            pairs = zip(islice(found, len(wanted)), wanted, strict=True)
            return all(torch.equal(batch["vectors"][name], one[name]) for batch, one in pairs for name in one)

        assert equal(iter(MixtureStream(packed, config, start_step=4)), whole[4:])
        assert equal(iter(MixtureStream(packed, config).loader(workers=3, prefetch=2)), whole)
        resumed = MixtureStream(packed, config)
        resumed.load_state_dict(MixtureStream(packed, config).state_dict(6))
        assert equal(iter(resumed), whole[6:])
        ranks = [list(islice(iter(MixtureStream(packed, config, rank=r, world_size=2)), 9)) for r in range(2)]
        for step, one in enumerate(whole):
            for name in one:
                assert torch.equal(torch.cat([rank[step]["vectors"][name] for rank in ranks]), one[name])
        assert not equal(iter(MixtureStream(packed, replace(config, seed=8))), whole)

    def test_vectors_that_are_not_asked_for_are_not_read(self, packed, own, monkeypatch):
        read = []
        original = SampleReader.vectors
        monkeypatch.setattr(
            SampleReader,
            "vectors",
            lambda self, row, encoder=None: read.append(encoder) or original(self, row, encoder),
        )
        next(iter(MixtureStream(packed, replace(CONFIG, vectors=(TEXT, PICTURES)))))
        assert set(read) == {TEXT, PICTURES}
        read.clear()
        next(iter(MixtureStream(packed, replace(CONFIG, vectors=()))))
        assert not read

    def test_what_a_pack_lacks_is_refused_in_a_sentence(self, packed, own):
        with pytest.raises(
            CorpusError, match=rf"no vectors of 'clap'; it holds those of {own} \(frames\), {SOUND} \(s"
        ):
            MixtureStream(packed, replace(CONFIG, vectors="clap"))
        evaluation = replace(CONFIG, split="val", sources=1, shuffle=False)
        MixtureStream(packed, replace(evaluation, vectors=SOUND))
        with pytest.raises(CorpusError, match=rf"split val: 1 sample has no vector of {TEXT} .* clock the first"):
            MixtureStream(packed, replace(evaluation, vectors=TEXT))
        for wrong in ("", (SOUND, SOUND), [SOUND], 3, ("",)):
            with pytest.raises(UsageError, match="vectors must be None, the name of an encoder, or a tuple"):
                StreamConfig(vectors=wrong)


class TestWindowsOfTime:
    @pytest.mark.parametrize(
        ("hop", "samples", "count"), [(1.0, 65_535, 4), (4.096, 65_535, 1), (10.0, 65_535, 1), (0.5, 16_000, 2)]
    )
    def test_as_many_as_hops_fit_into_the_window(self, hop, samples, count):
        column = VectorColumn("x", "x.npy", "sound", 4, {"hop_seconds": hop, "window_seconds": 1.0})
        assert column.per_window(3, samples / 16_000) == count

    @pytest.mark.parametrize("seed", range(20))
    def test_they_are_the_run_nearest_to_the_middle_and_overlap_the_window(self, seed):
        draw = np.random.default_rng(seed)
        hop, own = draw.uniform(0.2, 2), draw.uniform(0.2, 5)
        column = VectorColumn("x", "x.npy", "sound", 4, {"hop_seconds": hop, "window_seconds": own})
        starts = draw.uniform(-1, 1) + hop * np.arange(draw.integers(1, 30))
        seconds = draw.uniform(0.5, 6)
        count = column.per_window(3, seconds)
        for middle in draw.uniform(starts[0], starts[-1] + own, 20):
            rows = column.rows_around(starts, middle, count)
            inside = min(count, len(starts))
            runs = [np.arange(first, first + inside) for first in range(len(starts) - inside + 1)]
            away = [abs((starts[run[0]] + starts[run[-1]] + own) / 2 - middle) for run in runs]
            best = runs[int(np.argmin(away))]
            assert rows.tolist() == best.tolist() + [best[-1]] * (count - inside)
            if inside == count and starts[0] + own / 2 + seconds / 2 < middle < starts[-1] + own / 2 - seconds / 2:
                assert (starts[rows] < middle + seconds / 2).all()
                assert (starts[rows] + own > middle - seconds / 2).all()


class TestOldPacks:
    def test_they_have_one_column_of_pictures(self, built_corpus, own, tmp_path):
        folder = Path(shutil.copytree(built_corpus.url, tmp_path / "corpus")) / "training" / "default"
        new = MixtureStream(str(folder), CONFIG)
        wanted = list(islice(iter(new), 3))
        as_before(folder)
        old = MixtureStream(str(folder), CONFIG)
        assert old.index.vectors == new.index.vectors
        assert old.index.table.equals(new.index.table)
        for config in (CONFIG, replace(CONFIG, vectors=own)):
            for batch, other in zip(islice(iter(MixtureStream(str(folder), config)), 3), wanted, strict=True):
                assert all(torch.equal(batch[key], other[key]) for key in ("audio", "vectors", "gains", "rows"))
        assert all("further_vectors" not in sample for sample in samples_of(str(folder)).values())
        mixed = MixtureStream({str(folder): 1, built_corpus.url: 1}, replace(CONFIG, vectors=own))
        assert next(iter(mixed))["vectors"].shape == (5, 2, 3, 32)

    def test_an_encoder_that_is_hardly_described_has_a_column_too(self, tmp_path):
        url = make_packed(tmp_path, {"dimensions": 4}, clips_per_split={"train": 4})
        assert open_index(str(url)).vectors == (VectorColumn("unknown", dimensions=4),)
        assert SampleReader(open_index(str(url))).vectors(0).shape == (4, 4)


def good(pack: Path) -> tuple[pa.Table, dict[str, Any]]:
    table, described, _ = read_index(pa.BufferReader((pack / INDEX_FILE).read_bytes()))
    return table.replace_schema_metadata(None), described


LIES = {
    "no list": lambda vectors: "x",
    "an empty list": lambda vectors: [],
    "too many": lambda vectors: [vectors[1] | {"encoder": f"e{n}", "member": f"e{n}.npy"} for n in range(40)],
    "a name that leads away": lambda vectors: [vectors[0] | {"encoder": "../../x"}],
    "a hidden name": lambda vectors: [vectors[0] | {"encoder": ".x"}],
    "another member": lambda vectors: [*vectors[:1], vectors[1] | {"member": "json"}, *vectors[2:]],
    "a member of the corpus's own": lambda vectors: [*vectors[:1], vectors[1] | {"member": "clip.npy"}, *vectors[2:]],
    "one twice": lambda vectors: [*vectors, vectors[1]],
    "of smells": lambda vectors: [*vectors[:1], vectors[1] | {"input": "smells"}, *vectors[2:]],
    "other dimensions": lambda vectors: [*vectors[:1], vectors[1] | {"dimensions": 7}, *vectors[2:]],
    "no fingerprint": lambda vectors: [{k: v for k, v in vectors[0].items() if k != "fingerprint"}, *vectors[1:]],
    "no hop": lambda vectors: [
        *vectors[:1],
        vectors[1] | {"fingerprint": {**vectors[1]["fingerprint"], "hop_seconds": 0}},
        *vectors[2:],
    ],
    "an endless window": lambda vectors: [
        *vectors[:1],
        vectors[1] | {"fingerprint": {**vectors[1]["fingerprint"], "window_seconds": float("inf")}},
        *vectors[2:],
    ],
    "a column that is not there": lambda vectors: [*vectors, vectors[1] | {"encoder": "more", "member": "more.npy"}],
}


class TestForeignPacks:
    @pytest.mark.parametrize("lie", sorted(LIES))
    def test_a_description_of_vectors_that_no_pack_has_is_named(self, packed, tmp_path, lie):
        copy = Path(shutil.copytree(packed, tmp_path / "pack"))
        table, described = good(copy)
        (copy / INDEX_FILE).unlink()
        write_index(copy / INDEX_FILE, table, described | {"vectors": LIES[lie](described["vectors"])})
        with pytest.raises(CorpusError, match="is not an index of ours"):
            open_index(str(copy))

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            (f"vectors_offset_{TEXT}", -1),
            (f"vectors_length_{PICTURES}", 1 << 62),
            (f"vectors_length_{SOUND}", 128),
            (f"vectors_seconds_{SOUND}", [0.0]),
            (f"vectors_seconds_{SOUND}", None),
        ],
    )
    def test_a_value_that_no_pack_has_is_named(self, packed, tmp_path, column, value):
        copy = Path(shutil.copytree(packed, tmp_path / "pack"))
        table, described = good(copy)
        rows = table.to_pylist()
        rows[1] |= {column: value}
        (copy / INDEX_FILE).unlink()
        write_index(copy / INDEX_FILE, pa.Table.from_pylist(rows, schema=table.schema), described)
        with pytest.raises(CorpusError, match="is not an index of ours"):
            open_index(str(copy))

    @pytest.mark.parametrize("wrong", [[2.0, 1.0], [0.0, float("nan")], [1.0, 1.0]])
    def test_windows_of_time_increase(self, packed, tmp_path, wrong):
        copy = Path(shutil.copytree(packed, tmp_path / "pack"))
        table, described = good(copy)
        rows = table.to_pylist()
        name = f"vectors_seconds_{SOUND}"
        rows[0][name] = wrong + rows[0][name][2:]
        (copy / INDEX_FILE).unlink()
        write_index(copy / INDEX_FILE, pa.Table.from_pylist(rows, schema=table.schema), described)
        with pytest.raises(CorpusError, match="is not an index of ours"):
            open_index(str(copy))

    def test_a_garbled_vector_is_damage_of_its_sample(self, packed, tmp_path):
        copy = Path(shutil.copytree(packed, tmp_path / "pack"))
        index = open_index(str(copy), "train")
        tar = copy / index.tars[int(index.column("shard")[0])]
        data = bytearray(tar.read_bytes())
        data[int(index.column(f"vectors_offset_{SOUND}")[0]) + 1] ^= 1
        tar.write_bytes(data)
        config = replace(CONFIG, sources=1, shuffle=False, gain_range=None)
        assert sum(batch["replaced"] for batch in MixtureStream(str(copy), replace(config, vectors=SOUND))) == 1
        assert not sum(batch["replaced"] for batch in MixtureStream(str(copy), replace(config, vectors=TEXT)))

    def test_a_window_of_a_short_sample_repeats_the_last_vector(self, packed):
        reader = SampleReader(open_index(packed))
        every = reader.vectors(0, SOUND)
        found = reader.window_vectors(0, Window((0,), 0, 16_000 * 60), SOUND)
        assert np.array_equal(found[: len(every)], every)
        assert np.array_equal(found[len(every) :], np.repeat(every[-1:], 120 - len(every), axis=0))
