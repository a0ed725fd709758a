"""The five commands of the README run, one after the other, and print what the README shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.docs.pages import ROOT, consoles
from tests.media_world import render
from vidaudio.cli.app import app

# The README's videos, by pitch; the one without sound is dropped.
VIDEOS = {
    "applause": 300, "baby": 400, "boat": 200, "clouds": None, "dog": 500, "drum": 150, "fireworks": 250, "hammer": 350,
    "stream": 600,
}  # fmt: skip
# Fewer steps of a smaller model; the settings that the README shows stay.
SETTINGS = ("schedule.steps=2", "model.unet.width=4", "data.batch_size=2", "data.workers=0")
SMALLER = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def folder(tmp_path: Path, fork_server: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, pitch in VIDEOS.items():
        render(tmp_path / "videos" / f"{name}.mp4", 5, pitch=pitch, size="160x120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_measurements(text: str) -> str:
    """Replace every number; a gain that means nothing is shown as `none (-0.34)`."""
    return re.sub(r"none \([^)]*\)|[+-]?\d+(\.\d+)?", "#", text).replace("channels", "channel")


def test_the_five_commands_run_and_print_what_is_shown(folder: Path):
    runs = consoles(ROOT / "README.md")
    assert [command.split()[1] for command, _ in runs] == ["manifest", "build", "status", "train", "separate"]
    for command, shown in runs:
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(app, [*words, *SMALLER] if words[0] == "train" else words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        printed = result.stdout.replace(str(folder), "/home/you")
        expected = shown.removeprefix("...\n")
        if words[0] in ("train", "separate"):
            printed, expected = without_measurements(printed), without_measurements(expected)
        assert printed == expected, command
    assert (folder / "dog.wav").stat().st_size > 10_000
