"""Machines and maintenance of a real gateway: a charger that says what it is, an entry that outlives `kill -9`."""

import asyncio
import os
import signal
from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.core.clock import FakeClock, SystemClock
from agent.core.model import Batch, Event, Kind, SignalSpec
from agent.insight.counters import Counters
from agent.insight.machines import Facts, MachineBook
from agent.insight.maintenance import Maintenance
from agent.insight.maintenance_model import Interval, Plan
from agent.insight.periods import DAY_US, HOUR_US
from agent.store.audit import verify
from agent.store.db import Store
from agent.store.maintenance import Asked, Entry
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings
from tests.e2e.site import PATIENCE_S, answers, process, send, token, wait_until
from tests.ports import free_port

WAIT_S = 60.0
START = 1_767_571_200_000_000  # 2026-01-05, a Monday
SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, security_profile: 0, id_tags: any}}
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: CP-0001, safe_limit_a: 16, name: North}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:1"}}
alarm_sets: []
"""


def maintenance(store: Store, clock: FakeClock) -> Maintenance:
    machines = MachineBook(clock, store, lambda: {"cp1": Facts(type="charger")})
    return Maintenance(clock, store, machines, store.maintenance, Counters(store, store.maintenance))


def test_what_is_due_over_the_real_store_and_after_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "enlace.db", FakeClock(START)

    async def first(store: Store) -> None:
        one = maintenance(store, clock)
        register = store.assign([SignalSpec("cp1", "energy_import_wh", "Wh", Kind.COUNTER, scale=10)])[0]
        for hour in range(48):
            columns = array("i", [register.id]), array("q", [START + hour * HOUR_US]), array("q", [hour * 100])
            store.append(Batch(*columns))
        clock.advance(2 * 86400)
        for day, on in enumerate((False, True, False, True)):
            store.record(Event("station.decided", START + day, "cp1", {"on": on, "result": "done"}))
        store.flush().result(WAIT_S)
        interval = Interval("energy_wh", 24_000, 5000)
        await one.plans.add(Plan("", "Filter", "preventive", (interval,), machine="cp1"), "user:ana")
        entry, _ = await one.add(Entry("cp1", START + DAY_US, "preventive", key="k"), "user:ana")
        assert entry.counters == {"energy_wh": 23_000, "switches": 2}
        await one.look()

    async def second(store: Store) -> None:
        one = maintenance(store, clock)
        (due,) = [found for found in await one.due() if found.plan.name == "Filter"]
        assert (due.counted[0].used, due.state) == (24_000, "overdue")
        await one.look()
        _, again = await one.add(Entry("cp1", START, "preventive", key="k"), "user:ana")
        assert not again
        assert one.log.page(Asked("cp1"), 10, 0)[0] == 1
        kinds = [stored.event.kind for stored in store.events(0, 100, "maintenance.")]
        assert sorted(kinds) == ["maintenance.logged", "maintenance.overdue", "maintenance.plan_created"]

    with closing(Store.open(path, clock)) as store:
        asyncio.run(first(store))
    with closing(Store.open(path, clock)) as store:
        store.maintain().result(WAIT_S)
        asyncio.run(second(store))
    assert verify(path).ok


def test_a_charger_says_what_it_is_and_an_entry_outlives_a_kill(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("api", "ocpp")}
    log, url = tmp_path / "run.log", f"http://127.0.0.1:{ports['api']}"
    (tmp_path / "site.yaml").write_text(SITE.format(folder=tmp_path, **ports))
    run = ("agent", "run", "--config", str(tmp_path / "site.yaml"))

    def machines() -> dict[str, dict[str, Any]]:
        return {one["code"]: one for one in send("GET", f"{url}/api/machines")["items"]}

    async def boot() -> None:
        settings = SimSettings(f"ws://127.0.0.1:{ports['ocpp']}/ocpp/CP-0001", "1.6", pace=0, backoff_s=(0.2, 1.0))
        async with SimulatedCharger(settings, SystemClock()), asyncio.timeout(PATIENCE_S):
            while not (await asyncio.to_thread(machines))["cp1"]["model"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    with process(*run, log=log) as child:
        wait_until(lambda: answers(f"{url}/api/system/health"), "the gateway answers")
        token(url, log)
        asyncio.run(boot())
        found = machines()
        assert (found["cp1"]["name"], found["cp1"]["type"], found["cp1"]["device"]) == ("North", "charger", True)
        assert (found["cp2"]["maker"], found["cp2"]["type"]) == ("ABB", "charger")
        send("POST", f"{url}/api/machines", {"code": "T1", "type": "transformer", "installed": "2019-03-01"})
        body = {"machine": "T1", "kind": "inspection", "description": "Oil is low", "key": "job-1"}
        entry = send("POST", f"{url}/api/maintenance", body)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with process(*run, log=log):
        wait_until(lambda: answers(f"{url}/api/system/health"), "the gateway answers again")
        token(url, log)
        assert send("POST", f"{url}/api/maintenance", body) == entry, "sent again, it is the same one"
        assert send("GET", f"{url}/api/maintenance")["total"] == 1
        assert machines()["T1"]["installed"] == "2019-03-01"
        told = send("GET", f"{url}/api/audit?kind=maintenance.")["items"]
        assert [one["kind"] for one in told] == ["maintenance.logged"]
    assert "Traceback" not in log.read_text()
