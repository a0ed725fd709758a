"""A store on S3: the commit guarantees of a disk, reads that survive a bad connection, errors in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from aiobotocore.session import AioSession

from tests.s3_server import BUCKET, S3Server
from vidaudio.errors import StoreError
from vidaudio.shards import remote
from vidaudio.shards.commit import read_record, table_name
from vidaudio.shards.open import open_store
from vidaudio.shards.parallel_read import REMOTE_READERS
from vidaudio.shards.read import TarReader
from vidaudio.shards.s3_driver import CONNECTIONS, parse_time, s3_options
from vidaudio.shards.store import LocalStore, Store

COMMITTER = """
import sys
import pyarrow as pa
from vidaudio.shards.commit import commit
from vidaudio.shards.open import open_store
store, me = open_store(sys.argv[1]), sys.argv[2]
store.exists("x")
print("ready", flush=True)
sys.stdin.readline()
for shard in range(5):
    with store.workspace() as scratch:
        # Two of three make the same bytes.
        (scratch / "t.tar").write_bytes((b"one" if me in "01" else b"two") * 10_000)
        table = pa.table({"id": ["a"]})
        record = commit(store, "av", shard, stage="extract", plan_hash="p", table=table, tar=scratch / "t.tar")
    print(record.tar)
"""


@pytest.fixture
def url(s3_server: S3Server) -> str:
    s3_server.ask(latency=0.0, fail=0, ignore_conditions=False)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@contextlib.contextmanager
def answered(answer: Callable[[str | None], bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket that answers every GET with 200 and what `answer` makes of its Range."""

    class Bucket(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answer(self.headers["Range"])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configured = {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "key": "a", "secret": "b"}
        monkeypatch.setitem(fsspec.config.conf, "s3", configured)
        try:
            yield
        finally:
            server.shutdown()


def race(script: str, url: str, racers: int = 3) -> list[list[str]]:
    """What each of several processes prints that begin at the same moment."""
    command = [sys.executable, "-c", script, url]
    started = [
        subprocess.Popen([*command, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for me in range(racers)
    ]
    for racer in started:
        assert racer.stdout.readline() == "ready\n"
    for racer in started:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return [racer.communicate(timeout=60)[0].split() for racer in started]


class TestRaces:
    def test_of_processes_that_commit_at_once_one_stands_whole(self, store, url):
        outcomes = race(COMMITTER, url)
        for shard, records in enumerate(zip(*outcomes, strict=True)):
            assert len(set(records)) == 1
            assert read_record(store, table_name("av", shard)).tar == records[0]
        assert set(store.list("av")) == {*outcomes[0], *(f"{shard:06d}.parquet" for shard in range(5))}

    def test_of_processes_that_create_one_wins_and_its_content_stands(self, store, url):
        from tests.shards.test_store import RACER

        won = race(RACER, url)
        for number, outcome in enumerate(zip(*won, strict=True)):
            assert sorted(outcome) == ["0", "0", "1"]
            assert store.read(f"table-{number}") == bytes([outcome.index("1")]) * 65536

    def test_of_two_large_uploads_in_parts_one_wins(self, store, tmp_path, monkeypatch, s3_server):
        monkeypatch.setattr(remote, "PART_BYTES", 5 << 20)

        def upload(me: int) -> bool:
            path = tmp_path / f"tar-{me}"
            path.write_bytes(bytes([me]) * (11 << 20))
            return store.put_new("training/train-000000.tar", path)

        s3_server.ask()
        with ThreadPoolExecutor(2) as pool:
            won = list(pool.map(upload, (1, 2)))
        # A POST begins an upload in parts, and another one completes it.
        assert s3_server.ask()["POST"] >= 3
        assert sorted(won) == [False, True]
        data = store.read("training/train-000000.tar")
        assert data == bytes([won.index(True) + 1]) * (11 << 20)
        assert not list(tmp_path.glob("tar-*"))


class TestExclusiveCreation:
    def test_it_is_tried_and_not_assumed(self, store, url, s3_server, tmp_path):
        assert store.exclusive_create
        assert store.warning is None
        assert store.list("") == {}
        s3_server.ask(ignore_conditions=True)
        careless = open_store(url)
        assert not careless.exclusive_create
        assert careless.warning.startswith(f"{url} offers no exclusive creation")
        assert LocalStore(tmp_path).warning is None
        assert not open_store("memory://somewhere").exclusive_create

    def test_disks_without_hard_links_are_named(self, tmp_path, monkeypatch):
        def unsupported(*_: object) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", unsupported)
        assert not LocalStore(tmp_path).exclusive_create


class TestReading:
    def test_what_others_write_is_seen_at_once(self, store, url):
        assert store.list("a") == {}
        assert not store.exists("a/x")
        write = "import sys; from vidaudio.shards.open import open_store; open_store(sys.argv[1]).create('a/x', b'1')"
        subprocess.run([sys.executable, "-c", write, url], check=True)
        assert store.exists("a/x")
        assert store.list("a") == {"x": 1}
        assert store.folders("") == ["a"]

    def test_an_empty_object_in_the_place_of_a_folder_is_no_file(self, store):
        store.fs.pipe_file(f"{store.root}/a/", b"")
        store.create("a/x", b"1")
        assert store.list("a") == {"x": 1}

    def test_ranges_end_with_the_file_and_cost_one_request(self, store, s3_server):
        store.create("x", bytes(range(100)))
        s3_server.ask()
        assert store.read_range("x", 90, 50) == bytes(range(90, 100))
        assert store.read_range("x", 10, 0) == b""
        assert store.read_range("x", 100, 5) == b""
        assert store.read("x") == bytes(range(100))
        assert s3_server.ask() == {"GET": 3}

    def test_connections_that_break_off_are_tried_again_and_not_for_ever(self, store, s3_server, monkeypatch):
        monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(store.fs, "retries", 2)
        data = os.urandom(100_000)
        store.create("x", data)
        s3_server.ask(fail=2)
        assert store.read_range("x", 10, 1_000) == data[10:1_010]
        s3_server.ask(fail=2)
        assert store.read("x") == data
        s3_server.ask(fail=1_000)
        with pytest.raises(StoreError, match=r"reading x failed at s3://"):
            store.read_range("x", 0, 10)
        assert s3_server.ask(fail=0)["GET"] <= 6

    def test_tars_are_copied_or_read_by_range(self, store, s3_server, tmp_path):
        store.create("av/tar", bytes(range(256)) * 40)
        s3_server.ask()
        for whole, requests in ((True, 1), (False, 3)):
            with TarReader(store, "av/tar", whole=whole) as tar:
                assert [tar.read(place, 4) for place in (0, 5, 256)] == [bytes(range(s, s + 4)) for s in (0, 5, 0)]
            assert sum(s3_server.ask().values()) <= requests
        store.download("av/tar", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == store.read("av/tar")
        with pytest.raises(FileNotFoundError):
            store.download("av/none", tmp_path / "none")

    @pytest.mark.parametrize("size", [0, 999, 1_000, 1_001, 3_500])
    def test_a_copy_is_the_file_whatever_its_size_and_only_its_parts_are_asked_for(
        self, store, s3_server, monkeypatch, tmp_path, size
    ):
        monkeypatch.setattr(remote, "PART_BYTES", 1_000)
        data, parts = os.urandom(size), max(1, -(-size // 1_000))
        store.create("tar", data)
        s3_server.ask()
        store.download("tar", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        assert s3_server.ask() == {"GET": parts}

    @pytest.mark.parametrize("size", [5, 2_500])
    def test_nothing_of_connections_that_broke_off_stays_in_a_copy(self, store, s3_server, monkeypatch, tmp_path, size):
        monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(remote, "PART_BYTES", 1_000)
        data = os.urandom(size)
        store.create("tar", data)
        s3_server.ask(fail=2)
        store.download("tar", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        s3_server.ask(fail=1_000)
        with pytest.raises(StoreError, match=r"reading tar failed at s3://"):
            store.download("tar", tmp_path / "copy")
        assert s3_server.ask(fail=0)["GET"] <= 6

    def test_a_copy_for_which_the_disk_has_no_room_is_one_sentence_and_fetched_once(self, store, s3_server):
        store.create("tar", bytes(10_000))
        s3_server.ask()
        with pytest.raises(StoreError, match=r"no copy can be written to /dev \(No space left on device\)"):
            store.download("tar", Path("/dev/full"))
        assert s3_server.ask() == {"GET": 1}

    def test_a_store_survives_a_fork_and_a_pickle(self, store):
        store.create("x", b"1")
        assert pickle.loads(pickle.dumps(store)).read("x") == b"1"
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(store.read, ("x",)).get(timeout=30) == b"1"


def test_a_large_tar_passes_through_little_memory(store, tmp_path):
    """256 MiB up, of which the parts under way are held, and down, of which only pieces are.

    In a process of its own, by its own peak; getrusage would count the parent's memory too.
    """
    script = """
import os, re, sys
from pathlib import Path
from vidaudio.shards.open import open_store

def most_memory():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

store, path = open_store(sys.argv[1]), Path(sys.argv[2])
store.exists("x")
before = most_memory()
data = os.urandom(1 << 20)
with path.open("wb") as file:
    for number in range(256):
        file.write(data[:-1] + bytes([number]))
store.put("tar", path)
assert most_memory() - before < 170
Path("/proc/self/clear_refs").write_text("5")  # forget the most so far
before = most_memory()
store.download("tar", path)
assert most_memory() - before < 40
whole = path.read_bytes()
assert len(whole) == 256 << 20
assert all(whole[((n + 1) << 20) - 1] == n and whole[n << 20 : (n << 20) + 99] == data[:99] for n in range(256))
"""
    subprocess.run([sys.executable, "-c", script, store.url, str(tmp_path / "tar")], check=True, timeout=120)
    store.remove("tar")


class TestErrors:
    def test_a_bucket_that_is_missing_is_named_and_not_made(self, s3_server):
        store = open_store("s3://mistyped/corpus")
        for attempt in (
            lambda: store.create("x", b"1"),
            lambda: store.read("x"),
            lambda: store.list(""),
        ):
            with pytest.raises(StoreError, match=r"s3://mistyped does not exist; create the bucket"):
                attempt()
        assert not store.exists("x")

    @pytest.mark.parametrize(
        ("environment", "sentence"),
        [
            ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no credentials for s3://corpora/c"),
            (
                {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
                "no store answers for s3://corpora/c",
            ),
        ],
    )
    def test_no_credentials_and_no_answer_are_one_sentence(self, s3_server, environment, sentence, tmp_path):
        kept = {k: v for k, v in {**os.environ, **environment, "HOME": str(tmp_path)}.items() if v}
        script = """
from vidaudio.errors import StoreError
from vidaudio.shards.open import open_store
try:
    open_store("s3://corpora/c").exists("x")
except StoreError as error:
    print(error)
"""
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, env=kept, check=True, timeout=60)
        assert done.stdout.startswith(sentence)
        assert done.stdout.count("\n") == 1

    def test_a_driver_that_is_not_installed_is_named(self):
        with pytest.raises(StoreError, match=r"cannot open gs://bucket/corpus: its driver is not installed"):
            open_store("gs://bucket/corpus")


def test_leaving_no_trace_of_a_lost_upload(store, tmp_path: Path):
    for content in (b"first", b"second"):
        (tmp_path / "file").write_bytes(content)
        store.put_new("x", tmp_path / "file")
    assert store.read("x") == b"first"
    assert store.list("") == {"x": 5}


class TestDriver:
    def test_it_opens_as_many_connections_as_there_are_readers(self, store):
        assert not store.exists("missing")
        assert store.fs.s3.meta.config.max_pool_connections == CONNECTIONS >= REMOTE_READERS

    def test_what_the_user_has_configured_stays(self, s3_server, monkeypatch):
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"max_pool_connections": 3}, "profile": "x"})
        options = s3_options("s3")
        assert options == {"config_kwargs": {"max_pool_connections": 3}}

    @pytest.mark.parametrize(
        "text", ["2024-02-29T12:34:56.789Z", "2024-02-29T12:34:56+02:00", "Thu, 29 Feb 2024 12:34:56 GMT", 1709210096.5]
    )
    def test_times_are_read_as_the_driver_itself_reads_them(self, text):
        from botocore.utils import parse_timestamp

        assert parse_time(text) == parse_timestamp(text)
        assert parse_time(text).tzinfo is not None

    def test_listings_are_read_as_the_driver_itself_reads_them(self):
        plain = "<LastModified>2024-02-29T12:34:56.000Z</LastModified><ETag>&quot;ab&quot;</ETag><Size>7</Size>"
        objects = [
            f"<Key>a%20b</Key>{plain}<StorageClass>STANDARD</StorageClass>",
            f"<Key>without a class</Key>{plain}",
            f"<Key>owned</Key>{plain}<Owner><ID>me</ID></Owner>",
            f"<Key>sums</Key>{plain}<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
            "<ChecksumAlgorithm>SHA1</ChecksumAlgorithm>",
            "<Key>empty fields</Key><ETag/><Size>0</Size><StorageClass></StorageClass>",
        ]
        body = "".join(f"<Contents>{fields}</Contents>" for fields in objects)
        body += "<CommonPrefixes><Prefix>folder/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated>"
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        answer = f'<ListBucketResult xmlns="{namespace}"><Prefix></Prefix>{body}</ListBucketResult>'
        ours = s3_options("s3")["session"]

        async def parsed(session):
            model = await session.get_service_model("s3")
            parser = session.get_component("response_parser_factory").create_parser("rest-xml")
            response = {"status_code": 200, "headers": {}, "body": answer.encode()}
            return await parser.parse(response, model.operation_model("ListObjectsV2").output_shape)

        read = asyncio.run(parsed(ours))
        assert read == asyncio.run(parsed(AioSession()))
        assert [each["Key"] for each in read["Contents"]][::4] == ["a%20b", "empty fields"]

    def test_a_listing_that_breaks_off_or_tells_of_an_error_is_asked_for_again(self, monkeypatch):
        whole = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents>'
            "<Key>corpus/x</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>e</ETag><Size>3</Size>"
            "</Contents><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        error = '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>Try again</Message></Error>'
        answers = [whole[: len(whole) // 2], error, whole]

        with answered(lambda _: answers.pop(0).encode(), monkeypatch):
            assert open_store("s3://bucket/corpus").list("") == {"x": 3}
        assert answers == []

    def test_a_store_that_knows_no_ranges_sends_the_whole_and_is_asked_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "PART_BYTES", 1_000)
        data, asked = os.urandom(2_500), []

        def whole(byte_range: str | None) -> bytes:
            asked.append(byte_range)
            return data

        with answered(whole, monkeypatch):
            open_store("s3://bucket/corpus").download("tar", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == data
        assert asked == ["bytes=0-999"]
