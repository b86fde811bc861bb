"""Holds the dashboard to the API: its TypeScript against the types of the gateway's own description, and its own tests.

``python -m agent.web.check DESCRIPTION``: the file is the gateway's /openapi.json.
"""

import sys
from pathlib import Path

from agent.web.build import HERE, BuildError, install, run_node

_TYPES = HERE / "schema.d.ts"


def check(description: Path) -> None:
    """Make the types of the description, and check all by them. Raises ``BuildError``."""
    install()
    tools = HERE / "node_modules"
    run_node([str(tools / "openapi-typescript" / "bin" / "cli.js"), str(description.resolve()), "-o", _TYPES.name])
    run_node([str(tools / "typescript" / "bin" / "tsc"), "--noEmit"])
    run_node(["--test", "test/*.test.ts"])


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]))
    except BuildError as error:
        sys.exit(f"enlace: {error}")
