"""Advice for users who pack: why nothing is left to pack, and which splits are too small for training or evaluation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.media.outcomes import TRANSIENT, State
from vidaudio.packs.split_draw import drawn_split, share_bounds
from vidaudio.stream.config import StreamConfig
from vidaudio.stream.windows import WindowShape
from vidaudio.text import number_of

if TYPE_CHECKING:
    from vidaudio.packs.selection import Splits

# Number of different sources in a mixture: training, its validation and `evaluate` refuse a split that has fewer.
SOURCES_NEEDED = StreamConfig().sources
# Largest number of sources for which other draws are tried, and number of draws tried.
MOST_SOURCES_DRAWN = 2_000
SEEDS_TRIED = 100
# Share proposed for a split whose own share is too small.
LARGER_SHARE = 0.2
CAUSES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SmallSplit:
    """A split with too few sources for a mixture.

    Attributes:
        name: Name of the split.
        clips: Number of clips in the split.
        sources: Number of different sources that have a clip long enough for a window.
    """

    name: str
    clips: int
    sources: int

    def __str__(self) -> str:
        if not self.clips:
            return f"no clip falls into the split {self.name!r}"
        long_enough = f"{number_of(self.sources, 'source')} long enough for a window"
        return f"the split {self.name!r} has {number_of(self.clips, 'clip')}, of {long_enough}"


def long_enough(samples: int, sample_rate: int, pictures: int) -> bool:
    """Return whether a clip is long enough for a window of the default shape; only its lengths are checked."""
    shape = WindowShape().at(sample_rate)
    return samples >= shape.length_samples - 2 * shape.max_padding_seconds * sample_rate and pictures >= shape.frames


def changed_settings(settings: PackBlock, stored: PackBlock) -> dict[str, str]:
    """Return the settings, except the name, that differ from a command's defaults, in the form of `--set`."""
    before = stored.model_dump(mode="json")
    return {
        key: f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in settings.model_dump(mode="json").items()
        if key != "name" and value != before.get(key) and (value is not None or key == "where")
    }


def split_warnings(
    splits: Splits,
    usable: np.ndarray,
    texts: Collection[str] | None,
    settings: PackBlock,
    command: str,
    changed: Mapping[str, str],
) -> tuple[str, ...]:
    """Return a warning with a remedy if training or evaluation will refuse a split; otherwise an empty tuple.

    Args:
        splits: Splits of all clips.
        usable: Which of the clips can have a window, bool `[clips]`.
        texts: Sources of the usable clips; None if there are too many to try other draws.
        settings: Settings of the pack.
        command: Command line that packs under another name, to which settings can be appended.
        changed: Settings to repeat so that the same clips are packed; see `changed_settings`.
    """
    fractions = settings.split_fractions
    names, codes = splits.decided()
    drawn = splits.drawn()
    expected = {name for name, share in fractions.items() if share > 0} if drawn.any() else set()
    small = small_splits(names, codes, splits.hashed_sources(), usable, expected)
    if not small:
        return ()
    remedy = "Add clips of other sources to the list"
    if not drawn.any():
        remedy = f"{remedy}, which says itself which split a clip is in."
    else:
        # If the manifest assigns splits to some sources, the result cannot be computed from the drawn sources alone.
        redrawn = redraw_settings(texts if drawn.all() else None, fractions, settings.seed)
        if redrawn is None:
            remedy = f"{remedy}: there are too few for {len(expected)} splits."
        else:
            drawn_anew = {setting.partition("=")[0] for setting in redrawn}
            kept = [setting for key, setting in changed.items() if key not in drawn_anew]
            asked = " ".join(f"--set {shlex.quote(setting)}" for setting in (*kept, *redrawn))
            remedy = f"{remedy}, or draw the splits anew: {command} {asked}"
    return (
        f"{'; '.join(map(str, small))}. Training, its validation and `vidaudio evaluate` mix sounds of "
        f"{SOURCES_NEEDED} different sources, and refuse a split that has fewer. {remedy}",
    )


