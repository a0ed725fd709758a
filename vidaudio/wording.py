"""Numbers in sentences for people."""

from __future__ import annotations


def number_of(number: int, one: str, many: str | None = None) -> str:
    """`1 clip`, `2,000 clips`; `many` where the plural takes more than an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
