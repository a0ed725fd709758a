"""Protocols: the papers' lists and draws, what is missing, where whole videos are cut, two corpora, any manifest."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pytest
import yaml

from tests.packed import make_packed
from vidaudio.errors import CorpusError, ManifestError, RecipeError, UsageError
from vidaudio.manifest import write_manifest
from vidaudio.manifest.clip import Clip
from vidaudio.packs.segments import whole_segments
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, open_index, read_index, write_index
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks.separation.checkpoint import load_checkpoint
from vidaudio.tasks.separation.evaluate import EvaluateRequest, TestMaterial, evaluate, plan
from vidaudio.tasks.separation.evaluation.locate import ClipLocator, EvalCorpus
from vidaudio.tasks.separation.evaluation.pairs import published_pairs
from vidaudio.tasks.separation.evaluation.protocols import (
    ListedClip,
    load_protocol,
    protocol_names,
    read_published_list,
)

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
LISTS = SHARED / "manifests" / "CLIPSep"
PAGE = SHARED / "clipsep_demo"
RATE = 16_000
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason="the authors' lists are not on this machine")
needs_page = pytest.mark.skipif(not PAGE.is_dir(), reason="the sounds of the authors' page are not on this machine")


def video_ids(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [PurePosixPath(row[0]).stem for row in csv.reader(file)]


@needs_lists
@pytest.mark.parametrize(
    ("name", "targets", "interference"),
    [
        ("music", 46, 46),
        ("music-plus", 46, 75),
        ("music-plus-page", 46, 5322),
        ("vggsound-clean-plus", 100, 5322),
        ("vggsound-clean-plus-page", 100, 7270),
    ],
)
def test_protocols_hold_the_published_lists_in_their_order(name: str, targets: int, interference: int):
    protocol = load_protocol(name)
    first = read_published_list(protocol.targets, LISTS)
    second = read_published_list(protocol.interference or protocol.targets, LISTS)
    assert (len(first), len(second)) == (targets, interference)
    assert [clip.source for clip in first] == [f"youtube:{i}" for i in video_ids(LISTS / protocol.targets.file)]
    assert all("_" not in clip.label and clip.label for clip in first)


@needs_lists
def test_clips_of_ten_seconds_are_cut_around_the_papers_centre():
    clips = read_published_list(load_protocol("vggsound-clean-plus").targets, LISTS)
    seconds = [clip.centre_seconds for clip in clips]
    # 12 frames nearly always, 11 sometimes: frame 6 or 5, which stands for 5.5 or 4.5 s.
    assert set(seconds) <= {5.5, 4.5}
    assert seconds.count(5.5) > 90


def test_the_draw_is_pythons_generator_seeded_by_the_row():
    expected = []
    for row in range(100):
        random.seed(row)
        expected.append((row, random.randint(0, 5321)))
    assert published_pairs(100, 5322) == expected


@needs_lists
@needs_page
@pytest.mark.parametrize(
    ("folder", "protocol", "examples"),
    [("music-vggsound", "music-plus-page", 2), ("vggsound-vggsound", "vggsound-clean-plus-page", 2)],
)
def test_the_authors_own_mixtures_are_of_these_pairs(folder: str, protocol: str, examples: int):
    """Their folders are called `..-<id of the target>+.-<id of the interference>`."""
    chosen = load_protocol(protocol)
    first, second = video_ids(LISTS / chosen.targets.file), video_ids(LISTS / chosen.interference.file)
    partner = {first[row]: second[other] for row, other in published_pairs(len(first), len(second))}
    shown = [path.name.split("+") for path in (PAGE / folder).iterdir()]
    assert len(shown) == examples
    for target, interference in shown:
        assert partner[target[-11:]] == interference[-11:]


def test_another_list_than_the_protocol_means_is_refused(tmp_path: Path):
    protocol = load_protocol("music-plus")
    with pytest.raises(ManifestError, match="--list-dir"):
        read_published_list(protocol.targets, tmp_path)
    (tmp_path / "MUSIC/solo").mkdir(parents=True)
    (tmp_path / protocol.targets.file).write_text("a.wav,a,12,violin\n")
    with pytest.raises(ManifestError, match="is not the list the protocol means"):
        read_published_list(protocol.targets, tmp_path)


def test_every_protocol_of_the_package_can_be_read():
    assert {"music", "music-plus", "vggsound-clean-plus", "esc"} <= set(protocol_names())
    for name in protocol_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert protocol.published.rows[0].model == "Mixture"
    with pytest.raises(RecipeError, match="music-plus"):
        load_protocol("music-pls")


@pytest.fixture
def listed(tmp_path: Path, encoder_fingerprint: dict) -> Callable[..., TestMaterial]:
    """Two packed corpora of YouTube clips and a protocol of lists that name them, some of which they lack."""

    def make(*, both_directions: bool = False) -> TestMaterial:
        targets = make_packed(tmp_path / "targets", encoder_fingerprint, clips_per_split={"test": 4}, seconds=10)
        others = make_packed(tmp_path / "others", encoder_fingerprint, clips_per_split={"val": 5}, seconds=10)
        name_sources(targets, lambda key: f"youtube:target-{key[-4:]}")
        name_sources(others, lambda key: f"youtube:others-{key[-4:]}")
        lists = {
            "targets.csv": [f"target-t{n:03d}" for n in range(5)],
            "others.csv": [f"others-l{n:03d}" for n in range(6)],
        }
        blocks = {}
        for name, ids in lists.items():
            path = tmp_path / name
            kinds = ("low", "middle", "high")
            path.write_text("".join(f"x/{i}.wav,x/{i},12,{kinds[n % 3]}\n" for n, i in enumerate(ids)))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            blocks[name] = {"file": name, "rows": len(ids), "sha256": digest}
        protocol = {
            "name": "ours",
            "title": "ours",
            "targets": blocks["targets.csv"],
            "interference": blocks["others.csv"],
            "crop": "published",
            "both_directions": both_directions,
        }
        (tmp_path / "ours.yaml").write_text(yaml.safe_dump(protocol))
        return TestMaterial(
            str(targets), interference_data=str(others), protocol=str(tmp_path / "ours.yaml"), list_dir=tmp_path
        )

    return make


def test_a_protocol_of_lists_mixes_two_corpora_and_counts_what_they_lack(trained: Path, listed):
    material = listed()
    _, tests = plan(load_checkpoint(trained), material)
    wanted = published_pairs(5, 6)
    held = [(row, other) for row, other in wanted if row < 4 and other < 5]
    assert [item.number for item in tests.items] == [row for row, _ in held]
    for item, (row, other) in zip(tests.items, held, strict=True):
        assert item.target.source == f"youtube:target-t{row:03d}"
        assert item.interference.source == f"youtube:others-l{other:03d}"
        # The papers' centre, T // 2 - 0.5 = 5.5 s, to the sample.
        assert item.target.place.window.first_sample == int(5.5 * RATE) - 8191 // 2
    report = evaluate(EvaluateRequest(trained, material, scorer="batched", progress=False))
    assert (report.mixtures, report.about.planned, report.about.incomplete) == (len(held), 5, True)
    assert f"INCOMPLETE: {len(held)} of 5 mixtures" in str(report)
    assert tests.missing_targets == 1
    assert tests.missing_interference == sum(other == 5 for _, other in wanted)


def test_with_both_directions_each_sound_is_the_target_once(trained: Path, listed):
    _, tests = plan(load_checkpoint(trained), listed(both_directions=True))
    forward, backward = tests.items[::2], tests.items[1::2]
    assert [item.target for item in forward] == [item.interference for item in backward]
    assert [item.number + 1 for item in forward] == [item.number for item in backward]


def test_a_fold_is_mixed_with_itself_both_ways_so_that_the_mixtures_are_at_0_db(trained: Path, packed: Path):
    report = evaluate(
        EvaluateRequest(trained, TestMaterial(str(packed), protocol="esc"), scorer="batched", progress=False)
    )
    assert report.mixtures == 12
    assert all(report.labels[n] != report.labels[n + 1] for n in range(0, 12, 2))
    mixture = report.summary("mixture")
    # A pair's two scores are each other's negatives: the ratio of the two energies, and its inverse.
    assert (mixture.mean, mixture.median) == (pytest.approx(0, abs=1e-4), pytest.approx(0, abs=1e-4))
    assert report.about.protocol == "esc"


def test_clips_that_end_before_the_papers_window_are_missing(encoder_fingerprint: dict, tmp_path: Path):
    data = make_packed(tmp_path / "short", encoder_fingerprint, clips_per_split={"test": 1}, seconds=7)
    finder = ClipLocator(EvalCorpus.of(open_index(str(data)), WindowShape()))

    def at(seconds: float):
        clip = ListedClip("test:test000", "low", centre_seconds=seconds)
        return finder.find(clip, published_crop=True)

    # The window reaches 2.05 s further, and may stick out by 0.55 s.
    assert at(5.5) is not None
    assert at(5.6) is None


def test_lists_must_be_at_hand_and_some_of_their_clips_in_the_corpus(trained: Path, packed: Path, listed):
    material = listed()
    with pytest.raises(UsageError, match="--list-dir"):
        evaluate(EvaluateRequest(trained, TestMaterial(material.data, protocol="music-plus"), progress=False))
    foreign = TestMaterial(str(packed), protocol=material.protocol, list_dir=material.list_dir)
    with pytest.raises(CorpusError, match=r"lacks 5 of its targets.*manifest clipsep.*vidaudio build music.*--data"):
        evaluate(EvaluateRequest(trained, foreign, progress=False))


def test_any_manifest_names_the_clips(trained: Path, packed: Path, tmp_path: Path):
    def manifest(name: str, numbers: list[int]) -> Path:
        clips = [
            Clip(id=f"test{n:03d}", source=f"test:test{n:03d}", dataset="x", url=f"https://x.org/{n}") for n in numbers
        ]
        write_manifest(clips, tmp_path / name)
        return tmp_path / name

    targets, others = manifest("a.parquet", [0, 1, 2]), manifest("b.parquet", [3, 4, 5])
    material = TestMaterial(str(packed), protocol="manifest", targets=targets, interference=others)
    _, tests = plan(load_checkpoint(trained), material)
    assert [(i.target.key, i.interference.key) for i in tests.items] == [
        (f"test{row:03d}", f"test{3 + other:03d}") for row, other in published_pairs(3, 3)
    ]
    with pytest.raises(UsageError, match="--targets"):
        plan(load_checkpoint(trained), TestMaterial(str(packed), protocol="manifest"))


@pytest.mark.parametrize("seconds", [37.0, 90.3, 212.0])
def test_the_middle_of_a_whole_video_is_found_in_its_segments(
    seconds: float, tmp_path: Path, encoder_fingerprint: dict
):
    samples, grid = int(seconds * RATE), [float(s) for s in range(int(seconds))]
    segments = whole_segments(samples, RATE, 0.0, grid, 16.0)
    corpus = EvalCorpus.of(open_index(str(segmented(tmp_path, segments, encoder_fingerprint))), WindowShape())
    centre = int(seconds) // 2 - 0.5
    place = ClipLocator(corpus).find(ListedClip("youtube:video", "", centre_seconds=centre), published_crop=True)
    segment = segments[place.row]
    start = segment.start_sample + place.window.first_sample
    assert start == round(centre * RATE) - 65_535 // 2
    assert place.window.first_sample >= 0
    assert place.window.first_sample + 65_535 <= segment.samples
    shown = segment.first_frame + place.window.frames[1]
    assert abs(grid[shown] - centre) <= 0.5


def test_drawn_windows_do_not_hold_the_middle(tmp_path: Path, encoder_fingerprint: dict):
    segments = whole_segments(60 * RATE, RATE, 0.0, [float(s) for s in range(60)], 16.0)
    folder = segmented(tmp_path, segments, encoder_fingerprint, letter="w")
    finder = ClipLocator(EvalCorpus.of(open_index(str(folder)), WindowShape()))
    with pytest.raises(CorpusError, match="drawn by chance"):
        finder.find(ListedClip("youtube:video", "", centre_seconds=9.5), published_crop=True)


def test_of_two_cuts_of_a_video_the_one_with_the_lists_label_is_taken(tmp_path: Path, encoder_fingerprint: dict):
    data = make_packed(tmp_path / "cuts", encoder_fingerprint, clips_per_split={"test": 3})
    name_sources(data, lambda key: "youtube:same")
    finder = ClipLocator(EvalCorpus.of(open_index(str(data)), WindowShape(samples=8191)))
    place = finder.find(ListedClip("youtube:same", "middle"), published_crop=False)
    assert finder.corpus.labels[place.row] == "middle"
    assert finder.ambiguous == 0
    assert finder.find(ListedClip("youtube:same", "other"), published_crop=False) is not None
    assert finder.ambiguous == 1


def name_sources(folder: Path, name: Callable[[str], str]) -> None:
    """Give the clips of a packed corpus other sources, by their keys."""
    table, described, _ = read_index(pa.OSFile(str(folder / INDEX_FILE)))
    sources = pa.array([name(key) for key in table["key"].to_pylist()])
    table = table.set_column(table.column_names.index("source"), "source", sources)
    (folder / INDEX_FILE).unlink()
    write_index(folder / INDEX_FILE, table.cast(SAMPLE_SCHEMA), described)


def segmented(folder: Path, segments: list, encoder: dict, letter: str = "s") -> Path:
    """An index of the segments of one video; nothing is read of their sound."""
    rows = [
        {
            "key": f"video{segment.suffix.replace('-s', f'-{letter}')}",
            "id": "video",
            "source": "youtube:video",
            "dataset": "test",
            "split": "test",
            "labels": ["violin"],
            "captions": [],
            "samples": segment.samples,
            "audio_start_seconds": 0.0,
            "frame_seconds": grid,
            "grid_seconds": grid,
            "audio_length": segment.samples,
            **dict.fromkeys(("audio_offset", "vectors_offset", "vectors_length", "shard"), 0),
        }
        for segment in segments
        for grid in [[n + segment.first_frame - segment.start_sample / RATE for n in range(segment.frames)]]
    ]
    table = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
    described = {"tars": ["test-000000.tar"], "audio": "flac", "sample_rate": RATE, "frames_per_second": 1.0}
    write_index(folder / INDEX_FILE, table, {**described, "encoder": encoder})
    return folder
