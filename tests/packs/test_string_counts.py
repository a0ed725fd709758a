"""Counting millions of texts in columns gives what a dictionary gives."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vidaudio.packs import string_counts
from vidaudio.packs.string_counts import TextCounts


@pytest.mark.parametrize("pending", [1, 7, 10**6])
def test_counts_are_those_of_a_dictionary(monkeypatch: pytest.MonkeyPatch, pending: int):
    monkeypatch.setattr(string_counts, "PENDING_TEXTS", pending)
    draw = random.Random(pending)
    expected: Counter[str] = Counter()
    counted = TextCounts()
    for _ in range(20):
        texts = [draw.choice("aäzZ😀") * draw.randint(0, 4) for _ in range(draw.randint(0, 9))]
        expected.update(texts)
        counted.add(texts)
    ranked = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))
    for most in (0, 1, 3, 100):
        assert counted.largest(most) == ranked[:most]
    assert (len(counted), counted.total) == (len(expected), expected.total())
    assert "aa" in counted
    assert "b" not in counted


def test_nothing_counted():
    assert (len(TextCounts()), TextCounts().largest(5), "a" in TextCounts()) == (0, [], False)
