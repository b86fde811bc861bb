"""What authentication keeps: the file of users between processes, guesses, and the command that keeps users."""

import fcntl
import io
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from agent.api import throttle
from agent.api.jsonfile import JsonFile
from agent.api.throttle import Throttle, TooFastError
from agent.api.users import MAX_TOKENS, Role, UserBook, UserError, _Users
from agent.cli.main import main
from agent.cli.user import _make
from agent.core.clock import FakeClock
from agent.core.errors import StoreError

ADDRESS = "10.0.0.66"


def add_users(folder: str, first: str) -> None:
    book = UserBook(Path(folder))
    for number in range(25):
        book.add(f"{first}{number}", Role.VIEWER, "no password is this hash")


def test_two_processes_lose_none_of_each_other_s_changes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_users, args=(str(tmp_path), first)) for first in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(UserBook(tmp_path).all()) == 50


def test_a_change_is_seen_by_who_read_before(tmp_path: Path) -> None:
    reader, writer = UserBook(tmp_path), UserBook(tmp_path)
    assert [reader.set_up] == [False]
    writer.add("ana", Role.ADMIN, "no password is this hash")
    assert [reader.set_up] == [True]
    token = writer.add_token("ana", "x", 0)
    assert reader.of_token(token) is not None
    writer.remove_token("ana", "x")
    assert reader.of_token(token) is None


def test_a_lock_that_is_never_freed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.api.jsonfile._LOCK_TRIES", 2)
    book = UserBook(tmp_path)
    with Path(f"{book.path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process holds its lock"):
            book.add("ana", Role.ADMIN, "x")
    book.add("ana", Role.ADMIN, "x")


def test_a_change_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = UserBook(tmp_path)
    book.add("ana", Role.ADMIN, "x")
    before = book.path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(StoreError, match="Input/output error"):
        book.add("luis", Role.VIEWER, "x")
    assert book.path.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"users.json", "users.json.lock"}
    assert [user.name for user in book.all()] == ["ana"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"users": {"ana": {}}}', '{"unknown": 1}', "\x00" * 500])
