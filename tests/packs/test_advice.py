"""What a pack says of itself: splits that training will refuse, with draws that it will not; why nothing is left."""

from __future__ import annotations

import random
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from vidaudio.config.corpus import PackBlock
from vidaudio.config.recipes import override
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.packs import card
from vidaudio.packs.advice import (
    SOURCES_NEEDED,
    changed_settings,
    redraw_settings,
    small_splits,
    split_warnings,
    why_nothing,
)
from vidaudio.packs.plan import plan_pack
from vidaudio.packs.selection import MOST_SPLITS, Splits
from vidaudio.packs.split_draw import drawn_split, share_bounds
from vidaudio.pipeline import build as running
from vidaudio.pipeline.stages.embed import prepare_encoder
from vidaudio.stream.config import StreamConfig
from vidaudio.stream.index import open_index
from vidaudio.stream.loader import MixtureStream


def clips(sources: list[str], splits: list[str | None] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"source": sources, "split": splits or [None] * len(sources)})


def warned(listed: pd.DataFrame, usable: list[bool] | None = None, **settings: object) -> tuple[str, ...]:
    block = PackBlock(**settings)
    splits = Splits(block)
    splits.add(listed)
    flags = np.asarray(usable if usable is not None else [True] * len(listed), bool)
    texts = {source for source, flag in zip(listed["source"], flags, strict=True) if flag}
    changed = changed_settings(block, PackBlock())
    return split_warnings(splits, flags, texts, block, "vidaudio pack C --name NAME", changed)


def asked_by(warning: str) -> PackBlock:
    """The settings that a warning recommends, as the command line would read them."""
    return PackBlock(**override({}, shlex.split(warning.partition("--name NAME")[2])[1::2]))


def test_the_recommended_command_packs_the_same_clips():
    own = {"where": "has(labels, 'dog') and seconds > 3", "audio": "pcm16", "window": "drawn", "windows_per_clip": 4}
    (warning,) = warned(clips([f"web:{n}" for n in range(12)]), **own)
    asked = asked_by(warning)
    assert {key: getattr(asked, key) for key in own} == own
    assert warned(clips([f"web:{n}" for n in range(12)]), **asked.model_dump()) == ()


@pytest.mark.parametrize("number", [6, 7, 8, 12, 20, 60, 300])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_recommended_gives_every_split_enough(number: int, seed: int):
    sources = [f"web:{random.Random(seed).random()}-{n}" for n in range(number)]
    said = warned(clips(sources), seed=seed)
    counts = dict.fromkeys(PackBlock().split_fractions, 0)
    for source in sources:
        counts[drawn_split(source, seed, share_bounds(PackBlock().split_fractions))] += 1
    assert bool(said) == (min(counts.values()) < SOURCES_NEEDED)
    for warning in said:
        for split, count in counts.items():
            assert (f"{split!r}" in warning) == (count < SOURCES_NEEDED)
        settings = asked_by(warning)
        assert not warned(clips(sources), **settings.model_dump(exclude_none=True))


def test_too_few_sources_for_any_draw_are_named_as_such():
    (said,) = warned(clips([f"web:{n % 5}" for n in range(50)]))
    assert "there are too few for 3 splits" in said
    assert "--set" not in said
    assert not warned(clips([f"web:{n % 2}" for n in range(50)]), split_fractions={"train": 1.0})


def test_the_lists_own_splits_are_judged_and_only_the_list_can_mend_them():
    listed = clips(["web:a", "web:a", "web:b", "web:c"], ["test", "test", "train", "train"])
    (said,) = warned(listed)
    assert "the split 'test' has 2 clips, of 1 source long enough for a window" in said
    assert "'val'" not in said
    assert "which says itself which split a clip is in" in said
    assert not warned(clips(["web:a", "web:d", "web:b", "web:c"], ["test", "test", "train", "train"]))


def test_sources_that_are_too_short_for_a_window_do_not_count():
    listed = clips(["web:a", "web:b", "web:c", "web:d"], ["test", "test", "train", "train"])
    (said,) = warned(listed, [True, False, True, True])
    assert "the split 'test' has 2 clips, of 1 source" in said
    (said,) = warned(listed, [False, False, True, True])
    assert "of 0 sources" in said


def test_many_sources_are_not_held_as_texts():
    sources = None
    assert redraw_settings(sources, {"train": 0.999, "val": 0.001}, 0) == ["split_fractions={train: 1, val: 0.2}"]
    names, codes = ["test", "train"], np.r_[np.zeros(1, np.int16), np.ones(100_000, np.int16)]
    hashes = np.arange(len(codes), dtype=np.uint64)
    (small,) = small_splits(names, codes, hashes, np.ones(len(codes), bool), {"test", "train"})
    assert (small.name, small.clips, small.sources) == ("test", 1, 1)


