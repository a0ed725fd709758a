"""The site that a chaos corpus is fetched from: files of a folder, each request written down with its time.

    python -m tests.chaos.site FOLDER LOG

A process of its own, so that the harness stays a single thread and may fork. Prints its URL.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.points import LOOKED
from vidaudio.demo import serve

# Long enough that random moments also fall into fetches.
LATENCY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """One request: for which path, and when whoever sent it last looked whether it was needed, seconds since 1970."""

    looked: float
    path: str


def read_log(path: Path) -> list[Request]:
    """All requests so far, in order."""
    return [Request(**json.loads(line)) for line in path.read_text().splitlines()]


def main(folder: str, log: str) -> None:
    lock = threading.Lock()
    with serve.FolderServer(folder) as server, open(log, "a") as file:
        handler = server._server.RequestHandlerClass
        answer = handler._answer

        def logged(self, *, with_body: bool) -> None:
            with lock:
                file.write(json.dumps({"looked": float(self.headers[LOOKED]), "path": self.path}) + "\n")
                file.flush()
            time.sleep(LATENCY_SECONDS)
            answer(self, with_body=with_body)

        handler._answer = logged
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
