"""Messages of the library are logged, for programs to do with as they want; the command writes them to stderr."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vidaudio.cli.messages import show_messages


def test_a_message_is_written_once_to_stderr_as_it_is(capsys: pytest.CaptureFixture[str]):
    show_messages()
    root = logging.StreamHandler(sys.stdout)
    logging.root.addHandler(root)
    try:
        logging.getLogger("vidaudio.training.train").warning("90 % of x, {y}: %s")
        logging.getLogger("vidaudio.training.train").info("not shown")
    finally:
        logging.root.removeHandler(root)
    assert capsys.readouterr() == ("", "90 % of x, {y}: %s\n")


def test_a_program_that_sets_up_no_logging_sees_warnings_too_and_can_silence_them(tmp_path: Path):
    soundfile.write(tmp_path / "cut.wav", np.zeros(16_000), 16_000)
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    program = """
import logging, sys
from vidaudio.media.audio_files import read_sound
logging.getLogger("vidaudio").setLevel(sys.argv[2])
read_sound(sys.argv[1])
"""
    said = {}
    for level in ("WARNING", "ERROR"):
        command = [sys.executable, "-c", program, str(tmp_path / "cut.wav"), level]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == ""
        said[level] = done.stderr
    assert re.fullmatch(r".*cut\.wav breaks off after 0\.\d+ s of the 1\.00 s .*\n", said["WARNING"])
    assert said["ERROR"] == ""
