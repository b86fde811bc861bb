"""The site's own section of the configuration, shown and changed: only its lines in the file change, comments stay."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.api.setup_view import SiteNow
from agent.config import Config, dotenv, env_names, read_config_text
from agent.core.errors import ConfigError
from agent.site_check import finding_of, refuse
from agent.site_editor import SiteEditor, read_only
from agent.yaml_edit import EditError, edited
from agent.yamltree import Json, Tree, parse_tree

KEYS = ("id", "name", "timezone", "import_limit_a", "power_return_s")

_ALONE = "another id is another site: recordings and history stay here, under the new name"
_SENT = (
    "another id is another site to the central server: what is sent from then on, also what still waits, is stored"
    " under the new one; what was sent stays under the old one, whose retained topics stay at the broker until they"
    " are deleted there; and commands are taken under the new one only"
)


class SiteSettings:
    """``SiteSettings`` of ``agent/api/setup_view.py``. ``config`` gives the configuration that runs."""

    def __init__(self, path: Path, editor: SiteEditor, config: Callable[[], Config]) -> None:
        self._path = path
        self._editor = editor
        self._config = config

    def now(self) -> SiteNow:
        """As it counts now."""
        config = self._config()
        site = config.site
        return SiteNow(
            site.id,
            site.name,
            site.timezone,
            site.import_limit_a,
            site.power_return_s,
            read_only(self._path),
            overridden(),
            _ALONE if config.uplink is None else _SENT,
        )

    def change(self, values: Mapping[str, object]) -> Config:
        """Write other values; None takes a key out. Blocks. Raises ``ConfigError``."""
        op = f"edit {self._path}"
        reason = read_only(self._path)
        if reason:
            raise ConfigError(op, reason)
        fixed = sorted(set(values) & set(overridden()))
        if fixed:
            raise ConfigError(op, f"`{fixed[0]}` is what the environment says", "change it there")
        try:
            return self._editor.rewrite(lambda text: self._checked(_changed(text, values)))
        except EditError as error:
            raise ConfigError(op, str(error)) from error

    def _checked(self, text: str) -> str:
        """The text, if it is good. Raises ``FindingsError``."""
        problems, tree = read_config_text(text, str(self._path)).problems, parse_tree(text, str(self._path))
        refuse([finding_of(self._path, "error", one, tree, ("site",)) for one in problems])
        return text


def overridden() -> tuple[str, ...]:
    """The keys of the section that the environment sets, whatever the file says."""
    given = dotenv(Path(".env")) | dict(os.environ)
    found = {path[1] for name, path in env_names().items() if name in given and path[0] == "site"}
    return tuple(key for key in KEYS if key in found)


def _changed(text: str, values: Mapping[str, object]) -> str:
    """The text with these values. Raises ``EditError``."""
    tree = parse_tree(text, "")
    if not isinstance(tree, Tree) or not isinstance(tree.data, dict):
        raise EditError("the file is no YAML now: mend it first")
    site = tree.data.get("site")
    wanted: dict[str, Json] = dict(site) if isinstance(site, dict) else {}
    for key, value in values.items():
        if value is None:
            wanted.pop(key, None)
        else:
            wanted[key] = value  # type: ignore[assignment] # JSON
    return edited(text, {**tree.data, "site": wanted})
