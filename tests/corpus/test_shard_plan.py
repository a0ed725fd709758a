"""The plan of shards is a pure function of list and settings, and no source is fetched twice."""

from __future__ import annotations

import random

import pytest

from vidaudio.corpus.shard_plan import assign_shards, manifest_hash
from vidaudio.errors import ManifestError
from vidaudio.manifest import Clip, clips_from_table, table_from_clips


def some_clips(seed: int, sources: int = 40) -> list[Clip]:
    rng = random.Random(seed)
    clips = [
        Clip(id=f"c{source}-{cut}", source=f"site:{source}", dataset="d", url=f"/v/{source}", start_seconds=cut)
        for source in range(sources)
        for cut in range(rng.choice([1, 1, 1, 2, 3, 9]))
    ]
    rng.shuffle(clips)
    return clips


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shard_clips", [1, 4, 100])
def test_every_clip_has_one_shard_and_every_source_too(seed: int, shard_clips: int):
    clips = some_clips(seed)
    planned = clips_from_table(assign_shards(table_from_clips(clips), shard_clips))
    assert sorted(c.id for c in planned) == sorted(c.id for c in clips)
    shards = [c.shard for c in planned]
    assert shards == sorted(shards)
    assert set(shards) == set(range(shards[-1] + 1))
    of_source: dict[str, set[int]] = {}
    for clip in planned:
        of_source.setdefault(clip.source, set()).add(clip.shard)
    assert all(len(found) == 1 for found in of_source.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_shard_is_closed_once_it_is_full(seed: int):
    planned = clips_from_table(assign_shards(table_from_clips(some_clips(seed)), 5))
    for shard in range(planned[-1].shard):
        rows = [c for c in planned if c.shard == shard]
        assert len(rows) >= 5
        last_source = [c for c in rows if c.source == rows[-1].source]
        assert len(rows) - len(last_source) < 5


def test_sources_keep_the_order_of_their_first_rows_and_clips_theirs():
    clips = some_clips(7)
    planned = clips_from_table(assign_shards(table_from_clips(clips), 5))
    assert list(dict.fromkeys(c.source for c in planned)) == list(dict.fromkeys(c.source for c in clips))
    for source in {c.source for c in clips}:
        assert [c.id for c in planned if c.source == source] == [c.id for c in clips if c.source == source]


def test_the_hash_is_the_same_each_time_and_differs_with_any_value():
    table = table_from_clips(some_clips(1))
    planned = assign_shards(table, 5)
    assert manifest_hash(planned) == manifest_hash(assign_shards(table, 5))
    # Chunks are no contents.
    assert manifest_hash(planned) == manifest_hash(assign_shards(table, 5).take(list(range(planned.num_rows))))
    assert manifest_hash(planned) != manifest_hash(assign_shards(table, 6))
    assert manifest_hash(planned) != manifest_hash(assign_shards(table.slice(1), 5))
    clips = clips_from_table(planned)
    changed = [clips[0], *clips[1:-1], Clip(**{**vars_of(clips[-1]), "labels": ("bird",)})]
    assert manifest_hash(planned) != manifest_hash(table_from_clips(changed))


def vars_of(clip: Clip) -> dict:
    return {name: getattr(clip, name) for name in Clip.__dataclass_fields__}


def test_an_empty_list_is_refused():
    with pytest.raises(ManifestError, match="no clips"):
        assign_shards(table_from_clips([]), 5)
