"""Estimates, for a dry run, what fetching asks of sites and of the disk, from the rows' sources and URLs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.corpus import DownloadBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.manifest_diff import is_removed
from vidaudio.corpus.tombstones import Tombstones
from vidaudio.hashing import hashed
from vidaudio.manifest.source import RowSource
from vidaudio.media.fetch.types import are_remote, is_file_url, path_of_file_url

# Yields the rows in pieces; may be called more than once.
Pieces = Callable[[], Iterator[pa.Table]]
_HOST = r"^[^:]*://(?P<host>[^/?#]*)"
_NO_SITE = "generic"


def rows_to_fetch(
    standing: Corpus | None, missing: np.ndarray | None, removed: Tombstones, new: Sequence[RowSource]
) -> Iterator[pa.Table]:
    """Yield source and URL of the rows that a build would fetch.

    Args:
        standing: The existing corpus; None where the build begins one.
        missing: Which shards of the corpus are not downloaded, bool `[shards]`; None where nothing is to be downloaded.
        removed: Tombstones of the corpus.
        new: Rows that the build would put into new shards.
    """
    if missing is None:
        return
    if standing is not None and missing.any():
        for table in standing.tables(["id", "source", "url", "shard"]):
            waiting = missing[table["shard"].to_numpy()]
            if removed:
                # A clip that was removed is never asked for again.
                waiting &= ~is_removed(table, removed)
            yield table.filter(pa.array(waiting)).select(["source", "url"])
    for rows in new:
        yield from rows.tables(["source", "url"])


class RequestEstimate:
    """What fetching a list of rows asks of sites and of the disk.

    Every source and URL, and every local file, counts once.

    Args:
        pieces: Function that yields the rows' sources and URLs, in pieces; called twice.
        block: Download settings of the run's recipe.

    Attributes:
        by_site: Number of sources to fetch, by the site whose rate limit applies to them.
        local_bytes, missing_files: Bytes of the local files, and number of local files that do not exist.
    """

    def __init__(self, pieces: Pieces, block: DownloadBlock) -> None:
        self._block = block
        self._site_of_host: dict[str, str] = {}
        self.by_site: Counter[str] = Counter()
        self.local_bytes = self.missing_files = 0
        # First row of each distinct request, found by hashes: ten million of them take little memory.
        first = _first_of_each(_kind(table) for table in pieces())
        begin = 0
        for table in pieces():
            rows = table.filter(pa.array(first[begin : begin + table.num_rows]))
            begin += table.num_rows
            self._add(rows)

    def _add(self, rows: pa.Table) -> None:
        remote = are_remote(rows["url"])
        asked = rows["url"].filter(remote)
        hosts = pc.fill_null(pc.struct_field(pc.extract_regex(asked, _HOST), "host"), "")
        for host, links in _pairs(pc.value_counts(hosts)):
            # One link decides for its whole host, since yt-dlp has thousands of patterns. The row's source is ignored:
            # rate limits go by address.
            if host not in self._site_of_host:
                self._site_of_host[host] = self._site_of_link(asked[pc.index(hosts, host).as_py()].as_py())
            self.by_site[self._site_of_host[host]] += links
        for url in rows["url"].filter(pc.invert(remote)).to_pylist():
            path = path_of_file_url(url) if is_file_url(url) else Path(url)
            if path is None or (is_file_url(url) and not self._block.allow_file_urls):
                continue  # the build refuses it, so it is not read
            if path.is_file():
                self.local_bytes += path.stat().st_size
            else:
                self.missing_files += 1

    def _site_of_link(self, link: str) -> str:
        """Return a link's site as the rate limiter names it; `generic` where it has none."""
        from vidaudio.media.fetch.ytdlp import site_of_link

        try:
            return site_of_link(link, self._block.extractors)
        except ValueError:  # not a valid address, so it belongs to no site
            return _NO_SITE


def _kind(table: pa.Table) -> np.ndarray:
    """Return a hash of what each row fetches, uint64 `[rows]`: source and URL for a site, the path for the disk."""
    urls = hashed(table["url"])
    remote = are_remote(table["url"]).to_numpy()
    return np.where(remote, urls ^ (hashed(table["source"]) * np.uint64(3)), urls)


def _first_of_each(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Return which values occur for the first time, bool over all pieces."""
    values = np.concatenate([np.zeros(0, np.uint64), *pieces])
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _pairs(counts: pa.StructArray) -> Iterator[tuple[str, int]]:
    return zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
