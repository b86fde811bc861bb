"""``python -m bench [topic …]``: every figure with its ratio. The topics are the modules of this package."""

import importlib
import os
import platform
import sys
from pathlib import Path


def main() -> None:
    """Run the topics that are named, or all."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    topics = sys.argv[1:] or known
    unknown = sorted(set(topics) - set(known))
    if unknown:
        sys.exit(f"bench: no topic {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    for topic in topics:
        print(f"\n== {topic}", flush=True)
        importlib.import_module(f"bench.{topic}").main()


if __name__ == "__main__":
    main()
