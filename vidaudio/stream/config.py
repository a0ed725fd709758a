"""What a stream iterates, and how."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from vidaudio.errors import CorpusError
from vidaudio.stream.order import DEFAULT_BLOCK_SHARDS
from vidaudio.stream.windows import WindowShape

Partners = Literal["neighbours", "uniform", "distant"]

DEFAULT_CACHE_BYTES = 50 * 10**9
CACHE_VARIABLE = "VIDAUDIO_CACHE"


def default_cache_folder() -> Path:
    """Where copies of remote shards are kept unless told otherwise: `$VIDAUDIO_CACHE`, or a folder of the user's."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "vidaudio")


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What to iterate, and how.

    What:
        split: Of the packed corpus.
        sources: Different sources a mixture; 1: single samples.
        shape: Of a window; by default three pictures 1 s apart and 4.096 s of sound, at any rate.
        frames: Deliver the window's pictures as well; the pack must hold them.
        sample_rate: Refuse a corpus whose sound has another, Hz; None: any will do.

    How:
        batch_size: Mixtures a global batch; ranks divide it.
        shuffle: False gives packed order and middle windows, each group once: evaluation.
        seed: Of order, windows and gains.
        gain_range: Bounds of the uniform gain of each source; None for none (CLIPSep trains with 0.5 to 1.5).
        block_shards: Shards mixed with one another in an epoch.

    With whom a sample is mixed:
        partners: `neighbours`: an epoch is cut into groups, each sample comes once. `uniform`: each sample comes once,
            and with it others drawn from all (Sound of Pixels, CLIPSep). `distant`: each sample comes once, and with
            it those of `distant_candidates` drawn from its block whose pictures are least like its own.
        distant_candidates: See there.
        same_source: With `uniform`, let a source be mixed with itself, as the papers' code does.
        across_corpora: Of several corpora, let one mixture hold samples of more than one.

    Remote corpora:
        cache_folder: For copies of their shards; None: `$VIDAUDIO_CACHE` or `~/.cache/vidaudio`.
        cache_bytes: What the copies of all streams that share the folder may take; 0: no copies, every member by a
            request of its own.

    Raises:
        CorpusError: A setting that no stream can have; names it.
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
    across_corpora: bool = False
    cache_folder: str | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            check_setting(name, value, f"a whole number, {least} or more", is_whole(value, least))
        check_setting("partners", self.partners, " or ".join(get_args(Partners)), self.partners in get_args(Partners))
        gains = self.gain_range
        check_setting("gain_range", gains, "None, or two gains, 0 or more, the lower first", _are_gains(gains))
        if self.sources == 1 and self.partners != "neighbours":
            raise CorpusError(f"partners={self.partners!r} needs partners: sources must be 2 or more, not 1")


_LEAST = {"sources": 1, "batch_size": 1, "seed": 0, "block_shards": 1, "distant_candidates": 1, "cache_bytes": 0}


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number, NumPy's included, of at least so much."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def check_setting(name: str, value: Any, wanted: str, fits: bool) -> None:
    """Refuse the value of a setting, in a sentence that names both.

    Raises:
        CorpusError: It does not fit.
    """
    if not fits:
        raise CorpusError(f"{name} must be {wanted}, not {value!r}")


def _are_gains(value: Any) -> bool:
    if value is None:
        return True
    try:
        low, high = (float(gain) for gain in value)
    except (TypeError, ValueError):
        return False
    return 0 <= low <= high < math.inf
