"""The machine and maintenance manager's routes: its names and words for our machines and maintenance log.

Rules of this file:

1. Its words are Spanish; what people write is kept as it is. A word for a state or a kind that nobody knows is refused
   with those that are known.
2. The maintenance company has no field of its own: it stands in brackets after the technician.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import HTTPException, Path, Query, Request, Response
from pydantic import ConfigDict, Field, StringConstraints, field_validator
from starlette.responses import JSONResponse

from agent.api.access import CallerOf
from agent.api.compat_base import X_TOTAL, FormerBody, Translator, our_body
from agent.api.machine_bodies import Code, MachineChange, MachineOut, MachinePage, MachineSummary, NewMachine, TypeName
from agent.api.maintenance_bodies import EntryOut, EntryPage, Long, Moment, NewEntry, moment_us
from agent.api.models import Model
from agent.api.paging import MAX_PAGE_SIZE, Page, PageSize

#: The word that is answered comes first.
STATES: Mapping[str, tuple[str, ...]] = {
    "active": ("operativa", "operativo", "activa", "activo", "active"),
    "inactive": ("fuera de servicio", "inactiva", "inactivo", "inactive"),
    "maintenance": ("mantenimiento", "en mantenimiento", "maintenance"),
    "retired": ("baja", "dada de baja", "dado de baja", "retirada", "retired"),
}
KINDS: Mapping[str, tuple[str, ...]] = {
    "preventive": ("preventivo", "preventiva", "preventive"),
    "corrective": ("correctivo", "correctiva", "corrective"),
    "inspection": ("inspección", "inspeccion", "inspection"),
    "calibration": ("calibración", "calibracion", "calibration"),
    "other": ("otro", "otra", "other"),
}
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
_BOTH = re.compile(r"(?P<technician>.*) \((?P<company>[^()]*)\)", re.DOTALL)

Person = Annotated[str, StringConstraints(max_length=98)]
CodePath = Annotated[str, Path(min_length=1, max_length=64, description="the machine's code")]
CodeQuery = Annotated[str | None, Query(min_length=1, max_length=64, description="only this machine")]
Words = Annotated[str | None, Query(max_length=200, description="words that stand in what is known of it")]
Wanted = Annotated[str, Query(min_length=1, max_length=64, description="the machine's code")]


def ours(words: Mapping[str, tuple[str, ...]], word: str) -> str:
    """Our word for one of theirs; the case of its letters does not count. Raises ``ValueError``."""
    for name, known in words.items():
        if word.strip().casefold() in known:
            return name
    raise ValueError(f"must be one of {', '.join(known[0] for known in words.values())}")


def theirs(words: Mapping[str, tuple[str, ...]], name: str) -> str:
    """Their word for one of ours."""
    return words[name][0]


def joined(technician: str, company: str) -> str:
    """Both in one text; brackets in the name of a company become square ones."""
    if not company:
        return technician
    return f"{technician} ({company.replace('(', '[').replace(')', ']')})"


def parted(text: str) -> tuple[str, str]:
    """Technician and company of such a text."""
    found = _BOTH.fullmatch(text)
    return (found["technician"], found["company"]) if found else (text, "")


class Maquina(FormerBody):
    """A machine, to add or to change."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "codigo_equipo": "T1",
                    "tipo_equipo": "transformador",
                    "estado_actual": "operativa",
                    "area": "Patio",
                    "fecha": "2019-03-01",
                }
            ]
        }
    )

    codigo_equipo: Code
    tipo_equipo: TypeName
    estado_actual: str = Field("operativa", description="operativa, fuera de servicio, mantenimiento or baja")
    area: Annotated[str, StringConstraints(max_length=200)] = ""
    fecha: Annotated[str, StringConstraints(max_length=10)] | None = Field(None, description="ISO 8601 date")

    @field_validator("estado_actual")
    @classmethod
    def _known(cls, value: str) -> str:
        return ours(STATES, value)

    @property
    def facts(self) -> dict[str, object]:
        """As our body has them; what is not sent stays as it is."""
        found: dict[str, object] = {"type": self.tipo_equipo}
        if "estado_actual" in self.model_fields_set:
            found["status"] = self.estado_actual
        if "area" in self.model_fields_set:
            found["location"] = self.area
        if self.fecha:
            found["installed"] = self.fecha
        return found


