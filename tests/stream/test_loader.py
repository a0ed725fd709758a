"""The loader: one stream of batches, whatever reads it and wherever it begins."""

from __future__ import annotations

import pickle
import shutil
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stream.synthetic import write_shards
from vidaudio.errors import CorpusError, UsageError
from vidaudio.shards.open import open_store
from vidaudio.stream import EpochLoader, MixtureStream, StreamConfig, WindowShape, open_index
from vidaudio.stream.index import INDEX_FILE
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Window, Windows

# Windows of a second, so that short clips have many and a sample is seldom drawn twice the same way.
SHAPE = WindowShape(frames=3, samples=16_000)
CONFIG = StreamConfig(split="train", sources=2, shape=SHAPE, batch_size=5, seed=7, block_shards=2)


@pytest.fixture(scope="module")
def packed(packed_as: Callable[..., str]) -> str:
    """PCM in segments of 8 s, so that one clip is several samples of one source."""
    return packed_as("short-pcm16", max_segment_seconds=8.0, audio="pcm16")


def first(count: int, stream: MixtureStream, workers: int = 0) -> list[dict]:
    return list(islice(iter(stream.loader(workers=workers, prefetch=2) if workers else stream), count))


def same(one: dict, other: dict) -> bool:
    return one["step"] == other["step"] and all(
        torch.equal(one[key], other[key]) for key in ("audio", "vectors", "gains", "rows")
    )


class TestOneStream:
    def test_batches_have_the_shapes_and_types_that_are_promised(self, packed):
        stream = MixtureStream(packed, CONFIG)
        batch = next(iter(stream))
        assert (batch["audio"].dtype, batch["audio"].shape) == (torch.int16, (5, 2, 16_000))
        assert (batch["vectors"].dtype, batch["vectors"].shape) == (torch.float16, (5, 2, 3, 32))
        assert (batch["gains"].dtype, batch["gains"].shape) == (torch.float32, (5, 2))
        assert batch["gains"].min() >= 0.5
        assert batch["gains"].max() <= 1.5
        assert (batch["rows"].dtype, batch["rows"].shape) == (torch.int64, (5, 2))
        assert batch["step"] == 0
        assert batch["audio"].abs().float().mean(-1).min() > 0

    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
    @pytest.mark.parametrize("workers", [1, 3])
    def test_workers_do_not_change_it(self, packed, workers):
        expected = first(10, MixtureStream(packed, CONFIG))
        got = first(10, MixtureStream(packed, CONFIG), workers)
        assert all(same(a, b) for a, b in zip(expected, got, strict=True))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_it_resumes_at_the_optimisers_step(self, packed, workers):
        expected = first(12, MixtureStream(packed, CONFIG))[7:]
        resumed = MixtureStream(packed, CONFIG)
        resumed.load_state_dict(MixtureStream(packed, CONFIG).state_dict(7))
        assert all(same(a, b) for a, b in zip(expected, first(5, resumed, workers), strict=True))
        assert all(
            same(a, b) for a, b in zip(expected, first(5, MixtureStream(packed, CONFIG, start_step=7)), strict=True)
        )

    @pytest.mark.parametrize("world_size", [2, 3, 5])
    def test_ranks_divide_each_batch_in_order(self, packed, world_size):
        whole = first(8, MixtureStream(packed, CONFIG))
        ranks = [first(8, MixtureStream(packed, CONFIG, rank=r, world_size=world_size)) for r in range(world_size)]
        for step, expected in enumerate(whole):
            joined = {
                key: torch.cat([rank[step][key] for rank in ranks]) for key in ("audio", "vectors", "gains", "rows")
            }
            assert same(expected, joined | {"step": step})

    def test_it_depends_on_the_seed(self, packed):
        other = StreamConfig(**{**fields(CONFIG), "seed": 8})
        ours, theirs = first(4, MixtureStream(packed, CONFIG)), first(4, MixtureStream(packed, other))
        assert not all(torch.equal(a["rows"], b["rows"]) for a, b in zip(ours, theirs, strict=True))
        assert not torch.equal(ours[0]["gains"], theirs[0]["gains"])

    def test_a_stream_that_has_been_read_can_be_pickled_and_goes_on(self, packed):
        stream = MixtureStream(packed, CONFIG)
        expected = first(3, stream)
        copied = pickle.loads(pickle.dumps(stream))
        assert all(same(a, b) for a, b in zip(expected, first(3, copied), strict=True))


