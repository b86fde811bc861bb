"""No secret is kept in the repository: what is in it, everybody has (ETSI EN 303 645, 5.4-3)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Not ours, or made by a build.
LEFT_OUT = {"node_modules", "__pycache__", "build", "dist"}
#: Each begins with fixed letters: so ten megabytes are looked through in a tenth of a second.
SECRETS = {
    "private key": r"PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}",
    "our own API token": r"enl_[A-Za-z0-9_-]{20}",
    "JSON Web Token": r"eyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.",
    "key of Amazon": r"AKIA[0-9A-Z]{16}",
    "key of Google": r"AIza[\w-]{35}",
    "token of GitHub": r"gh[pousr]_[A-Za-z0-9]{36}",
    "token of GitLab": r"glpat-[A-Za-z0-9_-]{20}",
    "token of Slack": r"xox[abp]-\w{10}",
    "password in an address": r"://[\w.-]+:(?!\{)[^@\s\"'{<…*]{8,}@(?!127\.0\.0\.1|localhost|[\w.-]*example)",
}


def _found(text: str) -> set[str]:
    return {name for name, pattern in SECRETS.items() if re.search(pattern, text)}


def test_no_file_of_the_repository_holds_one() -> None:
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") and top.name not in LEFT_OUT]
    files = [one for top in tops for one in ([top] if top.is_file() else top.rglob("*"))]
    seen = 0
    for path in files:
        if not path.is_file() or LEFT_OUT & set(path.relative_to(ROOT).parts):
            continue
        seen += 1
        found = _found(path.read_bytes().decode(errors="replace"))
        assert not found, f"{path.relative_to(ROOT)}: {', '.join(found)}"
    assert seen > 1000


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g",
        "-----BEGIN EC " + "PRIVATE KEY-----\n" + "A" * 64,
        "token: enl" + "_" + "a" * 24,
        "AK" + "IA" + "Z" * 16,
        "gh" + "p_" + "a" * 36,
        "mqtts" + "://depot-7:" + "0f9a8b7c6d" + "@broker.internal",
    ],
)
def test_one_would_be_found(text: str) -> None:
    assert len(_found(text)) == 1


def test_what_is_no_secret_is_let_be() -> None:
    assert not _found("mqtts://ana:{}@central.example and postgresql://user@host/name, enl_{}")
