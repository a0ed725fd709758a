"""A build that kills one of its processes at a placed point, once; run by the chaos harness as a process of its own.

Dask's workers import this file again when they start, so the same point is placed in all of them.

Environment: CHAOS_POINT, CHAOS_VICTIM (worker, decoder or driver), CHAOS_MARKER (a file: created by whoever strikes),
CHAOS_SKIP (how often a process passes the point before it strikes), CHAOS_DRIVER (the driver's process id, set here).
"""

from __future__ import annotations

import os
import signal
import sys

import psutil

_passed = 0


def strike() -> None:
    """Kill the victim, unless this process has not passed often enough or another has struck before."""
    global _passed
    _passed += 1
    if _passed <= int(os.environ["CHAOS_SKIP"]):
        return
    victims = _victims()
    if not victims:
        return  # nobody to kill here: a later passing may find one
    try:
        os.close(os.open(os.environ["CHAOS_MARKER"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    for process in victims:
        process.send_signal(signal.SIGKILL)


def _victims() -> list[psutil.Process]:
    driver = psutil.Process(int(os.environ["CHAOS_DRIVER"]))
    if os.environ["CHAOS_VICTIM"] == "driver":
        return [driver]
    running = driver.children(recursive=True)
    decoders = [p for p in running if any("vidaudio.media.child" in word for word in p.cmdline())]
    if os.environ["CHAOS_VICTIM"] == "decoder":
        return decoders
    if os.getpid() != driver.pid:
        return [psutil.Process()]
    return [p for p in running if p not in decoders and any("spawn_main" in word for word in p.cmdline())][:1]


def place() -> None:
    """Wrap what stands at the point, so that it strikes before (or behind) it."""
    from vidaudio.encoders.clip import ClipEncoder
    from vidaudio.media.extract import Extractor
    from vidaudio.pipeline import run
    from vidaudio.shards.store import LocalStore
    from vidaudio.shards.tar import ShardWriter

    before = {
        "decode": (Extractor, "_ask"),
        "write tar": (ShardWriter, "write"),
        "before tar is put": (LocalStore, "put"),
        "before pack's tar is put": (LocalStore, "put_new"),
        "before table is created": (LocalStore, "create"),
        "embed": (ClipEncoder, "embed_squares"),
        "journal": (run, "_write_journal"),
    }
    behind = {
        "behind tar, before table": (LocalStore, "put"),
        "behind pack's tar, before table": (LocalStore, "put_new"),
        "behind table": (LocalStore, "create"),
    }
    point = os.environ["CHAOS_POINT"]
    owner, name = (before | behind)[point]
    original = getattr(owner, name)

    def wrapped(*arguments, **options):
        if point in before:
            strike()
        result = original(*arguments, **options)
        if point in behind:
            strike()
        return result

    setattr(owner, name, wrapped)


place()

if __name__ == "__main__":
    os.environ["CHAOS_DRIVER"] = str(os.getpid())
    from vidaudio.cli import main

    sys.argv[0] = "vidaudio"
    main()
