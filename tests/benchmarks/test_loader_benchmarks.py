"""The loader's measurements measure what they say: one loss both ways, an honest store, the rate that was asked for."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from benchmarks.loader_waiting import WINDOWS_PER_SECOND, wanted_rate
from benchmarks.on_the_fly import OnTheFly, Place, loss_of
from benchmarks.slow_s3 import BUCKET, heard, slow_s3
from vidaudio.tasks.registry import load_train_recipe
from vidaudio.tasks.separation.checkpoint import build_model


def test_spectra_made_in_the_loader_give_the_loss_of_the_loaders_sounds(tmp_path: Path):
    rng = np.random.default_rng(0)
    seconds, rate = 10, 16_000
    for name in "ab":
        sound = (rng.normal(0, 9000, seconds * rate)).clip(-32768, 32767).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", sound, rate, subtype="PCM_16")
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (224, 224), (40 * number, 0, 0)).save(tmp_path / name / f"{number + 1:06d}.jpg")
    model = build_model(load_train_recipe("demo"), 16)
    config = model.front_end.config
    dataset = OnTheFly(tmp_path, ["a", "b"], seconds, config, sources=2, items=3)
    places = [Place("a", 20_000, (0, 1, 2), 0.7), Place("b", 31_111, (0, 1, 2), 1.5)]
    item = dataset.mixture(places)
    assert item["pictures"].shape == (2, 3, 3, 224, 224)
    windows = [
        soundfile.read(tmp_path / f"{place.clip}.wav", dtype="int16")[0][place.first_sample :] for place in places
    ]
    audio = torch.stack([torch.from_numpy(window[: config.window_samples]) for window in windows])[None]
    queries = torch.randn(1, 2, 16)
    torch.manual_seed(0)
    ours = model.loss(audio, queries, torch.tensor([[0.7, 1.5]]))["loss"].item()
    theirs = loss_of(model, item["magnitudes"][None], queries).item()
    assert theirs == pytest.approx(ours, rel=1e-5)
    # Another gain is another loss: the comparison can fail.
    assert model.loss(audio, queries)["loss"].item() != pytest.approx(ours, rel=1e-4)


def test_what_is_drawn_is_drawn_by_number(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).integers(-99, 99, 160_000, dtype=np.int16), 16_000)
    front_end = build_model(load_train_recipe("demo"), 16).front_end.config
    dataset = OnTheFly(tmp_path, ["a"], 10, front_end, sources=2, items=3, pictures=False)
    assert torch.equal(dataset[1]["magnitudes"], dataset[1]["magnitudes"])
    assert not torch.equal(dataset[1]["magnitudes"], dataset[2]["magnitudes"])


def test_the_slow_store_serves_ranges_and_counts_what_it_sends(tmp_path: Path):
    data = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "large").write_bytes(data)
    (tmp_path / "corpus" / "empty").write_bytes(b"")
    with slow_s3(tmp_path, 0.0) as (address, _):

        def ask(name: str, method: str = "GET", body: bytes | None = None, **headers: str):
            url = f"{address}/{BUCKET}/corpus/{name}"
            request = urllib.request.Request(url, body, headers, method=method)
            with urllib.request.urlopen(request) as answer:
                return answer.read(), answer.headers

        whole, headers = ask("large")
        assert whole == data
        assert ask("large", Range="bytes=1000000-2999999")[0] == data[1_000_000:]
        assert ask("large", Range="bytes=2999999-9999999")[0] == data[-1:]
        assert ask("large", "HEAD")[1]["Content-Length"] == "3000000"
        assert ask("empty")[0] == b""
        assert heard(address) == (5, 5_000_001)
        with pytest.raises(urllib.error.HTTPError, match="416"):
            ask("large", Range="bytes=3000000-3000009")
        ask("large", "PUT", b"other")
        replaced, again = ask("large")
        assert replaced == b"other"
        assert again["ETag"] != headers["ETag"]


def test_the_wanted_rate_is_the_fastest_systems_where_one_was_measured(tmp_path: Path):
    steps = tmp_path / "gpu_steps.json"
    assert wanted_rate(steps) == (WINDOWS_PER_SECOND, "chosen")
    rows = [{"system": "clipsep", "mixtures_per_second": 900.0}, {"system": "pit", "mixtures_per_second": 1200.0}]
    steps.write_text(json.dumps({"results": rows}))
    assert wanted_rate(steps) == (2400.0, "pit in gpu_steps.json")
    for wrong in ("[]", "{}", '{"results": []}', '{"results": [{"system": "pit"}]}', "no JSON"):
        steps.write_text(wrong)
        with pytest.raises(SystemExit, match="has no results with system and mixtures_per_second"):
            wanted_rate(steps)
