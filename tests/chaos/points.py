"""Where a build can be struck: the placed points, and what every process of a build does when it passes one.

`install` wraps the few functions through which all writing, fetching, decoding and embedding goes. It runs in the
driver and, as a Dask preload (`--preload tests.chaos.points`), in every worker. The harness holds the other end: a
folder with the cases that are still wanted (`armed.json`) and a token; whoever passes a wanted point and gets hold of
the token strikes. So processes stay warm from case to case, and nobody is struck twice before the harness has looked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.processes import below, is_decoder, is_worker

CONTROL = "CHAOS_CONTROL"
# A header: seconds since 1970.
LOOKED = "X-Looked"
VICTIMS = ("driver", "scheduler", "nanny", "worker", "decoder", "disk")
# What the store is told to write; a point lies before or behind the writing of one such name.
_STAGE_TAR = r"(clips|av)/\d{6}\.[0-9a-f]{8}\.tar"
_STAGE_TABLE = r"(clips|av|embeddings/[^/]+)/\d{6}\.parquet"
_PACK_TAR = r"training/[^/]+/[a-z]+-\d{6}\.tar"
_PACK_TABLE = r"training/[^/]+/[a-z]+-\d{6}\.parquet"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a build.

    Attributes:
        name: A row of the report.
        keep: The `download.keep` under which it exists.
        writes: Name of the file that is about to be visible, or has just become so; a pattern.
        behind: Whether it is visible already.
    """

    name: str
    keep: str = "all"
    writes: str | None = None
    behind: bool = False


POINTS = (
    Point("corpus: list written", writes=r"manifest\.parquet", behind=True),
    Point("corpus: described", writes=r"corpus\.json", behind=True),
    Point("encoder described", writes=r"embeddings/[^/]+/encoder\.json", behind=True),
    Point("fetch"),
    Point("fetch: verdict not noted"),
    Point("fetch: verdict noted"),
    Point("decode"),
    Point("extract: try noted", writes=r"runs/trying/.*", behind=True),
    Point("embed"),
    Point("commit: tar half written"),
    Point("commit: tar written, not hashed"),
    Point("commit: tar hashed, not renamed", writes=_STAGE_TAR),
    Point("commit: tar renamed, no table", writes=_STAGE_TAR, behind=True),
    Point("commit: table written, not linked", writes=_STAGE_TABLE),
    Point("commit: table linked", writes=_STAGE_TABLE, behind=True),
    Point("pack: begun", writes=r"training/[^/]+/pack\.json", behind=True),
    Point("pack: tar half written"),
    Point("pack: tar written, not hashed"),
    Point("pack: tar hashed, not linked", writes=_PACK_TAR),
    Point("pack: tar linked, no table", writes=_PACK_TAR, behind=True),
    Point("pack: table written, not linked", writes=_PACK_TABLE),
    Point("pack: table linked", writes=_PACK_TABLE, behind=True),
    Point("pack: index written, not renamed", writes=r"training/[^/]+/index\.arrow"),
    Point("pack: index renamed", writes=r"training/[^/]+/index\.arrow", behind=True),
    Point("journal: written, not linked", writes=r"runs/[^/]+/tasks\.parquet"),
    Point("journal: linked", writes=r"runs/[^/]+/tasks\.parquet", behind=True),
    Point("keep none: outcomes laid down", "none", r"clips/\d{6}\.[0-9a-f]{16}\.draft", behind=True),
    Point("keep none: av stands, clips not", "none", r"av/\d{6}\.parquet", behind=True),
    Point("keep until extracted: marked", "until_extracted", r"clips/\d{6}\.released", behind=True),
    Point("keep until extracted: deleted", "until_extracted"),
)
_BY_WRITE = [(re.compile(point.writes), point) for point in POINTS if point.writes]
_here = threading.local()


def passing(name: str) -> None:
    """This thread is at the point of this name: strike, if that is wanted and nobody has since the last look."""
    control = Path(os.environ[CONTROL])
    if not (control / "token").exists():
        return
    armed = json.loads((control / "armed.json").read_text())
    if getattr(_here, "began", armed["since"]) < armed["since"]:
        return  # a task of a driver that is gone: the new one has not come that far
    for point, victim in armed["cases"]:
        if point == name and (victims := _victims(victim, armed)) is not None:
            break
    else:
        return
    try:
        os.rename(control / "token", control / "taken")
    except FileNotFoundError:
        return
    strike = {"point": name, "victim": victim, "by": os.getpid(), "victims": [process.pid for process in victims]}
    (control / "struck.new").write_text(json.dumps(strike))
    os.rename(control / "struck.new", control / "struck.json")
    if victim == "disk":
        fill(armed["disk"])
    for process in victims:
        process.send_signal(signal.SIGKILL)


