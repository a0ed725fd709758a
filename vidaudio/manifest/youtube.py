"""YouTube's ids and URLs, and the clip of a row in a list of YouTube cuts."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.ids import start_suffix
from vidaudio.manifest.public_url import public_url

VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_HOSTS = {"youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com", "youtu.be"}


def check_video_id(text: str) -> str:
    """Return the id after checking its form.

    Raises:
        ManifestError: When it is not eleven letters, digits, `_` or `-`. Spreadsheets turn ids that begin with - or =
            into formulas, and some tools drop the leading -.
    """
    if not VIDEO_ID.fullmatch(text):
        raise ManifestError(f"{text!r} is not a YouTube id (11 letters, digits, _ or -)")
    return text


def watch_url(video_id: str) -> str:
    """Return the URL of a video's page in one spelling, so that equal videos have equal URLs."""
    return f"https://www.youtube.com/watch?v={video_id}"


def video_id_of(url: str) -> str | None:
    """Return the id in a YouTube URL of any form (watch, youtu.be, shorts, embed, live, v); None for another site.

    Raises:
        ManifestError: When the URL is YouTube's and names no single video.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().removeprefix("www.")
    if host not in _HOSTS:
        return None
    steps = [step for step in parts.path.split("/") if step]
    if host == "youtu.be":
        video = steps[0] if steps else ""
    elif steps[:1] == ["watch"]:
        video = parse_qs(parts.query).get("v", [""])[0]
    elif len(steps) > 1 and steps[0] in {"shorts", "embed", "live", "v"}:
        video = steps[1]
    else:
        video = ""
    if not VIDEO_ID.fullmatch(video):
        raise ManifestError(f"{public_url(url)} is a YouTube address of no single video")
    return video


def youtube_clip(
    video_id: str,
    *,
    dataset: str,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    split: str | None = None,
    labels: tuple[str, ...] = (),
    captions: tuple[str, ...] = (),
) -> Clip:
    """Return the clip `<video id>_<start>` of a YouTube video.

    Raises:
        ManifestError: When the id is not a YouTube id, or the cut does not end after its start.
    """
    check_video_id(video_id)
    return Clip(
        id=video_id + start_suffix(start_seconds),
        source=f"youtube:{video_id}",
        dataset=dataset,
        url=watch_url(video_id),
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        split=split,
        labels=labels,
        captions=captions,
    )
