"""manifests/*.yaml: what it says about each public list is what we count in a copy of it."""

import hashlib
from pathlib import Path

import pytest
import yaml

import vidaudio.manifest as manifest

DESCRIPTIONS = sorted((Path(__file__).resolve().parents[2] / "manifests").glob("*.yaml"))
KEYS = {"title", "homepage", "paper", "read_with", "columns", "splits", "published", "files", "licence", "get", "traps"}
FILES = [
    pytest.param(description, file, id=file["file"])
    for description in DESCRIPTIONS
    for file in yaml.safe_load(description.read_text())["files"]
]


@pytest.mark.parametrize("path", DESCRIPTIONS, ids=lambda path: path.stem)
def test_a_description_has_every_part(path):
    content = yaml.safe_load(path.read_text())
    assert set(content) == KEYS
    assert callable(getattr(manifest, f"read_{content['read_with']}"))
    assert all(set(file) >= {"file", "sha256", "rows", "clips", "sources", "labels"} for file in content["files"])


def test_there_is_a_description_for_every_list_we_read():
    assert {path.stem for path in DESCRIPTIONS} >= {"vggsound", "music", "audiocaps", "audioset", "clipsep"}


@pytest.mark.parametrize(("description", "file"), FILES)
def test_the_counts_are_those_of_the_file(real_data, description, file):
    path = real_data / "manifests" / file["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    read = getattr(manifest, f"read_{yaml.safe_load(description.read_text())['read_with']}")
    listing = read(path)
    labels = {label for clip in listing.clips for label in clip.labels}
    counted = {
        "rows": listing.rows,
        "clips": len(listing.clips),
        "sources": listing.sources,
        "labels": len(labels),
        "captions": sum(len(clip.captions) for clip in listing.clips),
        "splits": {
            split: sum(clip.split == split for clip in listing.clips)
            for split in {clip.split for clip in listing.clips}
        },
    }
    stated = {name: file[name] for name in counted if name in file}
    assert stated == {name: counted[name] for name in stated}


def test_the_test_list_is_part_of_the_longer_one(real_data):
    lists = real_data / "manifests"
    large = {
        clip.id for clip in manifest.read_vggsound(lists / "VGGSound" / "vggsound_labelled_reconstructed.csv").clips
    }
    test = {clip.id for clip in manifest.read_vggsound(lists / "VGGSound" / "test.csv").clips}
    assert test <= large
