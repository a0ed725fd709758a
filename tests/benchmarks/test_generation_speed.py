"""The generators' speed: every sampler is measured alone and together, up to mel and up to sound; flow is as large."""

from __future__ import annotations

import pytest

from benchmarks import common
from benchmarks.generation_speed import DIFFUSION, FLOW, main, recipes
from vidaudio.generation import Denoiser


def test_tried_it_measures_all_and_writes_nothing(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    # `--device cpu` hides GPUs from the process: not from the tests after this one.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    main(["--quick"])
    printed = capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    assert [line.strip().split("  ")[0] for line in printed.splitlines() if "/s" in line] == [
        "ready batch",
        "loader",
        *(
            f"{name} {steps // 10}, {words}, {end}"
            for name, steps in (*DIFFUSION, *FLOW)
            for words in ("alone", "2 together")
            for end in ("mel", "vocoder")
        ),
        "vocoder",
        "Griffin-Lim",
    ]


def test_the_flow_has_the_network_of_the_diffusion():
    recipe, flow = recipes("demo_generation", quick=False)
    assert (recipe.model.process.kind, flow.model.process.kind, flow.model.process.outputs) == ("diffusion", "flow", 1)
    assert (recipe.model.unet, recipe.frames) == (flow.model.unet, flow.frames)
    numbers = [sum(each.numel() for each in Denoiser(one.denoiser(512)).parameters()) for one in (recipe, flow)]
    # The learned variance is a second picture that comes out.
    assert 0 < numbers[0] - numbers[1] < 1000


def test_what_cannot_be_measured_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        main(["--device", "cuda"])
    with pytest.raises(SystemExit, match="clipsep is no recipe of a generator"):
        main(["--recipe", "clipsep"])
