"""What a handshake says: paths, credentials and subprotocols as real chargers and others write them."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codec.ocpp_model import Version
from drivers.ocpp.handshake import basic, choose, identity, offered, shown


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/ocpp/CP1", "CP1"),
        ("/ocpp/CP1/", "CP1"),
        ("//ocpp//CP1", "CP1"),
        ("/ocpp/CP1?x=y/z", "CP1"),
        ("/ocpp/CP%201", None),
        ("/ocpp/CP%2D1", "CP-1"),
        ("/ocpp/S%C3%BCd", "Süd"),
        ("/ocpp/S%FCd", None),
        ("/ocpp/a%2Fb", None),
        ("/ocpp/a%00", None),
        ("/ocpp/%E2%80%AE", None),
        ("/ocpp/00:11:22", "00:11:22"),
        ("/ocpp/" + "x" * 48, "x" * 48),
        ("/ocpp/" + "x" * 49, None),
        ("/ocpp/", None),
        ("/ocpp", None),
        ("/", None),
        ("", None),
        ("/ocpp/a/b", None),
        ("/other/CP1", None),
        ("http://host/ocpp/CP1", None),
    ],
)
def test_paths(path: str, name: str | None) -> None:
    assert identity(path) == name


def _token(text: bytes) -> str:
    return base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("header", "proof"),
    [
        (None, None),
        ("Basic " + _token(b"CP1:secret"), ("CP1", b"secret")),
        ("basic   " + _token(b"CP1:secret").rstrip("=") + " ", ("CP1", b"secret")),
        ("Basic " + _token(b"CP1:\xff\x00:x"), ("CP1", b"\xff\x00:x")),
        ("Basic " + base64.urlsafe_b64encode(b"CP1:\xff\xfe\xfd\xfc").decode(), ("CP1", b"\xff\xfe\xfd\xfc")),
        ("Basic " + _token(b"CP1:"), ("CP1", b"")),
        ("Basic " + _token(b"other:x"), ("other", b"x")),
        ("Basic " + _token(b"CP1:2:x"), ("CP1", b"2:x")),
    ],
)
def test_basic_authentication(header: str | None, proof: tuple[str, bytes] | None) -> None:
    assert basic(header, "CP1") == proof


def test_an_identity_may_hold_a_colon() -> None:
    assert basic("Basic " + _token(b"00:11:secret"), "00:11") == ("00:11", b"secret")


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ", "Bearer abc", "Basic ä", "Basic a", "Basic =", "Basic " + _token(b"none"), "Basic !"],
)
def test_headers_that_cannot_be_read(header: str) -> None:
    with pytest.raises(ValueError, match=r"no "):
        basic(header, "CP1")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_else_is_raised(header: str, path: str) -> None:
    try:
        basic("Basic " + header, "CP1")
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - not one of its kinds that was forgotten
    name = identity("/ocpp/" + path)
    assert name is None or (1 <= len(name) <= 48 and name.isprintable())


@pytest.mark.parametrize(
    ("headers", "pinned", "without", "version", "answer"),
    [
        (["ocpp1.6"], None, None, Version.V16, "ocpp1.6"),
        (["ocpp1.6, ocpp2.0.1"], None, None, Version.V201, "ocpp2.0.1"),
        (["ocpp1.6", "ocpp2.0.1"], None, None, Version.V201, "ocpp2.0.1"),
        (["ocpp1.6, ocpp2.0.1"], Version.V16, None, Version.V16, "ocpp1.6"),
        (["ocpp2.1, ocpp2.0.1"], None, None, Version.V201, "ocpp2.0.1"),
        (["ocpp2.1, ocpp2.0.1"], Version.V21, None, Version.V21, "ocpp2.1"),
        (["ocpp2.1"], None, None, Version.V21, "ocpp2.1"),
        (["ocpp2.1, ocpp1.6"], None, None, Version.V16, "ocpp1.6"),
        (["OCPP1.6"], None, None, Version.V16, "OCPP1.6"),
        (["ocpp1.6J"], None, None, Version.V16, "ocpp1.6J"),
        (['"ocpp1.6" ,'], None, None, Version.V16, "ocpp1.6"),
        (["ocpp 1.6"], None, None, Version.V16, None),
        (["ocpp2.0"], None, None, None, None),
        (["ocpp1.5"], None, Version.V16, None, None),
        (["mqtt"], None, None, None, None),
        (["ocpp1.6"], Version.V201, None, None, None),
        ([], None, None, None, None),
        ([""], None, None, None, None),
        ([], None, Version.V16, Version.V16, None),
        ([], Version.V201, Version.V16, Version.V201, None),
        ([], Version.V16, None, Version.V16, None),
    ],
)
def test_versions(
    headers: list[str], pinned: Version | None, without: Version | None, version: Version | None, answer: str | None
) -> None:
    chosen, name, trouble = choose(offered(headers), pinned, without)
    assert (chosen, name) == (version, answer)
    assert bool(trouble) is (version is None)


def test_secrets_are_not_shown() -> None:
    headers = [("Authorization", "Basic x"), ("Cookie", "y"), ("User-Agent", "charger/1" + "x" * 300)]
    assert list(shown(headers)) == ["user-agent"]
    assert len(shown(headers)["user-agent"]) == 200
