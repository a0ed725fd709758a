"""CLIPSep against CLIPSep-NIT in a noisy demo world, where half of the training videos also sound from off screen.

    python -m benchmarks.noisy --minutes 30

Three seeds each, seed by seed, so that a table that is not full yet is a fair one. Test mixtures are clean.
"""

from __future__ import annotations

from benchmarks.systems import run_table

if __name__ == "__main__":
    run_table("noisy", __doc__)
