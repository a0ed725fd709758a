"""Messages of the library at the command line: written to stderr, above a progress bar if there is one."""

from __future__ import annotations

import logging
import sys


class _AboveProgressBar(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def show_messages() -> None:
    """Write the package's warnings to stderr, each as it is, once however often this is called."""
    logger = logging.getLogger("vidaudio")
    if not any(isinstance(handler, _AboveProgressBar) for handler in logger.handlers):
        logger.addHandler(_AboveProgressBar(logging.WARNING))
    # A library that sets up the root logger would print each a second time.
    logger.propagate = False
