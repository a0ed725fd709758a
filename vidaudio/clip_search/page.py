"""Self-contained HTML page of a search's clips, with pictures and sound; it has no script and sends no requests."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vidaudio.clip_search.clip_facts import ClipMedia, read_clip_media
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import UsageError
from vidaudio.files import atomic_write
from vidaudio.text import storable_text

if TYPE_CHECKING:
    from vidaudio.clip_search.search import SearchHit, SearchReport

PICTURES_SHOWN = 4


def write_page(corpus: Corpus, report: SearchReport, path: Path) -> None:
    """Write the page of a search, replacing a file that exists.

    Raises:
        UsageError: When the file cannot be written.
        CorruptFileError: When pictures or sound of a clip cannot be read.
    """
    media: dict[str, ClipMedia] = {}
    for shard in sorted({hit.shard for hit in report.hits}):
        own = [hit.id for hit in report.hits if hit.shard == shard]
        media |= read_clip_media(corpus, shard, own, PICTURES_SHOWN)
    html = _filled(report, media)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(html)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; name another file with --page") from error


def _filled(report: SearchReport, media: dict[str, ClipMedia]) -> bytes:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("vidaudio.clip_search")
    style = folder.joinpath("page.css").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        title=storable_text(report.query),
        corpus=storable_text(report.corpus),
        report=report,
        hits=[_shown(hit, media[hit.id]) for hit in report.hits],
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    ).encode()


def _shown(hit: SearchHit, media: ClipMedia) -> dict[str, Any]:
    """Return the values that the template shows of a clip."""
    return {
        "rank": hit.rank,
        "id": hit.id,
        "similarity": f"{hit.similarity:.3f}",
        "label": hit.label,
        "title": hit.title,
        "start": None if hit.start_seconds is None else f"{hit.start_seconds:g}",
        "address": hit.url or hit.source,
        # Other schemes, such as javascript:, are shown as text.
        "is_link": _is_web_address(hit.url),
        "pictures": [base64.b64encode(picture).decode() for picture in media.pictures],
        "sound": base64.b64encode(media.sound).decode(),
    }


def _is_web_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
