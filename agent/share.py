"""Where the data that travels with the program lies: ``dbc/`` and ``config/``.

In the repository they stand beside the code, where people look for them; in an installed wheel they travel inside the
package, as ``agent/_share`` (``force-include`` in pyproject.toml). This is the one place that knows both layouts.
"""

from pathlib import Path

from agent.core.errors import ConfigError

_HERE = Path(__file__).resolve().parent


def share_path(name: str) -> Path:
    """The folder or file of that name (``dbc``, ``config/profiles``), in either layout.

    Raises ``ConfigError`` when neither layout has it, which means a broken installation.
    """
    places = (_HERE.parent / name, _HERE / "_share" / name)
    for place in places:
        if place.exists():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ConfigError(f"find {name}", f"is at neither {looked}", "install enlace again")
