"""A clip: one row of a manifest, with the checks that every row has passed.

A `Clip` cannot be built with invalid values. So later code need not check again whether an id can be a member name or
whether a cut ends after it starts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vidaudio.errors import ManifestError
from vidaudio.manifest.public_url import public_source

# A dot is not allowed: WebDataset cuts a member's key at the first dot and would read `a.b` and `a.c` as one clip.
CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of one video, with its labels and captions.

    Location:
        id: `[A-Za-z0-9_-]{1,128}`, unique in a manifest.
        source: `site:video id` of the video that the clip is cut from: the unit of splits, and of the rule that a video
            is never mixed with itself. Passwords and signatures of a URL in it are removed, since sources are copied
            into every table and sample.
        dataset: Name of the list that the clip comes from.
        url: A site's URL, the http(s) or file: URL of a file, or an absolute local path.
        media_start_seconds: Position of time 0 of the file at `url` on the source's timeline, seconds: None or 0 for a
            whole video, the clip's start for a file that is a cut of just this clip.
        start_seconds: Start of the cut, seconds on the source's timeline.
        end_seconds: End of the cut, seconds on the source's timeline; None means the end of the video.

    Annotations:
        split: `train`, `val`, `test` or the list's own word; None if the list has no splits.
        labels: Labels in the list's order, without repeats.
        captions: Captions in the list's order, without repeats.
        shard: Shard number; None until a build assigns one.

    Raises:
        ManifestError: When a field breaks these rules; the message is the reason alone, and readers put file and line
            in front.
    """

    id: str
    source: str
    dataset: str
    url: str
    media_start_seconds: float | None = None
    start_seconds: float = 0.0
    end_seconds: float | None = None
    split: str | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    shard: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", public_source(self.source))
        if not CLIP_ID.fullmatch(self.id):
            raise ManifestError(f"the id {self.id!r} is not 1 to 128 letters, digits, _ or -")
        site, colon, video = self.source.partition(":")
        if not (site and colon and video):
            raise ManifestError(f"the source {self.source!r} is not of the form site:video")
        if not self.url:
            raise ManifestError("there is no URL or path")
        if not (math.isfinite(self.start_seconds) and self.start_seconds >= 0):
            raise ManifestError(f"the clip starts at {self.start_seconds} s; a start is 0 or later")
        if self.end_seconds is not None and not (
            math.isfinite(self.end_seconds) and self.end_seconds > self.start_seconds
        ):
            raise ManifestError(f"the clip ends at {self.end_seconds} s, not after its start at {self.start_seconds} s")
        try:
            "".join((self.source, self.dataset, self.url, self.split or "", *self.labels, *self.captions)).encode()
        except UnicodeEncodeError as error:
            raise ManifestError("a name or text holds bytes that are not UTF-8") from error
        if self.media_start_seconds is not None and not math.isfinite(self.media_start_seconds):
            raise ManifestError(f"the file starts at {self.media_start_seconds} s, which is no time")

    @property
    def site(self) -> str:
        """The part of `source` before the colon: `youtube`, `file`, `web` ..."""
        return self.source.partition(":")[0]

    @property
    def video_id(self) -> str:
        """The part of `source` after the colon."""
        return self.source.partition(":")[2]
