"""Protocols as data: the lists, their pairing, the cut positions, and published results.

A protocol is a YAML file of `manifests/protocols/`. The authors' lists are not part of this package: a protocol names
them, with their row counts and hashes, and reads them from the user's folder.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from vidaudio.config.recipes import RecipeModel, check, load_values, recipe_names
from vidaudio.errors import ManifestError
from vidaudio.manifest.schema import clips_from_table
from vidaudio.manifest.store import read_manifest

PROTOCOL_FOLDER = "manifests/protocols"


class ListBlock(RecipeModel):
    """A published list: its path in the folder of lists, and its row count and hash, which identify the list."""

    file: str
    rows: int
    sha256: str


class PublishedRow(RecipeModel):
    """One row of a paper's table, dB."""

    model: str
    train_query: str
    test_query: str
    mean: float
    standard_error: float
    median: float


class Published(RecipeModel):
    """Results that others measured with (nearly) this protocol."""

    source: str
    rows: tuple[PublishedRow, ...] = ()


class Protocol(RecipeModel):
    """Description of how test mixtures are made.

    `targets` and `interference` are published lists. Without them, all clips of a split are targets, and partners are
    drawn from the split with `draw_pairs`.
    """

    name: str
    title: str
    notes: tuple[str, ...] = ()
    targets: ListBlock | None = None
    interference: ListBlock | None = None
    different_labels: bool = False
    crop: Literal["middle", "published"] = Field(
        "middle", description="the middle picture's window; or (T // 2 - 0.5) s with T from the list, as in the code"
    )
    both_directions: bool = Field(False, description="each source of a mixture is the target once")
    published: Published | None = None


@dataclass(frozen=True, slots=True)
class ListedClip:
    """A row of a list.

    Attributes:
        source: Source of the clip, `site:video id`.
        label: First label, with spaces instead of underscores; empty if there is none.
        clip_id: Id of the clip, if the list has clip ids.
        centre_seconds: Centre of the papers' window, seconds from the start of the clip's sound; None if the list has
            none.
    """

    source: str
    label: str
    clip_id: str | None = None
    centre_seconds: float | None = None


def protocol_names() -> list[str]:
    """Return the names of the protocols in the package."""
    return recipe_names(PROTOCOL_FOLDER)


def load_protocol(name: str) -> Protocol:
    """Read a protocol by name, or from a YAML file by path.

    Raises:
        RecipeError: When the protocol does not exist, or one of its keys is invalid.
    """
    return check(Protocol, load_values(name, PROTOCOL_FOLDER), f"protocol {Path(name).name}")


def read_published_list(block: ListBlock, folder: str | Path) -> list[ListedClip]:
    """Read a published CLIPSep list in file order, which decides how clips are paired.

    Args:
        block: The list's path, row count and hash.
        folder: Folder of the lists, as the authors lay them out (`MUSIC/solo/test.csv`, `vggsound/test-good.csv` ...).

    Raises:
        ManifestError: When the list is missing, or differs from the protocol's list.
    """
    path = Path(folder) / block.file
    if not path.is_file():
        raise ManifestError(
            f"there is no list {path}; --list-dir names the folder that holds MUSIC/ and vggsound/ of the authors' "
            "repository (see manifests/clipsep.yaml)"
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != block.sha256:
        raise ManifestError(
            f"{path} is not the list the protocol means: its sha256 is {found[:12]}..., not {block.sha256[:12]}...; "
            "another list gives other mixtures"
        )
    rows = [row for row in csv.reader(data.decode().splitlines()) if len(row) >= 2]
    if len(rows) != block.rows:
        raise ManifestError(f"{path} has {len(rows)} rows; the protocol expects {block.rows}")
    return [
        ListedClip(
            source=f"youtube:{PurePosixPath(audio).stem}",
            label=label.replace("_", " "),
            centre_seconds=int(frames) // 2 - 0.5,
        )
        for audio, _, frames, label in rows
    ]


def read_manifest_list(path: str | Path) -> list[ListedClip]:
    """Read the clips of a manifest, in its order.

    Raises:
        ManifestError: When the manifest is missing, empty or invalid.
    """
    clips = [
        ListedClip(clip.source, clip.labels[0].replace("_", " ") if clip.labels else "", clip_id=clip.id)
        for clip in clips_from_table(read_manifest(path))
    ]
    if not clips:
        raise ManifestError(f"{path} names no clips")
    return clips
