"""What the API sets a site up with, put together: editing the file, checking it, searching for devices, testing them.

Loaded when somebody sets something up, in a thread: no sample waits for its libraries.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.api.setup_view import SetUp
from agent.central import Central
from agent.config import Config
from agent.core.clock import Clock
from agent.core.ports import Listener, Operable
from agent.device_tests import DeviceTests, TestedSite
from agent.overview import Overview
from agent.pipeline.supervisor import Supervisor
from agent.scanning import Scans, SearchedSite
from agent.site_check import SiteCheck
from agent.site_editor import SiteEditor
from agent.site_forms import SiteForms
from agent.site_settings import SiteSettings


class SettingUp:
    """``ports`` is what the API is given. ``listeners`` are the wires that run; ``config`` is what runs."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        editor: SiteEditor,
        config: Callable[[], Config],
        overview: Overview,
        supervisor: Supervisor,
        central: Central,
        listeners: Callable[[], Iterable[Listener]],
    ) -> None:
        self._listeners = listeners
        check = SiteCheck(path, editor, config)
        forms = SiteForms(path)
        searched = SearchedSite(config, central.pending, lambda: bool(central.url), lambda: self._tests.running)
        self._scans = Scans(path, clock, searched)
        tested = TestedSite(
            config,
            overview.devices,
            overview.signals,
            overview.latest,
            supervisor.try_now,
            self._operable,
            central.pending,
            lambda: _reachable(central.url),
            lambda: self._scans.running,
        )
        self._tests = DeviceTests(path, clock, editor, check, tested)
        self.ports = SetUp(
            settings=SiteSettings(path, editor, config),
            scans=self._scans,
            tests=self._tests,
            checks=check,
            entry=forms.entry,
            profiles=forms.profiles,
            schema=forms.schema,
        )

    def close(self) -> None:
        """End what goes on. Blocks for some seconds at most."""
        self._scans.cancel()

    def _operable(self, device: str) -> Operable | None:
        for listener in self._listeners():
            operables: dict[str, Operable] = getattr(listener, "operables", {})
            if device in operables:
                return operables[device]
        return None


def _reachable(url: str) -> str:
    """A URL for people to enter elsewhere: an address that stands for all of this machine is none there."""
    return re.sub(r"//(0\.0\.0\.0|\[::\])(?=[:/])", "//THIS-MACHINE", url)
