"""What the machine and maintenance manager's routes are sent and answer: its names and words.

Rules of this file:

1. Its words are Spanish; what people write is kept as it is. A word for a state or a kind that nobody knows is refused
   with those that are known.
2. The maintenance company has no field of its own: it stands in brackets after the technician.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from agent.api.compat_base import FormerBody
from agent.api.machine_bodies import Code, MachineOut, TypeName
from agent.api.maintenance_bodies import EntryOut, Long, Moment, moment_us
from agent.api.models import Model

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
_BOTH = re.compile(r"(?P<technician>.*) \((?P<company>[^()]*)\)", re.DOTALL)

Person = Annotated[str, StringConstraints(max_length=98)]


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
    """Both in one text; brackets in the name of a company become square ones.

    Empty brackets stand for no company where the technician's own would be taken for one.
    """
    if not company:
        return f"{technician} ()" if _BOTH.fullmatch(technician) else technician
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
