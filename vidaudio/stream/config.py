"""What a stream iterates, and how."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
        sources: Different sources a mixture.
        shape: Of a window.
        frames: Deliver the window's pictures as well; the pack must hold them.

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
