"""Command `vidaudio pack-sounds`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def pack_sounds(
    manifest: Annotated[Path, typer.Argument(help="A list of local sound files, as `vidaudio manifest` wrote it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to train on.")],
    sample_rate: Annotated[int, typer.Option(min=4_000, help="Of the packed sound, Hz.")] = 16_000,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one setting of a pack, e.g. audio=pcm16; repeatable."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Pack labelled sound files, without pictures, for LabelSep, PIT and systems with text queries."""
    from vidaudio.config.corpus import PackBlock
    from vidaudio.config.recipes import check, override
    from vidaudio.packs.audio_only import pack_sounds as run_pack

    bare = [setting.removeprefix("pack.") for setting in settings or []]
    block = check(PackBlock, override({}, bare), "pack")
    packed = run_pack(manifest, output, sample_rate=sample_rate, settings=block, progress=not quiet)
    typer.echo(json.dumps(packed.as_dict(), indent=2) if as_json else str(packed))
