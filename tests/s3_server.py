"""A real S3 server on loopback, in a process of its own: moto's, made as strict as S3 and as slow or flaky as asked.

Run as a script it serves one bucket until its standard input ends. moto looks whether a key exists and writes it in two
steps, so of two conditional writes at once both may win; S3 decides such a race, and so does the lock in here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

BUCKET = "corpora"


@dataclass(frozen=True)
class S3Server:
    """A running server: its address, and what a client needs in its environment."""

    address: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def ask(self, **settings: object) -> dict:
        """Change `latency` (seconds a request), `fail` (how many of the next reads break off) or
        `ignore_conditions`; returns the requests counted since the last asking, by method."""
        body = json.dumps(settings).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.address}/_control", body)) as answer:
            return json.loads(answer.read())

    def bytes_sent(self) -> dict[str, int]:
        """Bytes of all bodies sent for reads since the last asking, by path: `/corpora/...`."""
        with urllib.request.urlopen(f"{self.address}/_traffic") as answer:
            return json.loads(answer.read())


@contextlib.contextmanager
def running_server() -> Iterator[S3Server]:
    """A server with an empty bucket, gone afterwards."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        try:
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                # A process forked from this one meanwhile may still hold the other end of that pipe.
                process.kill()


class _Strict:
    """moto's application behind a lock for writes, a pause for every request, and breakdowns on demand."""

    def __init__(self, application) -> None:
        self._application = application
        self._writing = threading.Lock()
        self._settings = {"latency": 0.0, "fail": 0, "ignore_conditions": False}
        self._requests: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_traffic":
            counted, self._sent = self._sent, Counter()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(counted).encode()]
        if environ["PATH_INFO"] == "/_control":
            return self._control(environ, start_response)
        method = environ["REQUEST_METHOD"]
        self._requests[method] += 1
        time.sleep(self._settings["latency"])
        if method == "GET" and self._settings["fail"] > 0:
            self._settings["fail"] -= 1
            # Promise more than comes: the connection breaks off in the middle of the body.
            start_response("200 OK", [("Content-Length", "1000000")])
            return [b"x" * 10]
        if self._settings["ignore_conditions"]:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if method == "GET" or method == "HEAD":
            body = list(self._application(environ, start_response))
            self._sent[environ["PATH_INFO"]] += sum(map(len, body)) if method == "GET" else 0
            return body
        with self._writing:
            return list(self._application(environ, start_response))

    def _control(self, environ, start_response):
        self._settings |= json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        counted, self._requests = self._requests, Counter()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(counted).encode()]


def _serve() -> None:
    import boto3
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            pass

        def log(self, *_: object) -> None:
            pass

    application = _Strict(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=BUCKET)
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve()
