"""What may leave a site in a bundle for support: no secrets, and nobody's name. Pure.

Rules of this file:

1. A value goes because it is known (what the secret files hold, ``Known``), for its key (``tree``), or for how it looks
   (``text``); in doubt it goes. What goes leaves ``REMOVED`` in its place.
2. Who somebody is (user names, id tags, e-mail addresses, VINs) becomes a keyed hash of which the key is thrown away:
   the same person is the same word within one bundle, and nothing outside of it.
3. Lines keep their numbers: findings name them.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REMOVED = "(removed)"
#: A known secret that is shorter stands in too many words.
_SHORTEST = 3
_HASH_DIGITS = 8

#: Keys whose value is a secret. ``…_file`` names where one stands, and is none.
_SECRET_KEY = re.compile(
    r"passw|passphrase|contrase|clave|secret|token|credential|cookie|authorization|bearer|api[_-]?key|private"
    r"|(^|[_.-])(key|pin|puk|psk|salt|code|otp)$|(auth|encryption|access|shared|master|community|security)[_-]?key",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"_file$", re.IGNORECASE)
#: Keys whose value says who somebody is.
_PERSON_KEY = re.compile(
    r"(^|_)(user|username|user_name|login|email|e_mail|mail|phone|owner|technician|operator|person)$"
    r"|id_?tag$|id_?token$|^(parent_id_?tag|tag|vin)$",
    re.IGNORECASE,
)
#: Names of what is set, beside which ``value`` is what it is set to (OCPP's configuration keys and variables).
_NAMES = ("key", "variable", "name")

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_USERINFO = re.compile(r"(?<=://)[^\s\"'<>]*@")
_QUERY = re.compile(r"([?&])([\w.~-]+)=([^\s&\"'<>#]*)")
#: Of the addresses that our drivers take.
_OPEN_QUERY = frozenset({"baud", "parity", "stopbits", "bytesize", "level", "limit", "page", "page_size"})
_AUTHORIZATION = re.compile(r"(authorization\W{1,4}|set-cookie\W{1,4}|cookie\W{1,4}(?=\S+=))[^\n]*", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer)\s+[\w.~+/=-]+", re.IGNORECASE)
_BASIC = re.compile(r"\b([Bb]asic)\s+(?=\S*[0-9A-Z=])[A-Za-z0-9+/=]{6,}")
_PAIR = re.compile(
    r"((?:passw(?:or)?d|passphrase|passwort|contraseña|clave|secret|token|api[_-]?key|private[_-]?key"
    r"|auth(?:orization)?[_-]?key|credentials?|cookie|session[_-]?id|\bpin|\bpsk)[\"']?\s*[:=]\s*)"
    r"(\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s,;}\]]+)",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"\benl_[\w-]+|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?|\benlace_[a-z]+=[^\s;]+")
_SET_UP_CODE = re.compile(r"(\bset it up with the code )\S+")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_USER = re.compile(r"\buser:([\w.@+-]+)")
_TAG = re.compile(r"\b((?:parent_?)?id_?(?:tag|token)[\"']?\s*[:= ]\s*[\"']?)([\w.:-]+)", re.IGNORECASE)
_WORD = re.compile(r"\w+")
#: ISO 3779: 17 of these, with digits and letters among them.
_VIN = re.compile(r"\b(?=[A-Z]*[0-9])(?=[0-9]*[A-Z])[A-HJ-NPR-Z0-9]{17}\b")


def _without_value(found: re.Match[str]) -> str:
    return found[0] if found[2] in _OPEN_QUERY else f"{found[1]}{found[2]}={REMOVED}"


#: What goes for its looks: a word without which it is not there, what it looks like, and what stands there instead.
_PLAIN: Sequence[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]] = (
    ("private key", _PEM, lambda found: REMOVED + "\n" * found[0].count("\n")),
    ("@", _USERINFO, f"{REMOVED}@"),
    ("=", _QUERY, _without_value),
    ("authorization", _AUTHORIZATION, rf"\1{REMOVED}"),
    ("cookie", _AUTHORIZATION, rf"\1{REMOVED}"),
    ("bearer", _BEARER, rf"\1 {REMOVED}"),
    ("basic", _BASIC, rf"\1 {REMOVED}"),
    ("", _PAIR, rf"\1{REMOVED}"),
    ("e", _TOKENS, REMOVED),
    ("set it up", _SET_UP_CODE, rf"\1{REMOVED}"),
)


@dataclass
class Known:
    """What is known of a site's secrets and people: collected first, then nothing of it gets out."""

    secrets: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)

    def secret(self, text: str) -> None:
        """This is one, whole and line by line."""
        for one in (text, *text.splitlines()):
            if len(plain := one.strip()) >= _SHORTEST:
                self.secrets.add(plain)

    def address(self, text: str) -> None:
        """An address may hold secrets: its user, password, query and what looks like a token in its path."""
        head, at, _ = text.partition("://")[2].rpartition("@")
        if at:
            name, _, password = head.partition(":")
            for one in (head, name, password):
                self.secret(one)
                self.secret(unquote(one))
        try:
            parts = urlsplit(text)
        except ValueError:
            return
        for key, value in parse_qsl(parts.query):
            if key not in _OPEN_QUERY:
                self.secret(value)
        for one in parts.path.split("/"):
            if looks_random(one):
                self.secret(one)

    def document(self, value: object, key: str = "") -> None:
        """What stands in a configuration that should not: under the keys of secrets, and in addresses."""
        if isinstance(value, Mapping):
            for name, one in value.items():
                self.document(one, str(name))
        elif isinstance(value, list | tuple):
            for one in value:
                self.document(one, key)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            if is_secret(key):
                self.secret(str(value))
            elif isinstance(value, str) and "://" in value:
                self.address(value)


