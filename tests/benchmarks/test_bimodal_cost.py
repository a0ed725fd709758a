"""The cost of weakly supervised steps: every network is measured with contrast and without, each on the same sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.bimodal_cost import (
    CLIPSEP,
    CONTRAST,
    EACH,
    NO_CONTRAST,
    PLAIN,
    QUICK_SIZES,
    SHARED,
    TOKENS,
    WEAK,
    contestants,
    main,
    weak_recipe,
)
from benchmarks.demo_clap import write_untrained
from benchmarks.loader import write_corpus
from vidaudio.separation.conditional_unet import ConditionalUNet
from vidaudio.separation.unet import AudioUNet


def test_tried_it_measures_all_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    # `--device cpu` hides GPUs from the process: not from the tests after this one.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    main(["--quick"])
    printed = capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    names = [line.strip().split("  ")[0] for line in printed.splitlines() if "/s" in line]
    assert names == 2 * [
        name for kind in (CONTRAST, NO_CONTRAST) for name in (CLIPSEP, *(f"{way}, {kind}" for way in WEAK))
    ]
    assert [line.split(",")[0] for line in printed.splitlines() if line.startswith("K")] == ["K = 2", "K = 4"]


def test_the_networks_are_of_equal_sizes_and_one_runs_prompt_by_prompt(tmp_path: Path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_corpus(corpus, "wav", 16)
    clap = write_untrained(tmp_path / "clap", sample_rate=16_000)
    settings = (*QUICK_SIZES, f"query.clap.model={clap}", f"query.clap.tokens={TOKENS}")
    found = contestants("demo_bimodal", settings, corpus, tmp_path)
    models = {name: training.module.model for name, training in found.items()}
    sizes = {model.config.front_end for model in models.values()}
    assert len(sizes) == 1
    assert {(model.config.unet.levels, model.config.unet.width) for model in models.values()} == {(5, 4)}
    pictures: dict[str, list[int]] = {name: [] for name in models}

    def note(name: str):
        return lambda _module, inputs: pictures[name].append(len(inputs[0]))

    for name, model in models.items():
        first = model.unet.down[0] if isinstance(model.unet, ConditionalUNet) else model.unet
        assert isinstance(model.unet, AudioUNet) == (name == CLIPSEP or name.startswith(PLAIN))
        with first.register_forward_pre_hook(note(name)):
            found[name].make_steps(1)
    # Batches of 2 mixtures; with the contrast 2 prompts of parts and 4 of sources, and without it as many: the
    # consistency asks for sources, too.
    expected = {CLIPSEP: 2} | {f"{way}, {kind}": 2 for way in (PLAIN, SHARED) for kind in (CONTRAST, NO_CONTRAST)}
    expected |= {f"{EACH}, {kind}": 12 for kind in (CONTRAST, NO_CONTRAST)}
    assert pictures == {name: [count] for name, count in expected.items()}


def test_what_cannot_be_measured_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        main(["--device", "cuda"])
    with pytest.raises(SystemExit, match="clipsep is no recipe of a system that is trained on mixtures of parts"):
        weak_recipe("clipsep", (), SHARED)
