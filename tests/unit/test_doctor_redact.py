"""What leaves a site in a bundle for support: whatever secret is planted wherever, it is not in it."""

import base64
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.doctor_redact import REMOVED, Known, Redactor
from agent.doctor_site import scalars_of

SALT = bytes(32)
#: A secret as people and programs make them; not one that every text holds.
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=8, max_size=40
).filter(lambda text: text.strip() == text and len(set(text)) > 3)
PLAIN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=32).map(
    lambda text: f"Q7{text}"
)


def redactor(*secrets: str, users: tuple[str, ...] = (), tags: tuple[str, ...] = ()) -> Redactor:
    known = Known(users=set(users), tags=set(tags))
    for one in secrets:
        known.secret(one)
    return Redactor(known, SALT)


@given(SECRETS)
def test_a_known_secret_is_nowhere_however_it_is_written(secret: str) -> None:
    one = redactor(secret)
    encoded = base64.b64encode(secret.encode()).decode()
    for text in (secret, json.dumps(secret), quote(secret, safe=""), encoded, secret.encode().hex(), repr(secret)):
        for around in ("{}", "before {} behind", "x={}&y", '{{"a": "{}"}}'):
            shown = one.text(around.replace("{}", text).replace("{{", "{").replace("}}", "}"))
            assert secret not in shown
            assert text not in shown


KEYS = ["password", "mqttPassword", "api_key", "authKey", "AuthorizationKey", "token", "client_secret", "clave"]


@given(PLAIN, st.sampled_from(KEYS))
def test_an_unknown_secret_goes_for_its_key(secret: str, key: str) -> None:
    one = redactor()
    for text in (f"{key}={secret}", f"{key}: {secret},", f'"{key}":"{secret}"', f"{key} = '{secret}'"):
        assert secret not in one.text(f"it says {text} here")
    if key != "clave":
        assert secret not in one.json({"a": [{key: secret}], "b": {key: {"value": 1, "c": [secret]}}})
        assert secret not in one.json({"key": key, "value": secret})
        assert secret not in one.json({"variable": key, "value": [secret]})


@pytest.mark.parametrize(
    "text",
    [
        "mqtts://ana:{}@central.example:8883 is not reached",
        "mqtts://{}@central.example",
        "ask https://x.example/a?token={}&b=1: timed out",
        "ask https://x.example/a?sig={}",
        "Authorization: Bearer {}",
        "authorization: Basic {}=",
        "cookie: enlace_session={}; path=/",
        "sent bearer {} to it",
        "api: there is no admin yet: open https://10.0.0.2:8080 and set it up with the code {}",
        "token enl_{}",
        "eyJ{0}.{0}.{0}",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\n{}",
        "session_id={}",
        "the charger sent idTag {}",
        '{{"idToken": "{}"}}',
        "id_tag={} is not known",
        "told {}@mail.example.com",
        "user:{} switched it off",
    ],
)
@settings(max_examples=20)
@given(PLAIN)
def test_an_unknown_secret_goes_for_its_looks(text: str, secret: str) -> None:
    assert secret not in redactor().text(text.format(secret))


@given(SECRETS, PLAIN)
def test_what_an_address_holds_is_known_from_then_on(secret: str, hook: str) -> None:
    known = Known()
    known.address(f"mqtts://ana:{quote(secret, safe='')}@central.example/x?token={quote(secret, safe='')}")
    known.address(f"https://hooks.example/services/T1{hook}00000000a")
    one = Redactor(known, SALT)
    assert secret not in one.text(f"refused: {secret}")
    assert hook not in one.text(f"services/T1{hook}00000000a")


def test_people_are_the_same_word_each_time_and_another_one_in_another_bundle() -> None:
    one = redactor(users=("ana", "berta"), tags=("04A2B3C4",))
    shown = one.text("ana and Ana and berta, tag 04a2b3c4; bananas stay")
    first, second, third = re.findall(r"user-[0-9a-f]{8}", shown)
    assert first == second != third
    assert re.search(r"tag-[0-9a-f]{8}; bananas stay", shown)
    assert one.tree({"username": "ana", "note": "by ana"}) == {"username": first, "note": f"by {first}"}
    assert one.text("user:ana") == f"user:{first}"
    other = Redactor(Known(users={"ana"}), b"1" * 32)
    assert first not in other.text("ana")
    assert re.fullmatch(r"vin-[0-9a-f]{8}\.soc_pct 5", one.text("WVWZZZ1JZXW000001.soc_pct 5"))


def test_letters_of_other_alphabets_that_count_as_the_same_do_no_harm() -> None:
    shown = redactor(users=("inka",)).text("by İnka and inka")  # İ matches i, and is another one when it is folded
    assert re.fullmatch(r"by \(removed\) and user-[0-9a-f]{8}", shown)


def test_what_helps_stays() -> None:
    one = redactor("s3cr3t-mqtt")
    for text in (
        "rtu:///dev/ttyUSB1?baud=9600&parity=N",
        "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
        "open can0: this machine's kernel has no SocketCAN; load it with `modprobe can_raw`",
        'enlace_api_requests_total{method="GET",route="/api/users/{name}/tokens",status="200"} 4',
        "the basic profile is used, tokens of 3 users, exit code 3",
        "password_file: mqtt.password can't be read",
        "site depot-7 is up, version 0.1.0",
        "connect to mqtts://central.example:8883: Connection refused",
    ):
        assert one.text(text) == text


CONFIG = """\
# the password is hunter2-comment   {secret}
site: {{id: depot, name: "Depot \\"7\\""}}   # {secret}
uplink:
  broker: "mqtts://ana:{secret}@central.example:8883"
  password: {secret}
  username: ana
  more: [1, "{secret}", x]  # and here: {secret}
  token: |
    {secret}
    {secret}
  folded: >-
    {secret}
    goes on
  plain: two
    lines {secret}
{secret}: &a {{key: {secret}}}
again: *a
last: 1
"""


@given(PLAIN)
def test_a_configuration_keeps_its_lines_and_loses_its_secrets(secret: str) -> None:
    text = CONFIG.format(secret=secret)
    shown = redactor(secret).config(scalars_of(text))
    assert secret not in shown
    assert "hunter2-comment" not in shown
    assert len(shown.splitlines()) == len(text.splitlines())
    lines = shown.splitlines()
    assert lines[1].startswith('site: {id: depot, name: "Depot \\"7\\""}')
    assert lines[-1] == "last: 1"
    assert lines[4] == f'  password: "{REMOVED}"'


@given(PLAIN)
def test_a_configuration_without_known_secrets_loses_them_by_their_keys(secret: str) -> None:
    text = (
        f"a: {{password: {secret}, mqttToken: '{secret}'}}\nb: mqtt://u:{secret}@h\nc:\n  - secret: >\n      {secret}\n"
    )
    shown = redactor().config(scalars_of(text))
    assert secret not in shown
    assert len(shown.splitlines()) == len(text.splitlines())
