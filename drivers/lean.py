"""Keeps python-can from loading what only .mf4 logs need.

``import can`` imports asammdf as soon as it is installed, and with it pandas: 50 MB resident and 0.4 s, in a process
that reads a bus. Whatever imports python-can (cantools does too) does it inside ``without_asammdf``; the reader of .mf4
logs imports asammdf itself.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator

_NAME = "asammdf"
_turn = threading.RLock()  #: DBCs are read in threads: who leaves first must not let it in for the others


@contextlib.contextmanager
def without_asammdf() -> Iterator[None]:
    """Within it, ``import asammdf`` fails, unless it was imported before."""
    with _turn:
        if _NAME in sys.modules:
            yield
            return
        # None is the import system's own word for "do not look for this module".
        sys.modules[_NAME] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules[_NAME]
