"""The files that CONTRIBUTING.md and the quick tests name exist."""

from __future__ import annotations

import re

from tests.conftest import QUICK
from tests.docs.pages import ROOT

# Placeholders, such as vidaudio/encoders/NAME.py, are written in capitals.
_FILE = re.compile(r"\b(?:vidaudio|tests|docs|train|manifests)/[a-z_/]*(?:\.(?:py|md|yaml))?(?=[`/ ,:;.)])")


def test_every_file_that_contributors_are_sent_to_exists():
    named = set(_FILE.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert {"vidaudio/corpus/columns.py", "vidaudio/tasks/registry.py", "vidaudio/encoders/load.py"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_quick_tests_exist():
    assert [name for name in QUICK if not (ROOT / name).exists()] == []
