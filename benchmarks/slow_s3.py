"""An S3 server on loopback that takes its time: what a corpus far away is like, without the moods of a network.

    python -m benchmarks.slow_s3 FOLDER [--latency SECONDS]

The files below FOLDER are the objects of the bucket `bench`. Every request is answered after the latency, any number at
once. It speaks what the s3fs driver needs: get (ranges too), head, put (`If-None-Match: *` too), delete, and list, by
pages of 1,000. Servers made for tests look at every key for each page of a list, and hash an object when it is read: on
a machine that the server shares with its reader, that would be what is measured. This one sends files as they lie in
the page cache. Prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import itertools
import json
import mmap
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "bench"
PAGE = 1000
# A body goes out in pieces, so that one large object does not keep the others waiting.
PIECE_BYTES = 1 << 20
_TIME = "2024-01-01T00:00:00.000Z"


class Object(NamedTuple):
    """Contents, and a tag that no other contents have had: like those of uploads in parts, it is no hash."""

    data: memoryview
    tag: str


class Objects:
    """Objects by key, in memory or mapped into it, and their keys in order."""

    def __init__(self, folder: Path) -> None:
        self._data: dict[str, Object] = {}
        self._keys: list[str] = []
        self._versions = itertools.count(1)
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            self.put(path.relative_to(folder).as_posix(), _mapped(path))

    def get(self, key: str) -> Object | None:
        return self._data.get(key)

    def put(self, key: str, data: bytes | memoryview) -> Object:
        if key not in self._data:
            bisect.insort(self._keys, key)
        self._data[key] = Object(memoryview(data), f'"{next(self._versions):032x}-1"')
        return self._data[key]

    def delete(self, key: str) -> None:
        if self._data.pop(key, None) is not None:
            self._keys.pop(bisect.bisect_left(self._keys, key))

    def page(self, prefix: str, delimiter: str, after: str, size: int) -> tuple[list[str], list[str], str | None]:
        """Keys and common prefixes of one page, and where the next begins; None where there is none."""
        keys, folders = [], []
        place = bisect.bisect_right(self._keys, after) if after else bisect.bisect_left(self._keys, prefix)
        while place < len(self._keys) and self._keys[place].startswith(prefix):
            key = self._keys[place]
            if len(keys) + len(folders) == size:
                return keys, folders, self._keys[place - 1]
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                keys.append(key)
                place += 1
            else:
                folder = key[: cut + len(delimiter)]
                folders.append(folder)
                place = bisect.bisect_left(self._keys, folder + "\U0010ffff")
        return keys, folders, None


def application(objects: Objects, latency_seconds: float, counts: dict[str, int]) -> web.Application:
    """The server; `counts` is told every request by method, and the bytes of the objects that it sent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/_counts":
            told = dict(counts)
            counts.clear()
            return web.json_response(told)
        counts[request.method] = counts.get(request.method, 0) + 1
        await asyncio.sleep(latency_seconds)
        key = request.path.removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            return _listing(objects, request) if request.method == "GET" else web.Response()
        if request.method == "PUT":
            data = await request.read()
            if request.headers.get("If-None-Match") == "*" and objects.get(key) is not None:
                return _error("PreconditionFailed", 412)
            return web.Response(headers={"ETag": objects.put(key, data).tag})
        if request.method == "DELETE":
            objects.delete(key)
            return web.Response(status=204)
        found = objects.get(key)
        if found is None:
            return _error("NoSuchKey", 404)
        data, tag = found
        headers = {"ETag": tag, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(data))})
        wanted = request.http_range
        if wanted.start is None and wanted.stop is None:
            counts["bytes"] = counts.get("bytes", 0) + len(data)
            return await _send(request, 200, data, headers)
        first, last, _ = wanted.indices(len(data))
        if first >= last:
            return _error("InvalidRange", 416)
        counts["bytes"] = counts.get("bytes", 0) + last - first
        headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(data)}"
        return await _send(request, 206, data[first:last], headers)

    made = web.Application(client_max_size=1 << 40)
    made.router.add_route("*", "/{path:.*}", answer)
    return made


def _listing(objects: Objects, request: web.Request) -> web.Response:
    asked = request.query
    size = min(PAGE, int(asked.get("max-keys", PAGE)))
    after = asked.get("continuation-token") or asked.get("start-after", "")
    keys, folders, following = objects.page(asked.get("prefix", ""), asked.get("delimiter", ""), after, size)
    encode = quote if asked.get("encoding-type") == "url" else escape
    told = [
        f"<Contents><Key>{encode(key)}</Key><LastModified>{_TIME}</LastModified><ETag>&quot;0&quot;</ETag>"
        f"<Size>{len(objects.get(key).data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    ]
    told += [f"<CommonPrefixes><Prefix>{encode(folder)}</Prefix></CommonPrefixes>" for folder in folders]
    if following is not None:
        told.append(f"<NextContinuationToken>{escape(following)}</NextContinuationToken>")
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{encode(asked.get('prefix', ''))}</Prefix>"
        f"<KeyCount>{len(keys) + len(folders)}</KeyCount><MaxKeys>{size}</MaxKeys>"
        f"<EncodingType>{asked.get('encoding-type', '')}</EncodingType>"
        f"<IsTruncated>{'true' if following is not None else 'false'}</IsTruncated>{''.join(told)}</ListBucketResult>"
    )
    return web.Response(text=body, content_type="application/xml")


def _error(code: str, status: int) -> web.Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml")


async def _send(request: web.Request, status: int, body: memoryview, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    for first in range(0, len(body), PIECE_BYTES):
        await response.write(body[first : first + PIECE_BYTES])
    await response.write_eof()
    return response


def _mapped(path: Path) -> bytes | memoryview:
    """A file's contents, of a large one without a copy of them: each that is mapped stays open."""
    if path.stat().st_size < PIECE_BYTES:
        return path.read_bytes()
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def heard(address: str) -> tuple[int, int]:
    """Requests that the server has answered since the last asking, and bytes of objects that it has sent."""
    with urllib.request.urlopen(f"{address}/_counts") as answer:
        counts = json.loads(answer.read())
    sent = counts.pop("bytes", 0)
    return sum(counts.values()), sent


@contextlib.contextmanager
def slow_s3(folder: Path, latency_seconds: float) -> Iterator[tuple[str, dict[str, str]]]:
    """A running server: its address, and the environment that leads S3 clients to it."""
    command = [sys.executable, "-m", "benchmarks.slow_s3", str(folder), "--latency", str(latency_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            yield (
                address,
                {
                    "AWS_ENDPOINT_URL": address,
                    "AWS_ACCESS_KEY_ID": "bench",
                    "AWS_SECRET_ACCESS_KEY": "bench",
                    "AWS_DEFAULT_REGION": "us-east-1",
                    "AWS_EC2_METADATA_DISABLED": "true",
                },
            )
        finally:
            process.stdin.close()
            process.wait()


async def _serve(folder: Path, latency_seconds: float) -> None:
    runner = web.AppRunner(application(Objects(folder), latency_seconds, {}), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.05)
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.folder, chosen.latency))
