"""What a manifest holds: counted in pieces, and the same as over the whole list at once."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import chain

import pytest
from typer.testing import CliRunner

from vidaudio.cli.manifest import app
from vidaudio.manifest import Clip, ManifestSummary, describe_manifest, source, table_from_clips, write_manifest
from vidaudio.manifest.source import TableRows, open_manifest
from vidaudio.media.fetch.types import is_remote

URLS = ["https://host/a", "/a.mp4", "file:///a.mp4", "C:\\a.mp4", "~/a", "data:a", "/x/at://a.mp4"]


def made_clips(number: int) -> list[Clip]:
    """Clips with values that come often and seldom, in no order."""
    rng = random.Random(3)
    return [
        Clip(
            id=f"c{n}",
            source=f"site:{rng.randrange(1 + number // 2)}",
            dataset=rng.choice(["d", "e"]),
            url=rng.choice(URLS),
            start_seconds=(start := rng.random() * 100),
            end_seconds=rng.choice([None, start + rng.random() * 10 + 0.1]),
            split=rng.choice([None, "", "train", "test", "é"]),
            labels=tuple(dict.fromkeys(rng.choices([f"l{k}" for k in range(40)], k=rng.randrange(4)))),
            captions=("x", "y")[: rng.randrange(3)],
        )
        for n in range(number)
    ]


def summed(clips: list[Clip]) -> ManifestSummary:
    """The same by plain counting."""

    def counts(values) -> dict[str, int]:
        return dict(Counter(values).most_common())

    lengths = [clip.end_seconds - clip.start_seconds for clip in clips if clip.end_seconds is not None]
    seconds = 0.0
    for length in lengths:
        seconds += length
    return ManifestSummary(
        clips=len(clips),
        sources=len({clip.source for clip in clips}),
        datasets=counts(clip.dataset for clip in clips),
        splits=counts(clip.split or "" for clip in clips),
        labels=counts(chain.from_iterable(clip.labels for clip in clips)),
        captions=sum(len(clip.captions) for clip in clips),
        hours=seconds / 3600,
        open_cuts=len(clips) - len(lengths),
        local=sum(not is_remote(clip.url) for clip in clips),
    )


@pytest.mark.parametrize("piece_rows", [1, 7, 16_384])
@pytest.mark.parametrize("number", [0, 1, 500])
def test_however_it_is_read_the_counts_are_the_same(number: int, piece_rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source, "PIECE_ROWS", piece_rows)
    clips = made_clips(number)
    table = table_from_clips(clips)
    told, expected = describe_manifest(table), summed(clips)
    assert told == expected == describe_manifest(TableRows(table))
    # To the last digit and in the same order, too: most first, and of equal ones the first.
    assert repr(told) == repr(expected)


def test_lists_that_are_null_are_empty_ones():
    table = table_from_clips(made_clips(3))
    for name in ("labels", "captions"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [[None, ["a", "b"], None]])
    summary = describe_manifest(table)
    assert (summary.labels, summary.captions) == ({"a": 1, "b": 1}, 2)


def test_a_long_list_is_shown_without_being_held(tmp_path, monkeypatch: pytest.MonkeyPatch):
    clips = made_clips(60)
    path = tmp_path / "m.parquet"
    write_manifest(clips, path)

    def shown(*options: str) -> str:
        done = CliRunner().invoke(app, ["show", str(path), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    calls = [(), ("--rows", "0"), ("--rows", "9"), ("--rows", "99", "--json")]
    whole = [shown(*options) for options in calls]
    assert [row["id"] for row in json.loads(whole[-1])["rows"]] == [clip.id for clip in clips]
    monkeypatch.setattr(source, "WHOLE_ROWS", 0)
    monkeypatch.setattr(source, "PIECE_ROWS", 4)
    # Whoever reads the list whole fails.
    monkeypatch.delattr(source, "read_manifest")
    assert [shown(*options) for options in calls] == whole
    write_manifest([*clips[:5], replace(clips[5], id="other")], path)
    assert describe_manifest(open_manifest(path)).clips == 6
