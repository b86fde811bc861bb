"""Writes ``docs/ocpp.md``: how chargers on OCPP are connected, used and described; ``make docs``.

What it says of configuration keys, actions and models comes from the code; a test holds the two together.
"""

from collections.abc import Mapping
from pathlib import Path

from agent import ocpp_profiles
from agent.core.ports import Action
from agent.share import share_path
from docs.reference import table
from drivers.ocpp.operations16 import OPERATIONS as OPERATIONS_16
from drivers.ocpp.operations201 import OPERATIONS as OPERATIONS_201

PAGE = Path(__file__).with_name("ocpp.md")

HEAD = """\
# Chargers on OCPP

Enlace is the local central system (CSMS) of the site's chargers: OCPP 1.6J and 2.0.1, and 2.1 where a charger offers
nothing else. This page is written by `make docs`.

## Connect a charger

1. Give the charger the address `ws://GATEWAY:9000/ocpp/` (or `wss://`, see below) and an id, such as `CP-0001`. Most
   chargers append the id themselves.
2. It calls, is kept waiting, and shows up: on the page, in `GET /api/chargers/pending`, and, while the gateway does not
   run, in `enlace scan ocpp`. Nothing that it sends is taken for a session, nothing is lost: it keeps its messages.
3. Adopt it: a button on the page, `POST /api/devices` with
   `{"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-0001"}`, or the same entry in the site's file and
   `POST /api/chargers/CP-0001/adopt`. Look at its address, maker and model first: whoever waits under that id is it
   from then on. A password of 16 bytes or more that it presented is its password from now on; otherwise it is given
   one over its connection; where it does not take that, one is shown to be entered at the charger, once.
4. Its first order, before it is used: a charging profile that holds each outlet to `safe_limit_a` whenever nobody says
   otherwise, also when the gateway is gone. A charger that refuses it is used all the same, and `charger.no_failsafe`
   is told.

A charger may also have its password in a file (`password_file:`); then that is the only one.

## Who may charge

Unknown id tags are refused (`ocpp: {id_tags: known}`); `any` lets everybody charge. Tags are added with
`PUT /api/id-tags {"tag": "04A2B3C4D5E6F7", "label": "Van 3"}`, blocked with `"status": "Blocked"`, limited with
`"until"`, and grouped with `"parent"`. Outside of the store a tag is shown as a hash, the same for the same tag.
A known tag charges at one outlet of the site at a time: a second session with it is refused (`ConcurrentTx`). A session
that `start` begins is let in whatever its tag, but for a blocked one.
Chargers that have a local list are given these tags, so that the right people can charge while the gateway is away.

## Sessions

`GET /api/sessions` lists them, `/api/sessions.csv` exports them. A session's energy comes from the charger's register
at its begin and end; what was corrected (a register that began anew, a begin that was never told) stands with it. The
answer to a transaction's begin and end leaves only after it is on disk, and one that is sent again is the same session.

A session whose end got lost is given up: when its outlet has said `Available` for 5 min and nothing more is heard of
it; at an outlet that the configuration does not have (`connectors:` is too low), an hour after it was last heard of.
What the charger tells of it later still puts it right. Those of a charger that is taken out of the site end at once.

## Security profiles

| `security_profile` | the charger proves itself by | the line |
|---|---|---|
| 0 | nothing: closed networks only | plain |
| 1 (default) | password | plain |
| 2 | password | TLS |
| 3 | certificate, its common name is the id | TLS |

A port has one profile, and nothing that a charger sends lowers it; `security_profile: 0` of one device lets that one in
without a password on a port of profile 1. Without `certificates:` the gateway makes an authority of its own and a
server certificate with an ECDSA and one with an RSA key, in `ocpp-tls` of its `data_dir`; chargers are given
`authority.pem` from there. On ports of profile 2 and 3 it also signs the certificates that chargers ask for, for 397
days; a charger is not reminded to ask again (`trigger` with `SignChargePointCertificate` does that). To move a site to
profile 3: let the chargers get their certificates on profile 2, then change the port. Nothing that the gateway sends by
itself, and no action but `raw`, lowers a charger's profile.

## Switch and limit

A charger is a station: `cp1`; of one with several outlets `cp1.2` is the second. `PATCH /api/stations/cp1` with
`{"status": "off"}` or `{"limit_a": 10}`, or a schedule, says what is wanted; the strongest wish wins, and
`GET /api/stations/cp1/why` tells which and why. A limit is a charging profile that ends by itself after 300 s and is
repeated every 100 s. Off is 0 A, and the vehicle waits; with `off: stop` its session is ended. Whether the power
follows is watched: after 30 s `station.not_following` is told. A station that was switched stays so for at least 60 s,
and is switched at most 6 times an hour; what protects does not wait.

"""

ACTIONS = """\
## Tell a charger to do something

`POST /api/stations/cp1/commands {"action": "reset", "args": {"kind": "soft"}}`, or `do:` of a schedule.
`GET /api/devices/cp1/actions` has the arguments' JSON schemas. `raw` takes any other message of the charger's version:
`{"message": "GetLog", "payload": {…}}`.

| action | versions | what it does | arguments |
|---|---|---|---|
"""

MODELS = """\
## Models that leave the standard

A file of `config/profiles/ocpp` says where a model leaves the standard, each with its source. It is found by what the
charger says of itself, or named by the device (`profile:`). Your own files lie in a folder `profiles/ocpp` beside the
site's configuration.

| profile | maker | model | known by |
|---|---|---|---|
"""


def render() -> str:
    """The page, as it must stand in ``docs/ocpp.md``."""
    known = [(name, "1.6", one.action()) for name, one in OPERATIONS_16.items()]
    known += [(name, "2.0.1", one.action()) for name, one in OPERATIONS_201.items()]
    rows: dict[str, tuple[list[str], Action]] = {}
    for name, version, action in known:
        rows.setdefault(name, ([], action))[0].append(version)
    actions = [
        f"| `{name}` | {', '.join(versions)} | {action.doc} | {_arguments(action)} |"
        for name, (versions, action) in sorted(rows.items())
    ]
    models = [_model(path) for path in sorted(share_path("config/profiles/ocpp").glob("*.yaml"))]
    keys = [
        table("The file", ocpp_profiles.OcppProfileFile.__doc__ or "", ocpp_profiles.OcppProfileFile),
        table("`match:`", ocpp_profiles.MatchRow.__doc__ or "", ocpp_profiles.MatchRow),
    ]
    parts = [HEAD + ACTIONS + "\n".join(actions) + "\n", MODELS + "\n".join(models) + "\n"]
    return "\n".join([*parts, *(key.replace("## ", "### ", 1) for key in keys)])


def _arguments(action: Action) -> str:
    properties = action.args.get("properties")
    required = action.args.get("required")
    if not isinstance(properties, Mapping):
        return ""
    musts = required if isinstance(required, list | tuple) else ()
    return ", ".join(f"`{name}`{'' if name in musts else '?'}" for name in properties)


def _model(path: Path) -> str:
    file = ocpp_profiles.read_ocpp_profile(path)
    match = file.match or ocpp_profiles.MatchRow()
    told = (("vendor", match.vendor), ("model", match.model), ("firmware", match.firmware))
    words = " ".join(f"{name} `{text}`" for name, text in told if text).replace("|", "&#124;")
    return f"| `{file.name}` | {file.maker} | {file.model} | {words or 'its name only'} |"


if __name__ == "__main__":
    PAGE.write_text(render())