def fields(config: StreamConfig) -> dict:
    return {name: getattr(config, name) for name in StreamConfig.__dataclass_fields__}


class TestEpochs:
    @pytest.mark.parametrize("lopsided", [False, True])
    def test_every_epoch_shows_every_usable_sample_and_no_source_twice_in_a_mixture(self, packed_as, packed, lopsided):
        url = packed
        if lopsided:
            where = "id in ['long', 'bars', 'fractal']"
            url = packed_as("lopsided", max_segment_seconds=8.0, audio="pcm16", where=where)
        stream = MixtureStream(url, CONFIG)
        sources = stream.index.codes("source")
        usable = set(stream.windows.usable.tolist())
        counts = np.bincount(sources[stream.windows.usable])
        assert (counts.max() > len(usable) / 2) == lopsided
        groups_an_epoch = -(-len(usable) // 2)
        steps = 4 * groups_an_epoch
        rows = np.concatenate([stream.rows(step) for step in range(steps)])
        epochs = [rows[e * groups_an_epoch : (e + 1) * groups_an_epoch] for e in range(len(rows) // groups_an_epoch)]
        assert len(epochs) >= 4
        for epoch in epochs:
            # Of a source with more samples than there are groups, some sit out; others in every epoch.
            seen = epoch.ravel().tolist()
            assert set(seen) <= usable
            assert len(set(seen)) == sum(min(int(count), groups_an_epoch) for count in counts)
            assert all(len({int(sources[row]) for row in group}) == 2 for group in epoch)
        assert set(rows.ravel().tolist()) == usable
        assert len({epoch.tobytes() for epoch in epochs}) > 1
        assert stream.batches_per_epoch == -(-groups_an_epoch // 5)

    def test_steps_can_be_asked_for_in_any_order(self, packed):
        stream = MixtureStream(packed, CONFIG)
        forwards = [stream.rows(step) for step in range(9)]
        backwards = [stream.rows(step) for step in reversed(range(9))][::-1]
        assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))

    def test_windows_move_between_epochs(self, packed):
        """A sample's sound is another stretch of it each time."""
        stream = MixtureStream(packed, CONFIG)
        seen: dict[int, set[bytes]] = {}
        for batch in first(12, stream):
            for row, audio in zip(batch["rows"].flatten().tolist(), batch["audio"].flatten(0, 1), strict=True):
                seen.setdefault(row, set()).add(audio.numpy().tobytes())
        assert max(map(len, seen.values())) > 2


class TestEvaluation:
    def test_it_shows_each_usable_clip_once_in_packed_order_through_its_middle_window(self, packed):
        config = StreamConfig(split="train", sources=1, shape=SHAPE, batch_size=4, shuffle=False, gain_range=None)
        stream = MixtureStream(packed, config)
        batches = list(stream)
        assert len(batches) == stream.batches_per_epoch
        rows = torch.cat([batch["rows"] for batch in batches]).flatten().tolist()
        assert rows == stream.windows.usable.tolist()
        audio = torch.cat([batch["audio"] for batch in batches])[:, 0].numpy()
        reader = SampleReader(stream.index)
        for row, heard in zip(rows, audio, strict=True):
            middle = stream.windows.middle(row)
            assert np.array_equal(heard, reader.sound(row, middle.first_sample, middle.samples))
        assert all((batch["gains"] == 1).all() for batch in batches)

    def test_the_first_mixtures_are_the_same_whatever_the_rank(self, packed):
        config = StreamConfig(split="train", sources=1, shape=SHAPE, batch_size=4, shuffle=False, gain_range=None)
        stream, of_rank = MixtureStream(packed, config), MixtureStream(packed, config)
        of_rank.set_rank(1, 2)
        every = [row for step in range(stream.batches_per_epoch) for row in stream.batch(step)["rows"][:, 0].tolist()]
        some = of_rank.first(7)
        assert some["rows"][:, 0].tolist() == every[:7]
        assert torch.equal(some["audio"], stream.first(7)["audio"])
        assert stream.first(10 * len(every))["rows"][:, 0].tolist() == every

    def test_mixtures_hold_every_usable_clip(self, packed):
        config = StreamConfig(split="train", sources=2, shape=SHAPE, batch_size=4, shuffle=False)
        batches = list(MixtureStream(packed, config))
        rows = torch.cat([batch["rows"] for batch in batches])
        assert set(rows.flatten().tolist()) == set(MixtureStream(packed, config).windows.usable.tolist())

    @pytest.mark.parametrize("world_size", [2, 3])
    def test_ranks_see_each_clip_once_between_them(self, packed, world_size):
        config = StreamConfig(split="train", sources=1, shape=SHAPE, batch_size=4, shuffle=False)
        rows = []
        for rank in range(world_size):
            stream = MixtureStream(packed, config, rank=rank, world_size=world_size)
            rows += torch.cat([batch["rows"] for batch in stream]).flatten().tolist()
            assert np.concatenate([stream.rows(step) for step in range(stream.batches_per_epoch)]).shape[1] == 1
        assert sorted(rows) == MixtureStream(packed, config).windows.usable.tolist()


class TestWhatIsRead:
    def test_a_windows_sound_is_a_slice_of_the_whole_with_zeros_outside_or_a_short_one_repeated(self, packed_as):
        for url in (packed_as("pcm", audio="pcm16"), packed_as("default-again", clips_per_shard=100)):
            index = open_index(url)
            windows, reader = Windows(index, WindowShape()), SampleReader(index)
            padded = 0
            for row in windows.usable:
                whole = reader.sound(row)
                assert len(whole) == index.column("samples")[row]
                for number in range(windows.count(row)):
                    window = windows.at(row, number)
                    audio, vectors = reader.window(row, window)
                    after = np.zeros(70_000, np.int16)
                    if len(whole) < window.samples:
                        after = np.resize(whole, 70_000)
                    wide = np.r_[np.zeros(70_000, np.int16), whole, after]
                    begin = 70_000 + window.first_sample
                    assert np.array_equal(audio, wide[begin : begin + window.samples])
                    assert np.array_equal(vectors, reader.vectors(row)[list(window.frames)])
                    padded += window.first_sample < 0
            assert padded

    @pytest.mark.parametrize("samples", [16_000, 16_001, 30_000, 65_535])
    def test_the_end_of_a_sound_shorter_than_the_window_is_followed_by_its_beginning(self, tmp_path, samples):
        index = open_index(str(write_shards(tmp_path, shards=1, samples_a_shard=3)))
        reader = SampleReader(index)
        for row, first in ((0, -samples // 2), (1, 0), (2, 15_000)):
            heard = reader.window(row, Window((0,), first, samples))[0]
            whole = np.r_[np.zeros(70_000, np.int16), np.resize(reader.sound(row), 200_000)]
            if samples == 16_000:  # as long as the window: nothing is repeated
                whole[70_000 + 16_000 :] = 0
            assert np.array_equal(heard, whole[70_000 + first :][:samples])

    def test_sound_outside_a_sample_is_silence(self, packed):
        reader = SampleReader(open_index(packed))
        assert not reader.sound(0, -500, 400).any()
        assert not reader.sound(0, 10_000_000, 400).any()
        assert reader.sound(0, 10_000_000, 400).shape == (400,)

    def test_pcm_and_flac_give_the_same_batches(self, packed, packed_as):
        flac = packed_as("short-flac", max_segment_seconds=8.0, audio="flac")
        assert open_index(flac).audio == "flac"
        batches = zip(first(6, MixtureStream(packed, CONFIG)), first(6, MixtureStream(flac, CONFIG)), strict=True)
        assert all(same(a, b) for a, b in batches)

    def test_a_remote_store_gives_the_same_batches(self, packed):
        url = f"memory://{uuid.uuid4().hex}"
        store = open_store(url)
        for path in Path(packed).iterdir():
            store.create(path.name, path.read_bytes())
        batches = zip(first(4, MixtureStream(packed, CONFIG)), first(4, MixtureStream(url, CONFIG)), strict=True)
        assert all(same(a, b) for a, b in batches)

    def test_samples_that_are_too_short_are_counted_and_left_out(self, built_corpus):
        stream = MixtureStream(built_corpus.url, StreamConfig(batch_size=2))
        ids = stream.index.table["id"].to_pylist()
        assert [ids[row] for row in range(len(ids)) if row not in stream.windows.usable] == ["brief"]
        assert stream.windows.too_short == 1
        assert "brief" not in {ids[row] for step in range(20) for row in stream.rows(step).flatten()}

    def test_a_corpus_is_opened_at_its_default_pack_and_by_split(self, built_corpus):
        every = open_index(built_corpus.url)
        assert len(every) == sum(every.splits.values()) == 11
        for split, count in every.splits.items():
            one = open_index(built_corpus.url, split)
            assert len(one) == count
            assert set(one.table["split"].to_pylist()) == {split}
        assert every.dimensions == 32
        assert every.encoder["image_size"] == 64


class TestDamage:
    @pytest.fixture
    def copied(self, packed_as, tmp_path) -> Callable[[str], Path]:
        def copy(audio: str) -> Path:
            source = packed_as(f"short-{audio}", max_segment_seconds=8.0, audio=audio)
            return Path(shutil.copytree(source, tmp_path / audio))

        return copy

    def read_all(self, url: Path, workers: int = 0) -> None:
        config = StreamConfig(sources=1, shape=SHAPE, batch_size=4, shuffle=False)
        stream = MixtureStream(str(url), config)
        for _ in stream.loader(workers=workers) if workers else stream:
            pass

    @pytest.mark.parametrize(("audio", "workers"), [("flac", 0), ("pcm16", 1)])
    def test_a_tar_that_was_cut_short_is_named(self, copied, audio, workers):
        folder = copied(audio)
        for path in folder.glob("train-*.tar"):
            path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(CorpusError, match=r"train-00000\d\.tar is shorter than its index says"):
            self.read_all(folder, workers)

    def test_a_tar_that_is_gone_is_named(self, copied):
        folder = copied("flac")
        for path in folder.glob("train-*.tar"):
            path.unlink()
        with pytest.raises(CorpusError, match=r"train-00000\d\.tar is gone"):
            self.read_all(folder)

    def test_sound_that_cannot_be_decoded_is_named(self, copied):
        folder = copied("flac")
        for path in folder.glob("train-*.tar"):
            path.write_bytes(path.read_bytes().replace(b"fLaC", b"fLuC"))
        with pytest.raises(CorpusError, match=r"sample \S+ of the training shard \S+ is damaged"):
            self.read_all(folder)

    def test_flac_that_breaks_off_is_named(self, copied):
        folder = copied("flac")
        index = open_index(str(folder), "train")
        for row in range(len(index)):
            path = folder / index.tars[index.column("shard")[row]]
            data = bytearray(path.read_bytes())
            begin, length = index.column("audio_offset")[row], index.column("audio_length")[row]
            data[begin + length // 4 : begin + length] = bytes(length - length // 4)
            path.write_bytes(data)
        with pytest.raises(CorpusError, match=r"is damaged"):
            self.read_all(folder)

    def test_vectors_that_are_none_are_named_and_nothing_is_unpickled(self, copied):
        folder = copied("pcm16")
        for path in folder.glob("train-*.tar"):
            path.write_bytes(path.read_bytes().replace(b"'<f2'", b"'|O' "))
        with pytest.raises(CorpusError, match=r"is damaged"):
            self.read_all(folder)

    def test_an_index_that_is_none_is_named(self, copied):
        folder = copied("flac")
        (folder / INDEX_FILE).write_bytes(b"not arrow")
        with pytest.raises(CorpusError, match=r"index\.arrow is not an index of ours"):
            open_index(str(folder))


class TestRefusals:
    def test_what_is_no_packed_corpus_is_named(self, tmp_path):
        with pytest.raises(CorpusError, match="is no packed corpus"):
            MixtureStream(str(tmp_path), CONFIG)

    def test_of_a_corpus_with_several_packs_none_is_chosen(self, packed, tmp_path):
        shutil.copytree(packed, tmp_path / "training" / "default")
        (tmp_path / "training" / "begun").mkdir()
        assert open_index(str(tmp_path)).store.url.endswith("training/default")
        shutil.copytree(packed, tmp_path / "training" / "small")
        with pytest.raises(
            CorpusError, match=r"has the packs default, small; name one of them, as .*/training/default"
        ):
            MixtureStream(str(tmp_path), CONFIG)

    def test_a_split_that_is_missing_is_named_with_those_there_are(self, packed):
        with pytest.raises(CorpusError, match="has no split 'dev'; it has test, train, val"):
            MixtureStream(packed, StreamConfig(split="dev"))

    def test_too_few_sources_are_named(self, packed):
        with pytest.raises(CorpusError, match=r"mixtures of 9 need as many sources\. Pack once more"):
            MixtureStream(packed, StreamConfig(sources=9, shape=SHAPE))
        with pytest.raises(CorpusError, match=r"0 sources have a window of 62\.500 s with 3 pictures 1 s apart"):
            MixtureStream(packed, StreamConfig(shape=WindowShape(samples=1_000_000)))

    def test_a_batch_that_cannot_be_divided_is_named(self, packed):
        with pytest.raises(UsageError, match="a batch of 5 cannot be divided over 6 ranks"):
            MixtureStream(packed, CONFIG, world_size=6)

    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ({"partners": "x"}, "partners must be neighbours or uniform or distant, not 'x'"),
            ({"sources": 0}, "sources must be a whole number, 1 or more, not 0"),
            ({"sources": 1, "partners": "distant"}, "sources must be 2 or more, not 1"),
            ({"batch_size": 2.5}, "batch_size must be a whole number, 1 or more, not 2.5"),
            ({"block_shards": 0}, "block_shards must be"),
            ({"distant_candidates": 0, "partners": "distant"}, "distant_candidates must be"),
            ({"gain_range": (2, 1)}, r"gain_range must be None, or two gains, .*, not \(2, 1\)"),
            ({"gain_range": (0.5,)}, "gain_range must be"),
            ({"cache_bytes": -1}, "cache_bytes must be a whole number, 0 or more, not -1"),
            ({"seed": -1}, "seed must be"),
        ],
    )
    def test_a_setting_that_no_stream_can_have_is_named(self, setting, sentence):
        with pytest.raises(UsageError, match=sentence):
            StreamConfig(**setting)

    def test_a_window_that_none_can_be_is_named(self):
        for name, value in (("samples", 0), ("frame_spacing_seconds", float("nan")), ("max_padding_seconds", -0.1)):
            with pytest.raises(UsageError, match=f"{name} of a window must be"):
                WindowShape(**{name: value})

    def test_numpys_numbers_are_numbers_and_one_source_is_a_stream_too(self, packed):
        config = StreamConfig(sources=np.int64(1), shape=SHAPE, batch_size=np.int64(2), gain_range=[0.5, 1])
        assert MixtureStream(packed, config).batch(0)["audio"].shape[:2] == (2, 1)

    def test_what_is_no_step_no_state_and_no_number_of_workers_is_named(self, packed):
        stream = MixtureStream(packed, CONFIG)
        with pytest.raises(UsageError, match="start_step must be a whole number, 0 or more, not -1"):
            stream.set_start_step(-1)
        with pytest.raises(UsageError, match="start_step must be"):
            MixtureStream(packed, CONFIG, start_step=-1)
        for kind in (stream, EpochLoader(stream)):
            for wrong in ({}, None, 7):
                with pytest.raises(UsageError, match="it has no start_step"):
                    kind.load_state_dict(wrong)
        with pytest.raises(UsageError, match="url must be a packed corpus by its path or URL, or several with weights"):
            MixtureStream([packed, packed], CONFIG)
        with pytest.raises(UsageError, match="workers must be a whole number, 0 or more, not -1"):
            stream.loader(workers=-1)
        with pytest.raises(UsageError, match="prefetch must be a whole number, 1 or more, not 0"):
            stream.loader(workers=1, prefetch=0)
        with pytest.raises(UsageError, match="none is named"):
            MixtureStream({})

    def test_what_the_pack_holds_is_told_before_the_length_of_windows(self, packed):
        long = WindowShape(samples=1_000_000)
        with pytest.raises(CorpusError, match=r"holds sound at 16000 Hz, and 11025 Hz is wanted.*extract\.sample_rate"):
            MixtureStream(packed, StreamConfig(shape=long, sample_rate=11_025, frames=True))
        with pytest.raises(CorpusError, match="holds no pictures"):
            MixtureStream(packed, StreamConfig(shape=long, sample_rate=16_000, frames=True))
