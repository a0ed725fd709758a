"""Commands about models: what they say when they are stopped, asked for help, or given a name that is none."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vidaudio.cli.app
from vidaudio.cli import main
from vidaudio.errors import RecipeError
from vidaudio.recipes import find_recipe
from vidaudio.training.separate import Separated

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
    monkeypatch.setattr(vidaudio.cli.app, "app", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 128 + signal.SIGTERM
    printed = capsys.readouterr().err
    assert printed.startswith("stopped; ")
    assert sentence in printed


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
    import vidaudio.training.separate as module

    monkeypatch.setattr(module, "separate", lambda *_, **__: Separated((tmp_path / "o.wav",), 1.0, 1, 16_000))
    said = runner.invoke(vidaudio.cli.app.app, ["separate", "m.wav", "-c", "run", "-o", "o.wav", "-q", "dog"]).output
    assert "1.00 s, 1 channel, 16000 Hz" in " ".join(said.split())
