"""In the guest, before and after a power cut in the middle of an upgrade.

``python3 -m tests.vm.inside.cut_upgrade FOLDER [PACKAGE]``: when the service has come up, ``FOLDER/before`` says how
all stands; then the package is installed, with what the command says in ``upgrade.log``, and ``after`` and ``ledger``
say what came of it. It ends with the command's code.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.vm.inside.gateway import run, wait_for_gateway

ROOT = Path("/opt/enlace")
ENLACE = "/usr/bin/enlace"
#: It is well for so long before it counts: the trial is about cuts.
STEADY_S = "5"


def stand(folder: Path) -> dict[str, object]:
    """Which version runs, and what there is beside it."""
    said = [
        line for line in run("journalctl", "--no-pager", "-q", "-b", "-u", "enlace").splitlines() if " is up, " in line
    ]
    verified = subprocess.run([ENLACE, "audit", "verify"], capture_output=True, check=False)
    return {
        "runs": (ROOT / "current").readlink().name,
        "says": said[-1].split("version ")[1] if said else "",
        "restarts": run("systemctl", "show", "-P", "NRestarts", "enlace").strip(),
        "root": sorted(one.name for one in ROOT.iterdir()),
        "envs": sorted(one.name for one in (ROOT / "envs").iterdir()),
        "verified": verified.returncode,
        "ready_s": (folder / "ready_s").read_text(),
    }


def write(path: Path, content: object) -> None:
    """There when it is whole."""
    path.with_suffix(".new").write_text(json.dumps(content))
    path.with_suffix(".new").rename(path)


def ledger() -> list[tuple[str, str]]:
    """What the ledger says of upgrades: kind and version."""
    lines = [json.loads(line) for line in run(ENLACE, "audit", "export", "--kind", "upgrade.").splitlines()]
    return [(one["kind"], json.loads(one["data"])["version"]) for one in lines if "kind" in one]


def main() -> None:
    """See the module."""
    folder, package = Path(sys.argv[1]), sys.argv[2:]
    wait_for_gateway(folder)
    write(folder / "before", stand(folder))
    if not package:
        return
    with (folder / "upgrade.log").open("wb") as log:
        words = [ENLACE, "upgrade", *package, "--steady", STEADY_S]
        code = subprocess.run(words, stdout=log, stderr=log, check=False).returncode
    write(folder / "after", stand(folder))
    write(folder / "ledger", ledger())
    sys.exit(code)


if __name__ == "__main__":
    main()