def fill(disk: str | None) -> None:
    """Leave no byte on a small file system; where there is none, `_full` makes believe."""
    if disk is None:
        (Path(os.environ[CONTROL]) / "full").touch()
        return
    with open(Path(disk) / "filler", "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _full() -> None:
    if (Path(os.environ[CONTROL]) / "full").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _victims(victim: str, armed: dict) -> list[psutil.Process] | None:
    """Whom to kill, here and now; None where there is nobody."""
    if victim == "disk":
        return []
    if victim in ("driver", "scheduler"):
        return [psutil.Process(armed[victim])]
    nannies = [psutil.Process(pid) for pid in armed["nannies"]]
    own = [nanny for nanny in nannies if nanny.pid == os.getppid()]
    if victim == "nanny":
        return (own or nannies)[:1] or None
    if own and victim == "worker":
        return [psutil.Process()]
    processes = [child for nanny in own or nannies for child in below(nanny.pid)]
    decoders = [child for child in processes if is_decoder(child)]
    if victim == "decoder":
        return decoders[:1] or None
    return [child for child in processes if is_worker(child)][:1] or None


def install() -> None:
    """Wrap, once a process."""
    from vidaudio.encoders.clip import ClipEncoder
    from vidaudio.media.decode.extractor import Extractor
    from vidaudio.media.fetch import fetcher
    from vidaudio.packs import write as pack
    from vidaudio.pipeline import shard_tasks as chains
    from vidaudio.pipeline.stages.negative_cache import NegativeCache
    from vidaudio.shards import commit
    from vidaudio.shards.store import LocalStore
    from vidaudio.shards.tar import ShardWriter

    if getattr(LocalStore, "chaos", False):
        return
    LocalStore.chaos = True

    def before(owner: object, name: str, point: Callable[[tuple], str | None]) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: object, **options: object) -> object:
            if (passed := point(arguments)) is not None:
                passing(passed)
            if owner is ShardWriter:
                _full()
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    def stage() -> str:
        return "pack" if getattr(_here, "stage", "") == "pack" else "commit"

    def second_sample(arguments: tuple) -> str | None:
        writer = arguments[0]
        writer.chaos_samples = getattr(writer, "chaos_samples", 0) + 1
        return f"{stage()}: tar half written" if writer.chaos_samples == 2 else None

    before(fetcher._Session, "_turn", lambda _: "fetch")
    before(Extractor, "_read_line", lambda _: "decode")  # the job has just been handed over
    before(ClipEncoder, "embed_squares", lambda _: "embed")
    before(ShardWriter, "write", second_sample)
    before(commit, "sha256_of", lambda _: "commit: tar written, not hashed")
    before(pack, "sha256_of", lambda _: "pack: tar written, not hashed")
    _around_verdicts(NegativeCache)
    _around_store(LocalStore)
    fetcher.CHILD = f"from tests.chaos.points import say_when_looked; say_when_looked(); {fetcher.CHILD}"
    _say_what_is_done(chains)


def _around_verdicts(verdicts: type) -> None:
    write = verdicts._write

    def writing(self, line):
        passing("fetch: verdict not noted")
        write(self, line)
        passing("fetch: verdict noted")

    verdicts._write = writing


def _around_store(store: type) -> None:
    for method in ("put", "put_new"):
        original = getattr(store, method)

        def writing(self, name, source, original=original):
            for pattern, point in _BY_WRITE:
                if not point.behind and pattern.fullmatch(name):
                    passing(point.name)
            _full()
            result = original(self, name, source)
            for pattern, point in _BY_WRITE:
                if point.behind and pattern.fullmatch(name):
                    passing(point.name)
            return result

        setattr(store, method, writing)
    remove = store.remove

    def removing(self, name):
        remove(self, name)
        if re.fullmatch(_STAGE_TAR, name) and self.exists(re.sub(r"\.[0-9a-f]{8}\.tar$", ".released", name)):
            passing("keep until extracted: deleted")

    store.remove = removing


def say_when_looked() -> None:
    """Every request tells the site when it was last looked whether the shard had been committed by somebody else.

    Installed in the fetching processes, which send the requests.
    """
    from yt_dlp.networking._requests import RequestsHTTPAdapter

    from vidaudio.media.fetch.session import FetchSession

    look, send = FetchSession._check_time, RequestsHTTPAdapter.send

    def looking(self):
        _here.looked = time.time()
        look(self)

    def sending(self, request, *arguments, **options):
        request.headers[LOOKED] = repr(_here.looked)
        return send(self, request, *arguments, **options)

    FetchSession._check_time, RequestsHTTPAdapter.send = looking, sending


def _say_what_is_done(chains) -> None:
    """What every worker is at, as files, for kills at random moments; `_here.stage` for the points."""
    for name, stage_of in (("run_task", lambda arguments: arguments[1]), ("run_pack_task", lambda _: "pack")):
        original = getattr(chains, name)

        def doing(*arguments, original=original, stage_of=stage_of):
            _here.stage, _here.began = stage_of(arguments), time.time()
            told = Path(os.environ[CONTROL]) / "doing" / f"{os.getpid()}.{threading.get_ident()}.{_here.stage}"
            told.touch()
            try:
                return original(*arguments)
            finally:
                told.unlink(missing_ok=True)
                _here.stage = ""

        doing.__module__, doing.__qualname__, doing.__name__ = original.__module__, name, name
        setattr(chains, name, doing)


def dask_setup(_worker: object) -> None:
    """Dask calls this in a worker that has preloaded the file."""
    install()
