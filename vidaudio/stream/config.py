"""Settings of a stream: what it iterates, and how."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from vidaudio.errors import UsageError
from vidaudio.stream.order import DEFAULT_BLOCK_SHARDS
from vidaudio.stream.windows import WindowShape

Partners = Literal["neighbours", "uniform", "distant"]

DEFAULT_CACHE_BYTES = 50 * 10**9
CACHE_VARIABLE = "VIDAUDIO_CACHE"


def default_cache_folder() -> Path:
    """Return the default folder for copies of remote shards: `$VIDAUDIO_CACHE`, or `~/.cache/vidaudio`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "vidaudio")


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Settings of a stream: what it iterates, and how.

    What:
        split: Split of the packed corpus.
        sources: Number of different sources in a mixture; 1 yields single samples.
        shape: Shape of a window; by default three pictures 1 s apart and 4.096 s of sound, at any sample rate.
        frames: Whether batches contain the window's pictures too; the pack must hold pictures.
        vectors: Name of the encoder whose vectors batches contain; None for the pack's first encoder. With a tuple of
            names, batches contain a dictionary of vectors by name. Other vectors are not read.
        sample_rate: Required sample rate, Hz; a corpus with another rate is refused. None accepts any rate.

    How:
        batch_size: Mixtures in a global batch, which the ranks divide among themselves.
        shuffle: False yields samples in packed order with middle windows, each group once: for evaluation.
        seed: Seed of order, windows and gains.
        gain_range: Bounds of the gain of each source, drawn uniformly; None applies no gain (CLIPSep trains with 0.5 to
            1.5).
        block_shards: Number of shards that are mixed with one another in an epoch.
        use_weights: Whether the samples of a pack with weights are drawn by them: in an epoch as often as their share
            of all weights says, rounded up or down, by turns in different epochs. Otherwise each comes once. Without
            `shuffle`, weights are not used.

    With whom a sample is mixed:
        partners: `neighbours`: an epoch is cut into groups, and each sample comes once. `uniform`: each sample comes
            once, together with others drawn from the whole corpus (Sound of Pixels, CLIPSep). `distant`: each sample
            comes once, together with those among `distant_candidates` samples drawn from its block whose pictures are
            least similar to its own.
        distant_candidates: Number of samples drawn to choose each `distant` partner from.
        same_source: With `uniform`, whether a source may be mixed with itself, as in the papers' code.
        different_labels: With `uniform`, whether the samples of a mixture differ in their first labels. A sample
            without a label may be mixed with any.
        across_corpora: With several corpora, whether one mixture may hold samples of more than one.
        sources_between: Part of the sources that is used, as an interval of shares between 0 and 1: a hash of a source
            and `seed` decides where it lies, so that intervals that do not overlap share no source. None uses all.

    Remote corpora:
        cache_folder: Folder for copies of their shards; None means `$VIDAUDIO_CACHE` or `~/.cache/vidaudio`.
        cache_bytes: Limit in bytes of the copies of all streams that share the folder; 0 makes no copies, and each
            member is read by a request of its own.

    Raises:
        UsageError: When a setting has an invalid value; names the setting.
    """

    split: str = "train"
    sources: int = 2
    shape: WindowShape = field(default_factory=WindowShape)
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    gain_range: tuple[float, float] | None = (0.5, 1.5)
    block_shards: int = DEFAULT_BLOCK_SHARDS
    frames: bool = False
    partners: Partners = "neighbours"
    distant_candidates: int = 8
    same_source: bool = False
    different_labels: bool = False
    across_corpora: bool = False
    sources_between: tuple[float, float] | None = None
    cache_folder: str | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    sample_rate: int | None = None
    vectors: str | tuple[str, ...] | None = None
    use_weights: bool = True

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            check_setting(name, value, f"a whole number, {least} or more", is_whole(value, least))
        wanted = "None, the name of an encoder, or a tuple of different names"
        check_setting("vectors", self.vectors, wanted, _are_names(self.vectors))
        check_setting("partners", self.partners, " or ".join(get_args(Partners)), self.partners in get_args(Partners))
        gains = self.gain_range
        check_setting("gain_range", gains, "None, or two gains, 0 or more, the lower first", _are_gains(gains))
        between = self.sources_between
        wanted = "None, or two shares between 0 and 1, the lower first"
        check_setting("sources_between", between, wanted, between is None or (_are_gains(between) and between[1] <= 1))
        if self.different_labels and (self.partners != "uniform" or self.same_source or self.across_corpora):
            raise UsageError("different_labels needs partners='uniform', and neither same_source nor across_corpora")
        if self.sources == 1 and self.partners != "neighbours":
            raise UsageError(f"partners={self.partners!r} needs partners: sources must be 2 or more, not 1")


_LEAST = {"sources": 1, "batch_size": 1, "seed": 0, "block_shards": 1, "distant_candidates": 1, "cache_bytes": 0}


def is_whole(value: Any, least: int) -> bool:
    """Return whether a value is a whole number, NumPy's included, of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_setting(name: str, value: Any, wanted: str, fits: bool) -> None:
    """Refuse a setting whose value does not fit, in a message that names the value and what is wanted.

    Raises:
        UsageError: When `fits` is False.
    """
    if not fits:
        raise UsageError(f"{name} must be {wanted}, not {value!r}")


def _are_names(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return value != ""
    return (
        isinstance(value, tuple)
        and all(isinstance(name, str) and name for name in value)
        and (len(set(value)) == len(value))
    )


def _are_gains(value: Any) -> bool:
    if value is None:
        return True
    try:
        low, high = (float(gain) for gain in value)
    except (TypeError, ValueError):
        return False
    return 0 <= low <= high < math.inf
