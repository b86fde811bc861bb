"""The whole quick suite (``make test``): four pytest processes side by side, then what failed in them again, alone.

The parts mostly wait for processes, brokers and clocks. Four of them share two cores, and now and then a test of real
processes runs out of its patience for that reason alone. So what failed is run again with nothing beside it, three
times at most: a machine can be slow for minutes. What passes then is named as unsteady, to be mended. More failures
than ``ACCIDENTS`` are not run again: one cause has failed a whole file's tests already (a disk that was short of room
for a minute).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIDDLE, LATER = "tests/e2e/test_[g-o]*.py", "tests/e2e/test_[p-z]*.py"
AGAIN = 3  #: how often what failed is run alone
ACCIDENTS = 40  #: failures that may be the machine's; more are not
FAILED = 1  #: pytest's exit code for failed tests; others say that it could not run


def parts() -> dict[str, list[str]]:
    """What each process is told to run."""
    middle, later = (sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(glob)) for glob in (MIDDLE, LATER))
    rest = ["--ignore=tests/unit", f"--ignore-glob={MIDDLE}", f"--ignore-glob={LATER}"]
    return {"rest": rest, "middle": middle, "later": later, "unit": ["tests/unit"]}


def pytest(arguments: list[str], cache: Path) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "--durations=12", "-o", f"cache_dir={cache}", *arguments]


def failures(cache: Path) -> list[str]:
    """The tests that failed in the run with this cache."""
    kept = cache / "v" / "cache" / "lastfailed"
    return list(json.loads(kept.read_text())) if kept.exists() else []


def is_told(code: int, failed: list[str]) -> bool:
    """Whether a part came to its end, and said which tests failed if any did."""
    return code == 0 or (code == FAILED and bool(failed))


def side_by_side(folder: Path) -> tuple[list[str], bool]:
    """Run all parts; the tests that failed, and whether every part could run."""
    running = {}
    for name, arguments in parts().items():
        # The first is seen as it goes; the others are shown when they have ended.
        output = None if name == "rest" else (folder / f"{name}.log").open("wb")
        running[name] = subprocess.Popen(pytest(arguments, folder / name), cwd=ROOT, stdout=output, stderr=output)
    failed, ran = list[str](), True
    try:
        for name, process in running.items():
            code = process.wait()
            if name != "rest":
                print((folder / f"{name}.log").read_text(errors="replace"), flush=True)
            found = failures(folder / name)
            ran = ran and is_told(code, found)
            failed += found
    finally:
        for process in running.values():
            process.terminate()
    return failed, ran


def main() -> int:
    """Run the suite; 0 if every test passed at last."""
    with tempfile.TemporaryDirectory(prefix="enlace-suite-") as kept:
        folder = Path(kept)
        failed, ran = side_by_side(folder)
        if not ran or len(failed) > ACCIDENTS:
            return 1
        if not failed:
            return 0
        for attempt in range(AGAIN):
            print(f"{len(failed)} failed; again, alone:", flush=True)
            cache = folder / f"again-{attempt}"
            code = subprocess.run(pytest(failed, cache), cwd=ROOT, check=False).returncode
            if not is_told(code, failures(cache)):
                return code
            for test in sorted(set(failed) - set(failures(cache))):
                print(f"unsteady: {test} failed beside the others and passed alone")
            failed = failures(cache)
            if not failed:
                return 0
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
