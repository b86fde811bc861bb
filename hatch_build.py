"""The package's build hook: the dashboard is built before a wheel or an editable installation is made."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DashboardHook(BuildHookInterface):  # type: ignore[type-arg]
    """Calls ``agent/web/build.py``, by its path: nothing of Enlace is installed yet."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the dashboard."""
        spec = importlib.util.spec_from_file_location("web_build", Path(self.root) / "agent" / "web" / "build.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("agent/web/build.py is missing: is this the whole source?")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.build()
