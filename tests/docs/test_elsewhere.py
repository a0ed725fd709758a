"""The code blocks of docs/elsewhere.md run, one after the other, on a corpus at the place that the page names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"


def test_the_page_runs(packed_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    (tmp_path / "corpora").mkdir()
    os.symlink(packed_corpus.url, tmp_path / "corpora" / "mine")
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"__name__": "elsewhere"})
    printed = capsys.readouterr().out
    assert "rms_dbfs" in printed
    assert "'clip.npy'" in printed
    assert "torch.Size([1, 2, 65535])" in printed