def small_splits(
    names: Sequence[str], codes: np.ndarray, sources: np.ndarray, usable: np.ndarray, expected: Collection[str]
) -> list[SmallSplit]:
    """Return the splits that have too few sources for a mixture.

    Args:
        names: Names of the splits.
        codes: For every clip, the index of its split in `names`.
        sources: For every clip, a hash of its source.
        usable: Which clips can have a window, bool `[clips]`.
        expected: Splits that should have clips, whether or not they have any.
    """
    found = [SmallSplit(name, 0, 0) for name in sorted(set(expected) - set(names))]
    for code, name in enumerate(names):
        inside = codes == code
        own = sources[inside & usable]
        # The cheap tests come first: counting different sources requires sorting them.
        few = len(own) < SOURCES_NEEDED or (own == own[0]).all() or len(np.unique(own)) < SOURCES_NEEDED
        clips = int(inside.sum())
        if few and (clips or name in expected):
            found.append(SmallSplit(name, clips, len(np.unique(own))))
    return found


def redraw_settings(sources: Collection[str] | None, fractions: Mapping[str, float], seed: int) -> list[str] | None:
    """Return pack settings that draw enough sources into every split; None if there are too few sources for that.

    Args:
        sources: Sources that splits are drawn for; None if they are too many to try, and only larger shares are
            proposed.
        fractions: Split fractions of the current draw.
        seed: Seed of the current draw.
    """
    wanted = {name: share for name, share in sorted(fractions.items()) if share > 0}
    larger = {name: max(share / sum(wanted.values()), LARGER_SHARE) for name, share in wanted.items()}
    shares = ", ".join(f"{name}: {share:.2g}" for name, share in larger.items())
    setting = f"split_fractions={{{shares}}}"
    if sources is None:
        return [setting]
    if len(sources) < SOURCES_NEEDED * len(wanted):
        return None
    for tried, settings in ((wanted, []), (larger, [setting])):
        bounds = share_bounds(tried)
        for other in range(SEEDS_TRIED):
            counts = dict.fromkeys(tried, 0)
            for source in sources:
                counts[drawn_split(source, other, bounds)] += 1
            if min(counts.values()) >= SOURCES_NEEDED:
                return [*settings, *([f"seed={other}"] if other != seed else [])]
    return [setting]


def why_nothing(corpus: Corpus, usable: int, where: str | None) -> str:
    """Explain why no clip is left to pack: the most frequent causes, and what to do.

    Args:
        corpus: Opened corpus.
        usable: Number of clips that are extracted and embedded.
        where: Selection that excluded all of these clips; None if there was none.
    """
    if usable:
        return (
            f"none of the {number_of(usable, 'usable clip')} is selected by {where!r}; loosen it, or pack all clips "
            "with --set where=null"
        )
    # Read every table of two stages only here, where there is nothing else to read.
    from vidaudio.packs.card import funnel

    causes = [(clips, stage, outcome.split(": ")) for stage, outcome, clips in funnel(corpus) if outcome != State.DONE]
    causes.sort(key=lambda cause: (-cause[0], cause[1:]))
    shown = [
        f"{clips:,} {state} in {stage} ({', '.join(why) or 'on request'})" for clips, stage, (state, *why) in causes
    ]
    text = f"none of its {number_of(corpus.clips, 'clip')} came through download and extract"
    if shown:
        more = f" and {number_of(len(shown) - CAUSES_SHOWN, 'cause')} more" if len(shown) > CAUSES_SHOWN else ""
        text = f"{text}: {', '.join(shown[:CAUSES_SHOWN])}{more}"
    failures = [reason for _, _, (state, *reasons) in causes for reason in reasons if state == State.FAILED]
    again = ",".join(dict.fromkeys(reason for reason in failures if reason in TRANSIENT))
    retry = f"; try again what may pass: the build command with --retry-failed={again}" if again else ""
    return f"{text}{retry}. `vidaudio status {corpus.url}` shows them all, with examples"
