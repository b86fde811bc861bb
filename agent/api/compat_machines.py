"""The machine and maintenance manager's routes, for our machines and maintenance log."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from starlette.responses import JSONResponse

from agent.api.access import CallerOf
from agent.api.compat_base import X_TOTAL, Translator, our_body
from agent.api.compat_machine_bodies import (
    STATES,
    Hecho,
    Informe,
    Mantenimiento,
    MantenimientoOut,
    Maquina,
    MaquinaOut,
    Tablero,
    joined,
    theirs,
)
from agent.api.machine_bodies import MachineChange, MachineOut, MachinePage, MachineSummary, NewMachine
from agent.api.maintenance_bodies import EntryOut, EntryPage, NewEntry
from agent.api.maintenance_report import MAX_ROWS
from agent.api.paging import MAX_PAGE_SIZE, Page, PageSize

#: Our names -> theirs, for what is wrong.
_MACHINE = {
    "code": "codigo_equipo",
    "type": "tipo_equipo",
    "status": "estado_actual",
    "location": "area",
    "installed": "fecha",
}
_ENTRY = {
    "machine": "codigo_maquina",
    "date": "fecha",
    "kind": "tipo",
    "description": "observaciones",
    "technician": "tecnico",
}

CodePath = Annotated[str, Path(min_length=1, max_length=64, description="the machine's code")]
CodeQuery = Annotated[str | None, Query(min_length=1, max_length=64, description="only this machine")]
Words = Annotated[str | None, Query(max_length=200, description="words that stand in what is known of it")]
Wanted = Annotated[str, Query(min_length=1, max_length=64, description="the machine's code")]


class MachineManager(Translator):
    """Its routes."""

    async def listar(self, response: Response, page: Page = 1, page_size: PageSize = MAX_PAGE_SIZE) -> list[MaquinaOut]:
        """List machines, configured devices among them; the header `x-total-count` says how many there are in all."""
        return await self._list(response, None, page, page_size)

    async def agregar(self, body: Maquina, caller: CallerOf) -> Hecho:
        """Add a machine that has no wire to this gateway."""
        facts = {"code": body.codigo_equipo, "status": "active", **body.facts}
        wanted: NewMachine = our_body(NewMachine, facts, _MACHINE)
        made: MachineOut = await self.canonical("POST /api/machines")(wanted, caller)
        return Hecho(mensaje="Máquina guardada", codigo=made.code)

    async def buscar(
        self,
        response: Response,
        codigo: CodeQuery = None,
        q: Words = None,
        page: Page = 1,
        page_size: PageSize = MAX_PAGE_SIZE,
    ) -> list[MaquinaOut]:
        """Find machines by code (`codigo`), or by words in what is known of them (`q`)."""
        if codigo is None:
            return await self._list(response, q, page, page_size)
        machine = await self.canonical("GET /api/machines/{code}")(codigo)
        response.headers[X_TOTAL] = "1"
        return [MaquinaOut.of(machine)]

    async def actualizar(self, body: Maquina, caller: CallerOf) -> Hecho:
        """Change what is known of a machine; what is not sent stays."""
        changed: MachineOut = await self.canonical("PATCH /api/machines/{code}")(
            body.codigo_equipo, our_body(MachineChange, body.facts, _MACHINE), caller
        )
        return Hecho(mensaje="Máquina actualizada", codigo=changed.code)

    async def eliminar(self, codigo: Wanted, caller: CallerOf) -> Hecho:
        """Take out a machine without a wire; of a device, what was said of it. Its maintenance log stays."""
        await self.canonical("DELETE /api/machines/{code}")(codigo, caller)
        return Hecho(mensaje="Máquina eliminada", codigo=codigo)

    async def eliminar_codigo(self, codigo: CodePath, caller: CallerOf) -> Hecho:
        """Do the same, with the code in the path."""
        return await self.eliminar(codigo, caller)

    async def dashboard(self) -> Tablero:
        """Count machines by state and type, and the maintenance that is due."""
        found: MachineSummary = await self.canonical("GET /api/machines/summary")()
        return Tablero(
            total_maquinas=found.total,
            maquinas_por_estado={theirs(STATES, name): count for name, count in found.by_status.items()},
            maquinas_por_tipo=found.by_type,
            mantenimientos_pendientes=found.due,
            mantenimientos_vencidos=found.overdue,
        )

    async def historial(
        self, codigo: CodePath, response: Response, page: Page = 1, page_size: PageSize = MAX_PAGE_SIZE
    ) -> list[MantenimientoOut]:
        """List what was done to a machine, the latest first."""
        path = "GET /api/maintenance/history/{code}"
        return _entries(await self.canonical(path)(codigo, page=page, page_size=page_size), response)

    async def todos(
        self, response: Response, page: Page = 1, page_size: PageSize = MAX_PAGE_SIZE
    ) -> list[MantenimientoOut]:
        """List what was done to all machines, the latest first; the header `x-total-count` says how many there are."""
        return _entries(await self.canonical("GET /api/maintenance")(page=page, page_size=page_size), response)

    async def mantener(self, body: Mantenimiento, caller: CallerOf) -> Hecho:
        """Write down what was done to a machine."""
        data = {
            "machine": body.codigo_maquina,
            "date": body.fecha,
            "kind": body.tipo,
            "description": body.observaciones,
            "technician": joined(body.tecnico, body.empresa),
        }
        entry: NewEntry = our_body(NewEntry, data, _ENTRY)
        made: EntryOut = await self.canonical("POST /api/maintenance")(entry, caller, Response())
        return Hecho(mensaje="Mantenimiento guardado", codigo=made.machine)

    async def informe(self, request: Request, codigo: CodeQuery = None) -> Response:
        """Report each machine with its maintenance; who asks for `text/html` gets the page to print."""
        if "text/html" in request.headers.get("accept", "").lower():
            page: Response = await self.canonical("GET /api/maintenance/report")(codigo)
            return page
        if codigo is None:
            machines: list[MachineOut] = await _all(self.canonical("GET /api/machines"))
        else:
            machines = [await self.canonical("GET /api/machines/{code}")(codigo)]
        log: list[EntryOut] = await _all(self.canonical("GET /api/maintenance"), machine=codigo, counting=True)
        entries: dict[str, list[MantenimientoOut]] = {}
        for entry in log:
            entries.setdefault(entry.machine, []).append(MantenimientoOut.of(entry))
        found = [
            Informe(**MaquinaOut.of(one).model_dump(), mantenimientos=entries.get(one.code, [])) for one in machines
        ]
        return JSONResponse([one.model_dump() for one in found], headers={X_TOTAL: str(len(found))})

    async def _list(self, response: Response, words: str | None, page: int, page_size: int) -> list[MaquinaOut]:
        found: MachinePage = await self.canonical("GET /api/machines")(q=words, page=page, page_size=page_size)
        response.headers[X_TOTAL] = str(found.total)
        return [MaquinaOut.of(one) for one in found.items]


def _entries(found: EntryPage, response: Response) -> list[MantenimientoOut]:
    response.headers[X_TOTAL] = str(found.total)
    return [MantenimientoOut.of(one) for one in found.items]


async def _all(handler: Callable[..., Any], **asked: object) -> list[Any]:
    """What one of our lists holds, page by page: the first ``MAX_ROWS``."""
    found: list[Any] = []
    for page in range(1, MAX_ROWS // MAX_PAGE_SIZE + 1):
        one = await handler(**asked, page=page, page_size=MAX_PAGE_SIZE)
        found += one.items
        if len(found) >= one.total:
            break
    return found
