"""A build from WebDataset shards of videos: the same media as from the videos as files."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.media_world import MediaWorld
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus.columns import EXTRACT
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.manifest import read_folder, read_webdataset, write_manifest
from vidaudio.manifest.clip import Clip
from vidaudio.pipeline.build import build
from vidaudio.shards.tar import list_members


def extracted(clips: tuple[Clip, ...], folder: Path) -> Corpus:
    write_manifest(clips, folder / "clips.parquet")
    recipe = load_corpus_recipe("folder", ("extract.frame_size=96", "dask.workers=1"))
    only = ("download", "extract")
    build(recipe, str(folder / "clips.parquet"), str(folder / "corpus"), only=only, progress=False)
    return open_corpus(str(folder / "corpus"))


def media(corpus: Corpus) -> dict[str, dict[str, bytes]]:
    """The extracted files of each clip, without its JSON, which holds the id."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted((Path(corpus.url) / EXTRACT.folder).glob("*.tar")):
        content = path.read_bytes()
        for name, member in list_members(path).items():
            clip, _, extension = name.partition(".")
            if extension != "json":
                found.setdefault(clip, {})[extension] = content[member.offset : member.offset + member.length]
    return found


def test_media_are_those_of_the_same_videos_as_files(media_world: MediaWorld, tmp_path: Path):
    videos = sorted(media_world.manifest.parent.rglob("*.mp4"))[:3]
    (tmp_path / "files").mkdir()
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as tar:
        for number, video in enumerate(videos):
            (tmp_path / "files" / f"{number}.mp4").write_bytes(video.read_bytes())
            tar.add(video, f"{number}.mp4")
    of_files = media(extracted(read_folder(tmp_path / "files").clips, tmp_path / "files"))
    listed = read_webdataset(tmp_path / "tars").clips
    of_tars = media(extracted(listed, tmp_path / "tars"))
    assert of_files
    by_number = {Path(clip.url).stem: of_tars[clip.id] for clip in listed if clip.id in of_tars}
    assert by_number == of_files
