"""The maintenance plans of a site: those that come ready-made, as they hold here, and its own. Each is a note."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Event
from agent.core.ports import Notebook
from agent.insight.maintenance_model import MAX_PLANS, NOTE, READY_MADE, Plan, plan_data, read_plan

_ID_BYTES = 6


@dataclass(slots=True)
class PlanBook:
    """All plans. ``changed`` is called after each change; all that writes raises ``StoreError``."""

    clock: Clock
    notebook: Notebook
    changed: Callable[[], None]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def all(self) -> list[Plan]:
        """The ready-made ones as they hold here, then the site's own by name."""
        written = {key: plan for key, data in self.notebook.notes(NOTE).items() if (plan := read_plan(key, data))}
        ready = [written.get(one.id, one) for one in READY_MADE.values()]
        own = [one for one in written.values() if not one.ready_made]
        return ready + sorted(own, key=lambda one: (one.name.casefold(), one.id))

    def find(self, plan_id: str) -> Plan | None:
        """One of them."""
        return next((one for one in self.all() if one.id == plan_id), None)

    async def add(self, plan: Plan, who: str) -> Plan:
        """Make a plan; its id is given here. Raises ``CommandRejected``."""
        op = "make a maintenance plan"
        async with self._turn:
            if len(self.notebook.notes(NOTE)) >= MAX_PLANS:
                raise CommandRejected(op, Refusal.DUPLICATE, f"there are {MAX_PLANS} plans already")
            made = replace(plan, id=secrets.token_hex(_ID_BYTES), changed_us=self.clock.now_us(), ready_made=False)
            await self._write("maintenance.plan_created", made, None, who)
        return made

    async def change(self, plan_id: str, edit: Callable[[Plan], Plan], who: str) -> Plan:
        """Give a plan other intervals, or switch it off. Raises ``CommandRejected`` (``not_capable``: no such)."""
        async with self._turn:
            old = self._known(plan_id)
            new = replace(edit(old), id=old.id, ready_made=old.ready_made, changed_us=old.changed_us)
            if new != old:
                new = replace(new, changed_us=self.clock.now_us())
                await self._write("maintenance.plan_changed", new, old, who)
        return new

    async def remove(self, plan_id: str, who: str) -> None:
        """Delete a plan; a ready-made one becomes again what it was. Raises as ``change`` does."""
        async with self._turn:
            old = self._known(plan_id)
            if self.notebook.note(NOTE, plan_id) is None:
                return
            told = {"by": who, "old": plan_data(old), "new": None}
            event = Event("maintenance.plan_removed", self.clock.now_us(), plan_id, told)
            await self.notebook.write(NOTE, plan_id, None, [event])
        self.changed()

    async def _write(self, kind: str, new: Plan, old: Plan | None, who: str) -> None:
        told = {"by": who, "old": None if old is None else plan_data(old), "new": plan_data(new)}
        await self.notebook.write(NOTE, new.id, plan_data(new), [Event(kind, self.clock.now_us(), new.id, told)])
        self.changed()

    def _known(self, plan_id: str) -> Plan:
        plan = self.find(plan_id)
        if plan is None:
            raise CommandRejected(f"maintenance plan {plan_id}", Refusal.NOT_CAPABLE, "there is no such plan")
        return plan
