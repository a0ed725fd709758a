"""Plans of packs: which clips are selected, in which split they fall, and in which order they are packed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.packs.plans import ids, planned
from vidaudio.config.corpus import PackBlock, stable_hash
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.packs import plan as pack_plan
from vidaudio.packs import selection
from vidaudio.pipeline.build import pack
from vidaudio.pipeline.stages.embed import prepare_encoder
from vidaudio.shards.parallel_read import read_tables


class TestSelection:
    @pytest.mark.parametrize(
        ("where", "wanted"),
        [
            (None, None),
            ("silent", {"silent"}),
            ("not silent and seconds > 7", {"fractal", "long"}),
            ("id == 'bars' or id in ['clock']", {"bars", "clock"}),
            ("motion > 0 and frame_seconds.str.len() == 22", {"long"}),
            ("split == 'val'", {"clock"}),
            ("id.str.startswith('multi')", {"multi_a", "multi_b", "multi_c"}),
        ],
    )
    def test_where_selects_by_the_clips_columns(self, built_corpus, media_world, where, wanted):
        found = ids(planned(built_corpus, where=where, name="x"))
        assert found == (set(media_world.usable) if wanted is None else wanted)

    @pytest.mark.parametrize(
        ("where", "looked_at"),
        [
            (None, set()),
            ("not silent and seconds > 7", {"silent", "seconds"}),
            ("motion > 0 and frame_seconds.str.len() >= 4 & (rms_dbfs < 0)", {"motion", "frame_seconds", "rms_dbfs"}),
            ("labels.str.len() == 0 or dataset != 'seconds'", {"labels", "dataset"}),
            ("`seconds` > 1", {"seconds"}),
        ],
    )
    def test_no_column_is_read_that_nobody_looks_at_and_the_plan_is_the_same(
        self, built_corpus, monkeypatch, where, looked_at
    ):
        read = []

        def noted(store, names, *, columns):
            read.append(set(columns))
            return read_tables(store, names, columns=columns)

        monkeypatch.setattr(selection, "read_tables", noted)
        few = planned(built_corpus, where=where, name="x")
        monkeypatch.setattr(pack_plan, "named_columns", lambda where: None)
        every = planned(built_corpus, where=where, name="x")
        assert few == every
        assert [asdict(task) for task in few.tasks] == [asdict(task) for task in every.tasks]
        assert read[1] == set(selection.CLIP_FACTS)
        needed = {"id", "state", "samples", "audio_start_seconds", "grid_seconds"}
        assert needed | (looked_at & read[1]) <= read[0] <= needed | looked_at

    @pytest.mark.parametrize(
        "where",
        ["nosuch > 1", "silent and (", "seconds >", "seconds + 1", "id", "3", "True", "x = 1", "@os", "silent )"],
    )
    def test_where_that_selects_nothing_sensible_is_named(self, built_corpus, where):
        with pytest.raises(RecipeError, match=r"pack\.where") as caught:
            planned(built_corpus, where=where, name="x")
        assert where in str(caught.value)

    def test_a_selection_of_none_is_refused(self, built_corpus):
        with pytest.raises(CorpusError, match="nothing to pack"):
            planned(built_corpus, where="seconds > 1000", name="x")
        with pytest.raises(CorpusError, match="none of 1 clips is long enough for a window"):
            planned(built_corpus, where="id == 'brief'", window="middle", name="x")

    def test_a_clip_without_labels_has_none_to_an_expression_too(self, built_corpus, media_world, monkeypatch):
        """In a list's table no label may be null or an empty list; a whole expression must not fail over which."""
        tables = Corpus.tables

        def with_nulls(corpus: Corpus, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
            for rows in tables(corpus, columns):
                if "labels" not in rows.column_names:
                    yield rows
                    continue
                kept = pa.array(["second" in labels for labels in rows["labels"].to_pylist()])
                labels = pc.if_else(kept, rows["labels"], pa.scalar(None, rows["labels"].type))
                yield rows.set_column(rows.schema.get_field_index("labels"), "labels", labels)

        monkeypatch.setattr(Corpus, "tables", with_nulls)
        assert ids(planned(built_corpus, where="labels.str.join(',').str.contains('second')", name="x")) == {"multi_b"}
        without = ids(planned(built_corpus, where="labels.str.len() == 0", name="x"))
        assert without == set(media_world.usable) - {"multi_b"}


class TestSplits:
    def test_clips_of_one_source_are_on_one_side_whatever_the_seed(self, built_corpus):
        sides = set()
        fractions = {"train": 1.0, "val": 1.0, "test": 1.0}
        for seed in range(12):
            plan = planned(built_corpus, seed=seed, split_fractions=fractions, name="x")
            of_clip = {sample.clip_id: task.split for task in plan.tasks for sample in task.samples}
            assert of_clip["multi_a"] == of_clip["multi_b"] == of_clip["multi_c"]
            sides.add(of_clip["multi_a"])
            # The list's own split stands, also for the other clips of its source.
            assert of_clip["clock"] == "val"
            assert of_clip["bars"] == "train"
            assert of_clip["web_a"] == of_clip["web_b"] == "test"
        assert sides == {"train", "val", "test"}

    def test_the_order_in_which_shares_are_written_decides_nothing(self, built_corpus):
        shares = {"train": 1.0, "val": 2.0, "test": 3.0}
        plans = [
            planned(built_corpus, split_fractions={name: shares[name] for name in order}, seed=seed, name="x")
            for seed in range(3)
            for order in itertools.permutations(shares)
        ]
        assert len({plan.plan_hash for plan in plans}) == 3

    @pytest.mark.parametrize("fractions", [{}, {"train": 0.0}, {"train": 1.0, "val": -0.1}])
    def test_shares_that_are_none_are_refused(self, built_corpus, fractions):
        with pytest.raises(RecipeError, match="split_fractions"):
            planned(built_corpus, split_fractions=fractions, name="x")

    def test_the_plan_is_the_same_each_time_and_its_order_depends_on_the_seed(self, built_corpus):
        assert planned(built_corpus, name="x") == planned(built_corpus, name="x")
        orders = set()
        for seed in range(6):
            plan = planned(built_corpus, seed=seed, clips_per_shard=100, where="split == 'train'", name="x")
            orders.add(tuple(sample.key for sample in plan.tasks[0].samples))
        assert len(orders) > 1
        assert len({frozenset(order) for order in orders}) == 1


class TestPlan:
    @pytest.mark.parametrize("settings", [{}, {"window": 2, "seed": 3}, {"max_segment_seconds": 8.0}])
    def test_hash_and_order_are_those_of_all_samples_in_memory(self, built_corpus, settings):
        plan = planned(built_corpus, name="x", clips_per_shard=3, **settings)
        content = [[task.split, task.number, [asdict(s) for s in task.samples]] for task in plan.tasks]
        described = {"corpus": built_corpus.plan_hash, "encoder": prepare_encoder(built_corpus), "content": content}
        assert plan.plan_hash == stable_hash({**described, "settings": plan.settings.identity()})
        for split in {task.split for task in plan.tasks}:
            keys = [sample.key for task in plan.tasks if task.split == split for sample in task.samples]
            seed = plan.settings.seed
            assert keys == sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).hexdigest())
        assert plan.samples == sum(len(task.samples) for task in plan.tasks)
        assert plan.tasks.names == [task.name for task in plan.tasks]

    def test_windows_by_their_old_name_are_the_same_pack(self, packed_corpus, packed_as):
        new = planned(packed_corpus, name="x", window="drawn", windows_per_clip=2)
        assert planned(packed_corpus, name="x", window=2) == new
        # As older versions hashed it.
        assert new.settings.identity() == {**packed_corpus.pack.identity(), "name": "x", "window": 2}
        two = Path(packed_as("two", window="drawn", windows_per_clip=2))
        stored = json.loads((two / "pack.json").read_text())
        del stored["settings"]["windows_per_clip"], stored["format"]
        (two / "pack.json").write_text(json.dumps(stored | {"settings": {**stored["settings"], "window": 2}}))
        before = {path: path.read_bytes() for path in two.iterdir()}
        settings = PackBlock(**{**packed_corpus.pack.model_dump(exclude_none=True), "name": "two", "window": 2})
        pack(packed_corpus.url, settings, progress=False)
        assert {path: path.read_bytes() for path in two.iterdir()} == before
        other = packed_corpus.pack.model_copy(update={"name": "two", "window": "middle"})
        with pytest.raises(CorpusError, match="window: 'drawn' there, 'middle' now; windows_per_clip: 2 there, None"):
            pack(packed_corpus.url, other, progress=False)

    def test_reading_in_small_pieces_gives_the_same_plan(self, built_corpus, monkeypatch):
        whole = planned(built_corpus, name="x", seed=4)
        monkeypatch.setattr(selection, "BATCH_CLIPS", 1)
        again = planned(built_corpus, name="x", seed=4)
        assert (again, again.tasks[0]) == (whole, whole.tasks[0])

    def test_every_clip_is_packed_or_left_out_for_one_cause(self, built_corpus, media_world):
        plan = planned(built_corpus, name="x", where="id != 'bars'", window="middle")
        assert plan.left_out == {"not_extracted": len(media_world.reasons), "where": 1, "too_short": 1}
        assert len(ids(plan)) + sum(plan.left_out.values()) == built_corpus.clips
