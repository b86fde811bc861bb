"""Regular expressions on the system's own Python, which may be older than the one of the tests.

In Python before 3.11.5 a possessive repetition of a group keeps what its last, failed turn took (gh-106052): the first
message of each DBC file with a list of nodes was lost on Debian 12 as it was published.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.codec.dbc_scan import scan

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = Path("/usr/bin/python3")
#: More of what a group's last turn may run into: words, names and markers that are none.
MORE = (
    'NS_ :\n\tCM_\n\tBA_DEF_\nBO_ 1 First: 8 A\n SG_ x M : 0|8@1+ (1,0) [0|255] "" A SG_ y : 8|8@1+ (1,0) [0|1] "" A\n',
    'BU_: A B\nBO_ 1 First: 8 A\n SG_ Two words : 0|8@1+ (1,0) [0|255] "" Vector__XXX  \nVAL_ 1 x 0 "no" 1 "yes" ;\n',
    'BU_:\n\n\nBO_ 1 First: 8 A\n SG_ m : 0|8@1+ (1,0) [0|1] "" A // BO_ \nSG_MUL_VAL_ 1 x m 1-2, 4-5 ;\n',
)
SCRIPT = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from drivers.codec.dbc_scan import scan
texts = json.load(sys.stdin)
json.dump([[(type(one).__name__, one.kind, one.line, one.text) for one in scan(text)] for text in texts], sys.stdout)
"""


def is_new_enough() -> bool:
    """Whether the gateway runs on it at all."""
    if not SYSTEM.exists():
        return False
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([SYSTEM, "-c", probe], check=False, timeout=60).returncode == 0


@pytest.mark.skipif(not is_new_enough(), reason="there is no Python of the system from 3.11 on")
def test_dbc_files_are_read_alike() -> None:
    texts = [path.read_text(encoding="latin-1") for path in sorted((ROOT / "dbc").glob("*.dbc"))] + list(MORE)
    done = subprocess.run(
        [SYSTEM, "-I", "-B", "-c", SCRIPT, str(ROOT)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ours = [[[type(one).__name__, one.kind, one.line, one.text] for one in scan(text)] for text in texts]
    assert json.loads(done.stdout) == ours, sys.version
    assert all(any(kind == "BO_" for _, kind, _, _ in one) for one in ours)
