"""Memory of a loader process: it does not grow with the corpus."""

from __future__ import annotations

import sys

import pytest

from benchmarks.loader_memory import measure


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_forty_times_as_many_samples_take_hardly_more_memory():
    few, many = measure(10_000), measure(400_000)
    assert (few["samples"], many["samples"]) == (10_000, 400_000)
    # A single number a sample, eight bytes, would be 3 MB; the index itself is 80. At most a few shards' pages are
    # mapped at a time, and small shards have fewer.
    assert many["now"] - few["now"] < 3
    assert many["most"] - few["most"] < 20
