"""The plain door: an ordinary WebDataset pipeline sees the same samples as the exact reader."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset as wds

from vidaudio.errors import CorpusError, UsageError
from vidaudio.stream import open_index, shard_urls, webdataset
from vidaudio.stream.reader import SampleReader


@pytest.fixture(params=["flac", "pcm16"])
def packed(request: pytest.FixtureRequest, packed_as: Callable[..., str]) -> str:
    return packed_as(f"short-{request.param}", max_segment_seconds=8.0, audio=request.param)


@pytest.mark.parametrize("split", [None, "train", "val"])
def test_it_equals_the_exact_reader_sample_for_sample(packed: str, split: str | None):
    index = open_index(packed, split)
    reader = SampleReader(index)
    samples = list(webdataset(shard_urls(packed, split)))
    assert len(samples) == len(index)
    for row, (sample, facts) in enumerate(zip(samples, index.table.to_pylist(), strict=True)):
        assert sample["__key__"] == facts["key"]
        assert sample["sample_rate"] == index.sample_rate == 16_000
        assert sample["audio"].dtype == np.int16
        assert np.array_equal(sample["audio"], reader.sound(row))
        assert sample["vectors"].dtype == np.float16
        assert np.array_equal(sample["vectors"], reader.vectors(row))
        shared = set(facts) & set(sample["json"])
        assert shared >= {"id", "source", "labels", "captions", "split", "samples", "frame_seconds", "grid_seconds"}
        assert {key: facts[key] for key in shared} == {key: sample["json"][key] for key in shared}
        assert "images" not in sample


@pytest.mark.parametrize(
    "name", ["a#1", "b?c=d", "50%", "%41", "one\ntwo", "tab\there", "x;y", "{0..3}", "p::q", "c:d", "pipe:ls", "é ü"]
)
def test_the_folder_may_have_any_name(packed_as: Callable[..., str], tmp_path: Path, name: str):
    packed = packed_as("short-flac", max_segment_seconds=8.0, audio="flac")
    folder = tmp_path / name / "default"
    folder.parent.mkdir()
    folder.symlink_to(packed)
    keys = [sample["__key__"] for sample in webdataset(shard_urls(str(folder)))]
    assert keys == [sample["__key__"] for sample in webdataset(shard_urls(packed))]
    one = shard_urls(str(folder))[0]
    assert [sample["__key__"] for sample in webdataset(one)] == keys[: len(list(webdataset(one)))]


def test_patterns_are_still_expanded(packed: str):
    tars = [Path(url).name for url in shard_urls(packed, "train")]
    pattern = f"{packed}/train-{{000000..{len(tars) - 1:06d}}}.tar"
    assert len(list(webdataset(pattern))) == len(list(webdataset(shard_urls(packed, "train"))))


def test_webdataset_alone_reads_the_shards(packed: str):
    index = open_index(packed)
    reader = SampleReader(index)
    audio = "flac" if index.audio == "flac" else "wav"
    rows = {key: row for row, key in enumerate(index.table["key"].to_pylist())}
    samples = list(wds.WebDataset(shard_urls(packed), shardshuffle=False))
    assert {sample["__key__"] for sample in samples} == set(rows)
    for sample in samples:
        row = rows[sample["__key__"]]
        assert json.loads(sample["json"])["id"] == index.table["id"][row].as_py()
        assert np.array_equal(soundfile.read(io.BytesIO(sample[audio]), dtype="int16")[0], reader.sound(row))
        assert np.array_equal(np.load(io.BytesIO(sample["clip.npy"])), reader.vectors(row))


def test_pictures_are_there_where_they_were_packed(packed_as: Callable[..., str]):
    folder = packed_as("pictures", frames=True)
    for sample in webdataset(shard_urls(folder)):
        assert len(sample["images"]) == len(sample["vectors"]) == len(sample["json"]["frame_seconds"])
        assert all(image[:2] == b"\xff\xd8" for image in sample["images"])


def test_packed_vectors_equal_open_clips_own_on_the_packed_jpegs(packed_as: Callable[..., str], tiny_clip: Path):
    import open_clip
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    model.eval()
    for sample in webdataset(shard_urls(packed_as("pictures", frames=True), "train")):
        pictures = torch.stack([preprocess(Image.open(io.BytesIO(image))) for image in sample["images"]])
        with torch.inference_mode():
            own = model.encode_image(pictures)
        ours = torch.from_numpy(sample["vectors"]).float()
        assert torch.cosine_similarity(ours, own).min() > 0.99999


def test_options_reach_webdataset(packed: str):
    urls = shard_urls(packed)
    keys = [sample["__key__"] for sample in webdataset(urls)]
    shuffled = [sample["__key__"] for sample in webdataset(urls, shardshuffle=100, seed=3)]
    assert sorted(keys) == sorted(shuffled)
    assert len(urls) > 1
    assert any(
        [sample["__key__"] for sample in webdataset(urls, shardshuffle=100, seed=seed)] != keys for seed in range(4)
    )


def test_shards_of_one_split_only_are_listed(packed: str):
    by_split = [shard_urls(packed, split) for split in open_index(packed).splits]
    assert sorted(url for urls in by_split for url in urls) == sorted(shard_urls(packed))


def test_nothing_to_read_and_strange_shards_are_named(tmp_path: Path):
    from vidaudio.shards.tar import ShardWriter

    with pytest.raises(UsageError, match="no shards were named"):
        webdataset([])
    with ShardWriter(tmp_path / "strange.tar") as writer:
        writer.write("a", {"json": b"{}"})
    with pytest.raises(CorpusError, match=r"sample a of .*has no sound"):
        list(webdataset([str(tmp_path / "strange.tar")]))
