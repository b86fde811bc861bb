"""What goes into a Debian package, without building one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    """The script, by its path: a package named packaging would hide another one."""
    spec = importlib.util.spec_from_file_location("build_deb", ROOT / "packaging" / "build_deb.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_all_that_the_gateway_needs_is_locked_by_hash(builder: ModuleType, suite: str, machine: str) -> None:
    names = builder.needed(builder.SUITES[suite].python, machine)
    assert {"pydantic-core", "fastapi", "paho-mqtt", "python-can", "amqtt"} <= names
    assert not {"pytest", "mypy", "psycopg", "asammdf", "enlace"} & names
    text = "".join(builder.locked(names))
    for name in names:
        block = text.partition(f"\n{name}==")[2] or text.removeprefix(f"{name}==")
        assert block.partition("\n\n")[0].lstrip().count("--hash=sha256:") >= 1, name
    assert text.count("==") == len(names), "each once"


def test_only_what_is_asked_for_is_locked(builder: ModuleType) -> None:
    lines = list(builder.locked({"paho-mqtt"}))
    assert lines[0].startswith("paho-mqtt==")
    assert all(line.startswith(" ") for line in lines[1:])


def test_a_build_that_is_no_release_counts_as_newer_and_says_from_where(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"tag": "", "status": "", "log": "20261121154641", "rev-parse": "9e1bb5d"}
    monkeypatch.setattr(builder, "_git", lambda *words: said[words[0]])
    assert builder.source_version("0.1.0") == "0.1.0+git20261121154641.9e1bb5d"
    said["status"] = " M agent/app.py"
    assert builder.source_version("0.1.0") == "0.1.0+git20261121154641.9e1bb5d.dirty"
    said["tag"] = "v0.1.0"
    assert builder.source_version("0.1.0") == "0.1.0"


def test_the_environment_is_one_of_the_target_s_python(builder: ModuleType, tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.mkdir()
    builder._environment(builder.SUITES["trixie"], env, "1.2.3")
    command = env / "bin" / "enlace"
    assert command.read_text().startswith("#!/opt/enlace/envs/1.2.3/bin/python3 -I\n")
    assert command.stat().st_mode & 0o111
    assert (env / "bin" / "python3").readlink() == Path("python3.13")
    assert (env / "bin" / "python3.13").readlink() == Path("/usr/bin/python3.13")
    assert "home = /usr/bin" in (env / "pyvenv.cfg").read_text()


def test_the_maintainer_is_who_the_project_and_its_licence_name(builder: ModuleType) -> None:
    name, _, address = builder._maintainer().partition(" <")
    assert name in (ROOT / "LICENSE").read_text()
    assert address.endswith("@enlace.invalid>"), "no address is known, and none is made up that somebody may have"