@pytest.mark.parametrize("split", ["../../x", "a/b", ".", "..", ".hidden", "a\\b", "x\0", "tra\nin", "s" * 65])
def test_a_split_that_names_other_files_is_refused(split: str):
    with pytest.raises(RecipeError, match="cannot be part of the names of files"):
        warned(clips(["web:a"], [split]))
    with pytest.raises(RecipeError, match="cannot be part of the names of files"):
        warned(clips(["web:a"]), split_fractions={split: 1.0})


def test_a_column_of_splits_that_is_one_of_ids_is_refused():
    with pytest.raises(RecipeError, match=r"more than 1,000 splits, 'id_\d+' among them"):
        warned(clips([f"web:{n}" for n in range(MOST_SPLITS + 1)], [f"id_{n}" for n in range(MOST_SPLITS + 1)]))


@pytest.mark.parametrize("shares", [{}, {"train": 0.0}, {"train": float("nan")}, {"train": float("inf")}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]):
    with pytest.raises(RecipeError, match="split_fractions must be shares"):
        share_bounds(shares)


# --- on a corpus -----------------------------------------------------------------------------------------------------


def test_pack_warns_of_what_the_loader_then_refuses(packed_corpus: Corpus, capsys: pytest.CaptureFixture):
    settings = PackBlock(name="few", where="id in ['bars', 'clock', 'long']", audio="pcm16")
    running.pack(packed_corpus.url, settings, progress=False)
    said = capsys.readouterr()
    warning = next(line for line in said.err.splitlines() if line.startswith("warning: "))
    assert "warning" not in said.out
    url = f"{packed_corpus.url}/training/few"
    refused, splits = [], open_index(url).splits
    for split in splits:
        try:
            MixtureStream(url, StreamConfig(split=split))
        except CorpusError:
            refused.append(split)
    assert refused
    assert all(f"{split!r}" in warning for split in refused)
    assert all(f"{split!r}" not in warning for split in set(splits) - set(refused))


def test_nothing_to_pack_names_the_commonest_causes_and_what_to_do(
    built_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = {"embed": prepare_encoder(built_corpus)}
    before = set(Path(built_corpus.url).rglob("*"))
    with pytest.raises(CorpusError, match=r"none of the \d+ usable clips is selected by 'seconds > 1000'; loosen it"):
        plan_pack(built_corpus, PackBlock(where="seconds > 1000"), models)
    # As if no clip had come through: only those that failed are left of the list.
    copy = open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus")))
    monkeypatch.setattr("vidaudio.packs.plan.usable_clips", lambda *arguments: iter(()))
    with pytest.raises(CorpusError) as refused:
        plan_pack(copy, PackBlock(), models)
    told = str(refused.value)
    assert f"none of its {copy.clips} clips came through download and extract: " in told
    assert "2 failed in download (not_found)" in told
    assert f"`vidaudio status {copy.url}` shows them all" in told
    assert set(Path(built_corpus.url).rglob("*")) == before


def test_the_commonest_causes_come_first_and_what_may_pass_is_named(monkeypatch: pytest.MonkeyPatch):
    outcomes = [
        ("download", "done", 3),
        ("download", "failed: timeout", 4),
        ("download", "failed: not_found", 30),
        ("extract", "dropped: no_audio", 2),
        ("extract", "removed", 1),
        ("extract", "failed: rate_limited", 1),
    ]
    monkeypatch.setattr(card, "funnel", lambda corpus: iter(outcomes))
    corpus = SimpleNamespace(url="c", clips=37)
    assert why_nothing(corpus, 0, None) == (
        "none of its 37 clips came through download and extract: 30 failed in download (not_found), 4 failed in "
        "download (timeout), 2 dropped in extract (no_audio) and 2 causes more; try again what may pass: the build "
        "command with --retry-failed=timeout,rate_limited. `vidaudio status c` shows them all, with examples"
    )
    monkeypatch.setattr(card, "funnel", lambda corpus: iter([("extract", "removed", 37)]))
    assert "37 removed in extract (on request). `vidaudio" in why_nothing(corpus, 0, None)


def test_the_recommended_settings_are_yaml_of_the_command_line():
    settings = redraw_settings({f"web:{n}" for n in range(6)}, {"train": 0.9, "val": 0.05, "test": 0.05}, 0)
    assert settings
    for setting in settings:
        assert isinstance(yaml.safe_load(setting.partition("=")[2]), dict | int)
