"""What fetching would ask of sites and of the disk, counted for a dry run from sources and URLs alone."""

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
from vidaudio.manifest.source import RowSource, hashed
from vidaudio.media.fetch.types import are_remote, is_file_url, path_of_file_url

# Rows of a list, in pieces, as often as they are asked for.
Pieces = Callable[[], Iterator[pa.Table]]
_HOST = r"^[^:]*://(?P<host>[^/?#]*)"
_NO_SITE = "generic"


def rows_to_fetch(
    standing: Corpus | None, missing: np.ndarray | None, removed: Tombstones, new: Sequence[RowSource]
) -> Iterator[pa.Table]:
    """Source and URL of the rows that a build would fetch.

    Args:
        standing: The corpus, where it has been begun.
        missing: Which of its shards are not downloaded, bool `[shards]`; None where nothing is to be downloaded.
        removed: From the corpus.
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
    """What fetching these rows asks of sites and of the disk: every source and URL once, every local file once.

    Args:
        pieces: The rows' sources and URLs.
        block: Of the run's recipe.

    Attributes:
        by_site: Sources to ask, by the site whose budget pays for them.
        local_bytes, missing_files: Of the local files.
    """

    def __init__(self, pieces: Pieces, block: DownloadBlock) -> None:
        self._block = block
        self._site_of_host: dict[str, str] = {}
        self.by_site: Counter[str] = Counter()
        self.local_bytes = self.missing_files = 0
        # By hashes, so that ten million of them take little memory: which row is the first of its kind.
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
            # Looked at whatever the list calls the source: budgets know addresses only.
            if host not in self._site_of_host:
                self._site_of_host[host] = self._site_of_link(asked[pc.index(hosts, host).as_py()].as_py())
            self.by_site[self._site_of_host[host]] += links
        for url in rows["url"].filter(pc.invert(remote)).to_pylist():
            path = path_of_file_url(url) if is_file_url(url) else Path(url)
            if path is None or (is_file_url(url) and not self._block.allow_file_urls):
                continue  # refused, and not read
            if path.is_file():
                self.local_bytes += path.stat().st_size
            else:
                self.missing_files += 1

    def _site_of_link(self, link: str) -> str:
        """As its budget is called; the first link of a host speaks for all, since yt-dlp has thousands of patterns."""
        from vidaudio.media.fetch.ytdlp import site_of_link

        try:
            return site_of_link(link, self._block.extractors)
        except ValueError:  # an address that is none has no site to be known by
            return _NO_SITE


def _kind(table: pa.Table) -> np.ndarray:
    """A hash of what a row asks for: of a site, its source and URL; of the disk, its path. uint64 `[rows]`."""
    urls = hashed(table["url"])
    remote = are_remote(table["url"]).to_numpy()
    return np.where(remote, urls ^ (hashed(table["source"]) * np.uint64(3)), urls)


def _first_of_each(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Which values come for the first time: bool over all pieces."""
    values = np.concatenate([np.zeros(0, np.uint64), *pieces])
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _pairs(counts: pa.StructArray) -> Iterator[tuple[str, int]]:
    return zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