class MaquinaOut(Model):
    """A machine."""

    codigo_equipo: str
    tipo_equipo: str
    estado_actual: str
    area: str
    fecha: str | None = Field(description="when it was installed")

    @classmethod
    def of(cls, machine: MachineOut) -> "MaquinaOut":
        """In its names and words."""
        return cls(
            codigo_equipo=machine.code,
            tipo_equipo=machine.type,
            estado_actual=theirs(STATES, machine.status),
            area=machine.location,
            fecha=machine.installed,
        )


class Hecho(Model):
    """What was done."""

    mensaje: str
    codigo: str = Field(description="the machine's code")


class Tablero(Model):
    """The machines as a dashboard shows them."""

    total_maquinas: int
    maquinas_por_estado: dict[str, int]
    maquinas_por_tipo: dict[str, int]
    mantenimientos_pendientes: int = Field(description="that are due soon")
    mantenimientos_vencidos: int = Field(description="that are overdue")


class Mantenimiento(FormerBody):
    """What was done to a machine."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "codigo_maquina": "T1",
                    "empresa": "Servicios SA",
                    "tecnico": "Luis",
                    "tipo": "preventivo",
                    "fecha": "2026-11-20",
                    "observaciones": "Aceite cambiado",
                }
            ]
        }
    )

    codigo_maquina: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    empresa: Person = ""
    tecnico: Person = ""
    tipo: str = Field(description="preventivo, correctivo, inspección, calibración or otro")
    fecha: Moment | None = Field(None, description="a date (UTC), or a time with its offset; absent: now")
    observaciones: Long = ""

    @field_validator("tipo")
    @classmethod
    def _known(cls, value: str) -> str:
        return ours(KINDS, value)

    @field_validator("fecha")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            moment_us(value)
        return value


class MantenimientoOut(Model):
    """An entry of the maintenance log."""

    id: int
    codigo_maquina: str
    empresa: str
    tecnico: str
    tipo: str
    fecha: str
    observaciones: str
    usuario: str = Field(description="who wrote it down")

    @classmethod
    def of(cls, entry: EntryOut) -> "MantenimientoOut":
        """In its names and words."""
        technician, company = parted(entry.technician)
        return cls(
            id=entry.id,
            codigo_maquina=entry.machine,
            empresa=company,
            tecnico=technician,
            tipo=theirs(KINDS, entry.kind),
            fecha=entry.date,
            observaciones=entry.description,
            usuario=entry.created_by.removeprefix("user:"),
        )


class Informe(MaquinaOut):
    """A machine with what was done to it, the latest first."""

    mantenimientos: list[MantenimientoOut]


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
        """Report each machine with its last maintenance; who asks for `text/html` gets the page to print."""
        if "text/html" in request.headers.get("accept", "").lower():
            page: Response = await self.canonical("GET /api/maintenance/report")(codigo)
            return page
        machines: MachinePage = await self.canonical("GET /api/machines")(page_size=MAX_PAGE_SIZE)
        log: EntryPage = await self.canonical("GET /api/maintenance")(
            machine=codigo, counting=True, page_size=MAX_PAGE_SIZE
        )
        entries: dict[str, list[MantenimientoOut]] = {}
        for entry in log.items:
            entries.setdefault(entry.machine, []).append(MantenimientoOut.of(entry))
        found = [
            Informe(**MaquinaOut.of(one).model_dump(), mantenimientos=entries.get(one.code, []))
            for one in machines.items
            if codigo in {None, one.code}
        ]
        if codigo is not None and not found:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no machine {codigo!r}: /api/machines lists them")
        return JSONResponse([one.model_dump() for one in found], headers={X_TOTAL: str(len(found))})

    async def _list(self, response: Response, words: str | None, page: int, page_size: int) -> list[MaquinaOut]:
        found: MachinePage = await self.canonical("GET /api/machines")(q=words, page=page, page_size=page_size)
        response.headers[X_TOTAL] = str(found.total)
        return [MaquinaOut.of(one) for one in found.items]


def _entries(found: EntryPage, response: Response) -> list[MantenimientoOut]:
    response.headers[X_TOTAL] = str(found.total)
    return [MantenimientoOut.of(one) for one in found.items]