def test_a_damaged_file_is_an_error_that_repeats_nothing_of_it(tmp_path: Path, content: str) -> None:
    file = JsonFile(tmp_path / "users.json", _Users, "restore it")
    file.path.write_text(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        file.read()
    assert "ana" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_gateway(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    book = UserBook(tmp_path)
    book.add("ana", Role.ADMIN, "x")
    for path in tmp_path.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)


@pytest.mark.parametrize("name", ["", ".", "-x", "a b", "a/b", "ñ", "x" * 65, "a\n"])
def test_names_that_can_t_be_used(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        UserBook(tmp_path).add(name, Role.VIEWER, "x")


def test_tokens_of_a_user_are_bounded(tmp_path: Path) -> None:
    book = UserBook(tmp_path)
    book.add("ana", Role.ADMIN, "x")
    for number in range(MAX_TOKENS):
        book.add_token("ana", str(number), 0)
    with pytest.raises(UserError, match="already"):
        book.add_token("ana", "more", 0)


def test_at_most_30_guesses_an_hour_from_one_address() -> None:
    clock = FakeClock()
    slow = Throttle(clock)
    guesses = 0
    for second in range(24 * 3600):
        try:
            slow.check(f"user{second}", ADDRESS)
        except TooFastError:
            pass
        else:
            slow.failed(f"user{second}", ADDRESS)
            guesses += 1
        clock.advance(1)
    assert guesses <= throttle.BUCKET + 24 * 20


def test_at_most_ten_guesses_in_any_hour_of_one_account_from_anywhere() -> None:
    clock = FakeClock()
    slow = Throttle(clock)
    guesses: list[int] = []
    for second in range(30 * 3600):
        address = f"10.{second // 60000}.{second // 250 % 250}.{second % 250}"
        try:
            slow.check("ana", address)
        except TooFastError:
            pass
        else:
            slow.failed("ana", address)
            guesses.append(second)
        clock.advance(1)
    assert len(guesses) > 30, "or the test shows nothing"
    assert all(later - earlier >= 3600 for earlier, later in zip(guesses, guesses[10:], strict=False))


def test_spraying_names_makes_none_be_forgotten_that_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_REMEMBERED", 50)
    slow = Throttle(FakeClock())
    for _ in range(10):
        slow.failed("ana", ADDRESS)
    for number in range(500):
        slow.failed(f"user{number}", f"10.0.{number // 250}.{number % 250}")
    assert len(slow._accounts) <= 50
    assert len(slow._buckets) <= 50
    with pytest.raises(TooFastError):
        slow.check("ana", "10.9.9.9")


def test_addresses_of_one_ipv6_site_are_one() -> None:
    slow = Throttle(FakeClock())
    for number in range(10):
        slow.failed(f"user{number}", f"2001:db8::{number:x}")
    with pytest.raises(TooFastError):
        slow.check("ana", "2001:db8::ffff")
    slow.check("ana", "2001:db8:0:1::1")
    slow.check("ana", "::ffff:127.0.0.1")


def enlace(monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    return main(["user", *arguments])


def test_users_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(f"data_dir: {tmp_path}\nsite: {{id: test}}\n")
    at = ("--config", str(config))
    words = "a few words of mine\n"
    assert enlace(monkeypatch, "list", *at) == 0
    assert "there is no admin yet" in capsys.readouterr().err
    assert enlace(monkeypatch, *at, "add", "Ana", "--role", "admin", "--password-stdin", stdin=words) == 0
    assert enlace(monkeypatch, "add", "luis", "--role", "viewer", "--password-stdin", *at, stdin=words) == 0
    assert enlace(monkeypatch, "add", "luis", "--role", "viewer", "--password-stdin", *at, stdin=words) == 2
    assert "there is a user of that name" in capsys.readouterr().err
    assert enlace(monkeypatch, "passwd", "luis", "--password-stdin", *at, stdin="luis\n") == 2
    assert enlace(monkeypatch, "passwd", "luis", *at) == 2
    assert "--password-stdin" in capsys.readouterr().err
    assert enlace(monkeypatch, "token", "luis", "--label", "grafana", "--data-dir", str(tmp_path)) == 0
    token = capsys.readouterr().out.strip()
    book = UserBook(tmp_path)
    known = book.of_token(token)
    assert known is not None
    assert (known.name, known.role) == ("luis", Role.VIEWER)
    assert enlace(monkeypatch, "list", *at) == 0
    listed = capsys.readouterr().out
    assert "ana " in listed
    assert "tokens: grafana" in listed
    assert token not in listed
    assert enlace(monkeypatch, "token", "luis", "--label", "grafana", "--revoke", *at) == 0
    assert book.of_token(token) is None
    assert enlace(monkeypatch, "remove", "ana", *at) == 2
    assert enlace(monkeypatch, "remove", "luis", *at) == 0
    assert [user.name for user in book.all()] == ["ana"]
    assert enlace(monkeypatch, "list", "--data-dir", str(tmp_path / "none")) == 78
    assert not (tmp_path / "none").exists()


def test_the_first_user_may_come_before_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``add`` makes the folder, as ``run`` would have; nothing else does, nor does a password that is none."""
    folder = tmp_path / "var" / "enlace"
    add = ("add", "ana", "--role", "admin", "--password-stdin", "--data-dir", str(folder))
    for verb in (["passwd", "ana", "--password-stdin"], ["list"], ["remove", "ana"], ["token", "ana"]):
        assert enlace(monkeypatch, *verb, "--data-dir", str(folder), stdin="a few words of mine\n") == 78
        assert "there is no such folder" in capsys.readouterr().err
    assert enlace(monkeypatch, *add, stdin="ana\n") == 2
    assert not folder.parent.exists()
    assert enlace(monkeypatch, *add, stdin="a few words of mine\n") == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    assert UserBook(folder).set_up
    (tmp_path / "file").touch()
    assert enlace(monkeypatch, *add[:-1], str(tmp_path / "file"), stdin="a few words of mine\n") == 78
    assert "there is no such folder" in capsys.readouterr().err
    below = tmp_path / "file" / "enlace"
    assert enlace(monkeypatch, *add[:-1], str(below), stdin="a few words of mine\n") == 78
    assert "Not a directory" in capsys.readouterr().err


def test_folders_that_root_makes_belong_to_who_may_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gateway, which has a user of its own, could not write there."""
    owners: dict[int, int] = {}

    def fchown(handle: int, user: int, _: int) -> None:
        owners[os.fstat(handle).st_ino] = user

    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        owner = 4711 if path == tmp_path else owners.get(found.st_ino, found.st_uid)
        return os.stat_result((*found[:4], owner, *found[5:]))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(Path, "stat", stat)
    _make(tmp_path / "var" / "enlace")
    assert [owners[real(tmp_path / one).st_ino] for one in ("var", "var/enlace")] == [4711, 4711]