class Redactor:
    """Takes out what is known and what looks like it. ``salt``: of this bundle alone."""

    def __init__(self, known: Known, salt: bytes) -> None:
        self._salt = salt
        words = {spelling for one in known.secrets for spelling in _spellings(one)}
        self._secrets = _any_of(words)
        self._folded = {one.casefold() for one in words}
        people = {one: self.person("user", one) for one in known.users if len(one) >= _SHORTEST}
        people |= {one: self.person("tag", one) for one in known.tags if len(one) > _SHORTEST}
        self._people = {one.casefold(): word for one, word in people.items()}
        self._names = _any_of(people, r"(?<!\w)", r"(?!\w)")
        #: Of each name what stands before its first sign that is no letter: a text without any of them names nobody.
        self._heads = {word[0] for one in people if (word := _WORD.search(one.casefold()))}

    def person(self, kind: str, name: str) -> str:
        """What is told of somebody: ``user-1f2e3d4c``."""
        digest = hmac.new(self._salt, f"{kind}:{name.casefold()}".encode(), hashlib.sha256).hexdigest()
        return f"{kind}-{digest[:_HASH_DIGITS]}"

    def known(self, text: str) -> str:
        """Without what is known."""
        folded = text.casefold()
        if self._secrets is not None and any(one in folded for one in self._folded):
            text = self._secrets.sub(REMOVED, text)
        return "".join(map(self._without_names, text.splitlines(keepends=True)))

    def _without_names(self, line: str) -> str:
        # Thousands of id tags in one expression take a millisecond for each line: first, is there any?
        if self._names is None or self._heads.isdisjoint(_WORD.findall(line.casefold())):
            return line
        return self._names.sub(lambda found: self._people.get(found[0].casefold(), REMOVED), line)

    def text(self, text: str) -> str:
        """Free text: without what is known, or looks like a secret or a person."""
        text = self.known(text)
        folded = text.casefold()
        for needle, pattern, instead in _PLAIN:
            if needle in folded:
                text = pattern.sub(instead, text)
        if "@" in text:
            text = _MAIL.sub(lambda found: self.person("mail", found[0]), text)
        if "user:" in text:
            text = _USER.sub(lambda found: "user:" + self._once("user", found[1]), text)
        if "id" in folded:
            text = _TAG.sub(lambda found: found[1] + self._once("tag", found[2]), text)
        return _VIN.sub(lambda found: self.person("vin", found[0]), text)

    def tree(self, value: object, key: str = "") -> object:
        """JSON-able data, each value by its key and its looks."""
        if value is None or value == "" or isinstance(value, bool):
            return value
        if is_secret(key):
            return REMOVED
        if isinstance(value, Mapping):
            named = any(is_secret(str(value.get(name, ""))) for name in _NAMES) and "value" in value
            return {
                self.text(str(name)): REMOVED
                if named and name == "value"
                else self.tree(one, "" if "value" in value and name in _NAMES else str(name))
                for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.tree(one, key) for one in value]
        if _PERSON_KEY.search(key):
            return self._person_of(key, str(value))
        return self.text(value) if isinstance(value, str) else value

    def json(self, value: object) -> str:
        """The same as JSON text."""
        return self.known(json.dumps(self.tree(value), ensure_ascii=False, indent=1, default=str)) + "\n"

    def config(self, found: "ConfigText") -> str:
        """A configuration: its values redacted by their keys, its comments taken out, its lines where they were."""
        parts: list[str] = []
        end = 0
        for one in sorted(found.scalars, key=lambda scalar: scalar.start):
            parts += [
                _without_comments(found.text[end : one.start]),
                self._scalar(one, found.text[one.start : one.end]),
            ]
            end = one.end
        return self.known("".join([*parts, _without_comments(found.text[end:])]))

    def _scalar(self, one: "Scalar", written: str) -> str:
        wanted = one.value if one.is_key else self.tree(one.value, one.key)
        if wanted == one.value and not one.is_block:
            return self.known(written)
        tail = written[len(written.rstrip()) :] if one.is_block else ""
        inside = written.rstrip() if one.is_block else written
        return json.dumps(wanted, ensure_ascii=False) + "\n" * inside.count("\n") + tail

    def _person_of(self, key: str, value: str) -> str:
        kind = "vin" if key.casefold() == "vin" else "tag" if "id" in key.casefold() or key == "tag" else "user"
        return self._once(kind, value)

    def _once(self, kind: str, value: str) -> str:
        """Hashed, unless it was before: it may have been known."""
        if re.fullmatch(r"(user|tag|vin|mail)-[0-9a-f]{8}", value) or value == REMOVED:
            return value
        return self.person(kind, value)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value or key of a YAML text: where it stands, what it says, and under which key."""

    start: int
    end: int
    value: str
    key: str
    is_key: bool = False
    is_block: bool = False  #: written over several lines behind ``|`` or ``>``


@dataclass(frozen=True, slots=True)
class ConfigText:
    """A configuration as it is written, and the keys and values in it."""

    text: str
    scalars: Sequence[Scalar]


def is_secret(key: str) -> bool:
    """Whether what stands under that key is a secret."""
    return bool(_SECRET_KEY.search(key)) and not _NO_SECRET.search(key)


def looks_random(text: str) -> bool:
    """Whether a part of a path is rather a token than a word."""
    return len(text) > 15 and bool(re.search(r"\d", text)) and bool(re.search(r"[A-Za-z]", text))  # noqa: PLR2004 - long


def _without_comments(gap: str) -> str:
    """What stands between values: punctuation, blanks, and comments, of which only the sign stays."""
    return re.sub(r"#[^\n]*", "#", gap)


def _spellings(secret: str) -> Iterator[str]:
    """How it may be written: as it is, in JSON, in an address, in base64, in hex."""
    data = secret.encode(errors="surrogatepass")
    yield secret
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(data, safe="")
    yield quote(data)
    yield base64.b64encode(data).decode()
    yield data.hex()


def _any_of(words: Iterable[str], before: str = "", after: str = "") -> re.Pattern[str] | None:
    """Any of these words, the longest first."""
    found = sorted({one for one in words if one}, key=lambda word: (-len(word), word))
    return re.compile(before + "(?:" + "|".join(map(re.escape, found)) + ")" + after, re.IGNORECASE) if found else None
