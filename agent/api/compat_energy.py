"""The energy-consumption backend's routes: its names for posted consumption and recommendations."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import HTTPException, Request
from pydantic import ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from agent.api import problems
from agent.api.access import CallerOf
from agent.api.compat_base import FormerBody, Translator
from agent.api.energy_bodies import EnergyPosting, RecommendationOut, RecommendationPage
from agent.api.models import Model
from agent.api.paging import MAX_PAGE_SIZE, DeviceFilter, Page, PageSize
from agent.api.wrong_inputs import wrong_input

_PRIORITIES: tuple[Literal["alta", "media", "baja"], ...] = ("alta", "media", "baja")


class Consumo(FormerBody):
    """Consumption of a device in an interval."""

    model_config = ConfigDict(
        coerce_numbers_to_str=True,
        json_schema_extra={"examples": [{"device_id": "ac-3", "kwh": 1.25, "timestamp": "2026-11-20T23:00:00"}]},
    )

    device_id: str = Field(description="any name that is no configured device's")
    kwh: float = Field(strict=True, description="of this interval alone, no meter reading")
    timestamp: Annotated[str, Field(max_length=40)] = Field(
        description="ISO 8601, or seconds since 1970; without an offset it is the site's local time"
    )


class ConsumoOut(Model):
    """What became of it."""

    mensaje: str
    device_id: str
    nuevo: bool = Field(description="false: it was counted before, and is not counted twice")


class RecomendacionOut(Model):
    """Something worth doing. Savings are estimates for 30 days."""

    id: str
    device_id: str
    tipo: str
    mensaje: str
    prioridad: Literal["alta", "media", "baja"]
    ahorro_kwh: float | None = Field(description="null: there is none to tell")
    ahorro: float | None = Field(description="in `moneda`; null: no tariff is configured")
    moneda: str
    desde: str = Field(description="since when it can be seen")

    @classmethod
    def of(cls, one: RecommendationOut) -> "RecomendacionOut":
        """In its names and words."""
        return cls(
            id=one.id,
            device_id=one.device,
            tipo=one.kind,
            mensaje=one.text,
            prioridad=_PRIORITIES[min(max(one.priority, 1), len(_PRIORITIES)) - 1],
            ahorro_kwh=one.saving_kwh,
            ahorro=one.saving_money,
            moneda=one.currency,
            desde=one.since,
        )


class RecomendacionesOut(Model):
    """What is worth doing, the most urgent first."""

    total: int
    recomendaciones: list[RecomendacionOut]


class EnergyBackend(Translator):
    """Its routes."""

    async def consume(self, request: Request, caller: CallerOf) -> Response:  # noqa: ARG002 - only who is known
        """Count consumption: 201 when it is on disk, 400 when it can't be counted. Repeated, it counts once."""
        body = self._read(await request.body())
        answer: Response = await self.canonical("POST /api/energy")(request, body)
        said = json.loads(bytes(answer.body))
        if HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return problems.problem(HTTPStatus.BAD_REQUEST, said["detail"], instance=request.url.path)
        new = said["inserted"] > 0
        text = "Consumo registrado" if new else "Consumo ya registrado"
        found = ConsumoOut(mensaje=text, device_id=body.device_id, nuevo=new)
        return JSONResponse(found.model_dump(), HTTPStatus.CREATED)

    async def recommend(
        self, device: DeviceFilter = None, page: Page = 1, page_size: PageSize = MAX_PAGE_SIZE
    ) -> RecomendacionesOut:
        """List what the last four weeks say is worth doing, the most urgent first."""
        found: RecommendationPage = await self.canonical("GET /api/recommendations")(
            device=device, page=page, page_size=page_size
        )
        return RecomendacionesOut(total=found.total, recomendaciones=[RecomendacionOut.of(one) for one in found.items])

    def _read(self, content: bytes) -> EnergyPosting:
        """Our posting for theirs; 400 for what is none."""
        try:
            sent = Consumo.model_validate_json(content)
            return EnergyPosting(device_id=sent.device_id, kwh=sent.kwh, timestamp=self._time(sent.timestamp))
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {wrong_input(one)}" for one in error.errors()]
            raise HTTPException(HTTPStatus.BAD_REQUEST, "; ".join(wrong[:10])) from error

    def _time(self, text: str) -> str:
        """The time with its offset; what can't be read is left to who checks it."""
        try:
            local = datetime.fromisoformat(text) if text[4:5] == "-" else None
        except ValueError:
            local = None
        if local is None:
            return text
        if local.tzinfo is not None:
            return text
        return local.replace(tzinfo=ZoneInfo(self.view.site().timezone)).isoformat()
