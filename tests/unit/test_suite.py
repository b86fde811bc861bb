"""What ``make test`` takes for passed."""

from tests.suite import ROOT, is_told, parts


def test_a_part_that_failed_and_names_no_test_did_not_run() -> None:
    assert is_told(0, [])
    assert is_told(1, ["a::b"])
    assert not is_told(1, []), "nothing could be run again, and it would count as passed"
    assert not is_told(2, ["a::b"]), "collected with errors"


def test_each_file_is_run_once() -> None:
    told = parts()
    named = [name for part in ("middle", "later") for name in told[part]]
    assert len(named) == len({*named}) > 0
    ignored = [word.partition("=")[2] for word in told["rest"]]
    assert ignored[0] == "tests/unit" == told["unit"][0]
    assert {*named} == {str(path.relative_to(ROOT)) for glob in ignored[1:] for path in ROOT.glob(glob)}
