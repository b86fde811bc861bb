"""Write the API's own description to a file, for the types of the dashboard. ``python -m tests.openapi_dump FILE``."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.unit.api_rig import Rig


def main() -> None:
    """Write it."""
    with TemporaryDirectory() as folder:
        description = Rig(Path(folder)).app.openapi()
    Path(sys.argv[1]).write_text(json.dumps(description))


if __name__ == "__main__":
    main()
