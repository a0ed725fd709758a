"""yt-dlp's extractor for the loopback site: the page is JSON, and names formats, manifests, or what is wrong."""

from __future__ import annotations

from typing import Any

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError


class LoopbackSiteIE(InfoExtractor):
    _VALID_URL = r"http://127\.0\.0\.1:\d+/watch/(?P<id>[\w-]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        video_id = self._match_id(url)
        page = self._download_json(url, video_id)
        for warning in page.get("warnings", ()):
            self.report_warning(warning, video_id, only_once=True)
        for message in page.get("debug", ()):
            self.write_debug(message, only_once=True)
        if page.get("geo_blocked"):
            self.raise_geo_restricted(countries=["NO"])
        if page.get("error"):
            raise ExtractorError(page["error"], expected=True)
        if page.get("crash"):
            return {"id": video_id}["formats"]
        if page.get("entries"):
            return self.playlist_result([self.url_result(entry) for entry in page["entries"]], video_id)
        formats = list(page.get("formats", []))
        if page.get("hls"):
            formats += self._extract_m3u8_formats(page["hls"], video_id, "mp4", m3u8_id="hls")
        if page.get("dash"):
            formats += self._extract_mpd_formats(page["dash"], video_id, mpd_id="dash")
        told = {key: page[key] for key in ("title", "uploader", "channel", "license", "duration") if key in page}
        return {"id": video_id, "formats": formats, "is_live": page.get("is_live"), **told}


# What `FetchOptions.extractors` takes.
EXTRACTOR = f"{LoopbackSiteIE.__module__}:{LoopbackSiteIE.__name__}"
