"""Commands about models: what they say when they are stopped, asked for help, or given a name that is none."""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vidaudio.cli.app
from vidaudio.cli import main
from vidaudio.config.recipes import find_recipe
from vidaudio.errors import RecipeError
from vidaudio.tasks.separation.separate import SeparationResult

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "clipsep"], "give the same command with --resume, or with --auto-resume"),
        (["train", "clipsep", "--resume"], "the same command goes on"),
        (["train", "clipsep", "--auto-resume"], "the same command goes on"),
        (["evaluate", "run"], "the same command begins anew"),
        (["build", "folder"], "the same command goes on"),
    ],
)
def test_a_stop_says_how_that_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
):
    monkeypatch.setattr(sys, "argv", ["vidaudio", *arguments])
    unwound = []

    def stopped_twice(args: list[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            unwound.append(args)

    monkeypatch.setattr(vidaudio.cli.app, "app", stopped_twice)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert unwound
    assert stopped.value.code == 128 + signal.SIGTERM
    printed = capsys.readouterr().err
    assert printed.startswith("stopped; ")
    assert sentence in printed


@pytest.mark.parametrize("place", [{"RANK": "1"}, {"RANK": "0", "VIDAUDIO_LAUNCHED": "1"}])
def test_of_several_ranks_one_alone_says_that_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: dict[str, str]
):
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["vidaudio", "train", "clipsep"])

    def stop(args: list[str]) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    monkeypatch.setattr(vidaudio.cli.app, "app", stop)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("loss", "said"), [(0.25, "best validation loss 0.2500"), (math.nan, "not validated, the last")]
)
def test_a_run_that_was_not_validated_says_so(monkeypatch: pytest.MonkeyPatch, loss: float, said: str):
    from vidaudio.tasks import registry
    from vidaudio.training.train import TrainResult

    done = TrainResult(Path("run"), 3, 12, "mixture", loss)
    monkeypatch.setattr(registry, "train", lambda *args, **options: done)
    printed = runner.invoke(vidaudio.cli.app.app, ["train", "clipsep", "--data", "x", "--run", "run"]).output
    assert said in printed
    assert "nan" not in printed


def test_help_at_80_columns_names_every_method():
    shown = runner.invoke(vidaudio.cli.app.app, ["evaluate", "--help"], env={"COLUMNS": "80"}).output
    for method in (
        "wrong_text",
        "wrong_image",
        "fixed_filter",
        "ideal_binary_mask",
        "mask_or_complement",
        "first_head",
    ):
        assert method in shown
    assert "gamma=0,0.1,0.25" in shown


def test_a_protocol_that_is_none_is_called_a_protocol():
    with pytest.raises(RecipeError, match=r"no protocol 'vggsound-clean'.*mean vggsound-clean-plus\? There are: split"):
        find_recipe("vggsound-clean", "manifests/protocols")
    with pytest.raises(RecipeError, match=r"there is no protocol file none\.yaml"):
        find_recipe("none.yaml", "manifests/protocols")
    with pytest.raises(RecipeError, match=r"no recipe 'clipsepp' in train/; did you mean clipsep\? A path"):
        find_recipe("clipsepp", "train")


def test_one_channel_is_no_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import vidaudio.tasks.separation.separate as module

    monkeypatch.setattr(module, "separate", lambda *_, **__: SeparationResult((tmp_path / "o.wav",), 1.0, 1, 16_000))
    said = runner.invoke(vidaudio.cli.app.app, ["separate", "m.wav", "-c", "run", "-o", "o.wav", "-q", "dog"]).output
    assert "1.00 s, 1 channel, 16000 Hz" in " ".join(said.split())
