"""CLIPSep-NIT in the noisy demo world with a gamma that leaves its noise heads less room than the paper's.

    python -m benchmarks.noisy_gamma --minutes 30

The rows of `benchmarks.noisy` beside these are what to compare with: all else is the same.
"""

from __future__ import annotations

from benchmarks.systems import run_table

if __name__ == "__main__":
    run_table("noisy_gamma", __doc__)
