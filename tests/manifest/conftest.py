"""Fixtures of the manifest tests: files written on the spot, and real lists where they lie beside the repository."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def write(tmp_path):
    """Writes a file below the test's folder and gives its path; text is UTF-8, with its line ends as they are."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.fixture
def real_data():
    """The folder of real lists and clips; tests that need it are skipped where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real lists are not beside this repository")
    return REAL_DATA
