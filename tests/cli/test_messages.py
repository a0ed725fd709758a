"""Messages of the library are logged, for programs to do with as they want; the command writes them to stderr."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

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


def test_a_program_that_sets_up_no_logging_sees_warnings_too_and_can_silence_them():
    program = """
import logging, sys
from vidaudio.corpus.manifest_diff import _log
logging.getLogger("vidaudio").setLevel(sys.argv[1])
_log.warning("2 rows are left out")
"""
    said = [
        subprocess.run([sys.executable, "-c", program, level], capture_output=True, text=True, check=True)
        for level in ("WARNING", "ERROR")
    ]
    assert [(each.stdout, each.stderr) for each in said] == [("", "2 rows are left out\n"), ("", "")]
