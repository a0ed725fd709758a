"""A reader that opens whatever is visible in a corpus, over and over, and counts what is not whole.

    python -m tests.chaos.reader CORPUS

Runs until standard input closes, then prints how many files it has opened and what was partial, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.shards.checksum import checksum_ok
from vidaudio.shards.commit import decode_table
from vidaudio.shards.scratch import PREFIX

TAR_BLOCK = 10240


class Partial(Exception):
    """A file that is not whole; says what is missing."""


class Reader:
    """Looks at one corpus.

    Attributes:
        opened: Files seen whole; each is opened anew when it changes.
        partial: What was not, in words.
    """

    def __init__(self, corpus: Path) -> None:
        self.corpus = corpus
        self.opened = 0
        self.partial: list[str] = []
        self._whole: set[tuple] = set()

    def look(self) -> None:
        """Open everything that is visible now and has not been seen whole before."""
        for folder, folders, files in os.walk(self.corpus):
            folders[:] = [name for name in folders if not name.startswith(PREFIX)]
            for name in files:
                path = Path(folder) / name
                try:
                    status = path.stat()
                    seen = (path, status.st_ino, status.st_size, status.st_mtime_ns)
                    if seen not in self._whole:
                        self._open(path)
                        self._whole.add(seen)
                        self.opened += 1
                except FileNotFoundError:
                    continue  # a loser's tar, or media not kept: removed between the look and the opening
                except Exception as error:  # whatever a reader stumbles over is the finding
                    self.partial.append(f"{path.relative_to(self.corpus)}: {type(error).__name__}: {error}")

    def _open(self, path: Path) -> None:
        if path.suffix == ".tar":
            self._tar(path)
        elif path.suffix == ".parquet" and path.relative_to(self.corpus).parts[0] in ("clips", "av", "embeddings"):
            self._table(path)
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".arrow":
            pa.ipc.open_file(path).read_all()
        elif path.suffix == ".json":
            json.loads(path.read_text())

    def _tar(self, path: Path) -> None:
        data = path.read_bytes()
        if not data or len(data) % TAR_BLOCK or any(data[-1024:]):
            raise Partial(f"a tar of {len(data)} bytes without its end")
        named = path.name.split(".")[1]
        if named != "tar" and hashlib.sha256(data).hexdigest()[:8] != named:
            raise Partial("its bytes are not those of its name")
        with tarfile.open(path) as tar:
            for member in tar:
                if len(tar.extractfile(member).read()) != member.size:
                    raise Partial(f"{member.name} is short")

    def _table(self, path: Path) -> None:
        data = path.read_bytes()
        if not checksum_ok(data):
            raise Partial("its seal is broken")
        _, record = decode_table(data)
        released = path.with_suffix(".released")
        if record.tar is not None and not (path.parent / record.tar).exists() and not released.exists():
            raise Partial(f"its tar {record.tar} is not there")


def main(corpus: str) -> None:
    reader = Reader(Path(corpus))
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    while not stopped.wait(0.05):
        reader.look()
    reader.look()
    print(json.dumps({"opened": reader.opened, "partial": reader.partial[:20]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
