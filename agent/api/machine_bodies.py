"""What ``/api/machines`` is sent and answers."""

from datetime import date
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from agent.api.bodies import Body, Name, Text
from agent.api.maintenance_bodies import DueOut, EntryOut
from agent.api.models import Model
from agent.insight.machines import CODE, FACTS, Facts, Machine, Status

Code = Annotated[str, StringConstraints(pattern=CODE)]
TypeName = Annotated[str, StringConstraints(min_length=1, max_length=60)]
Notes = Annotated[str, StringConstraints(max_length=4000)]
_SAYS = "null: as the device says"


class MachineFields(Body):
    """What people say of a machine."""

    name: Name | None = Field(None, description=f"for people; {_SAYS}, else its code")
    type: TypeName | None = Field(None, description=f"charger, meter, inverter, battery, or any word; {_SAYS}")
    location: Text | None = Field(None, description="where it stands")
    status: Status | None = Field(None, description="null: active. For a retired one nothing is due any more")
    installed: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = Field(
        None, description="ISO 8601 date: 2024-05-31"
    )
    maker: Text | None = Field(None, description=_SAYS)
    model: Text | None = Field(None, description=_SAYS)
    serial: Text | None = Field(None, description=_SAYS)
    firmware: Text | None = Field(None, description=_SAYS)
    notes: Notes | None = None

    @field_validator("installed")
    @classmethod
    def _date(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                date.fromisoformat(value)
            except ValueError as error:
                raise ValueError(f"{value} is no day of the calendar") from error
        return value

    @field_validator("name", "type", "location", "maker", "model", "serial", "firmware", "notes")
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        if value is not None:
            value.encode()  # a UnicodeEncodeError is a ValueError
        return value

    @property
    def sent(self) -> dict[str, object]:
        """The facts that were sent, null too."""
        return {name: getattr(self, name) for name in FACTS if name in self.model_fields_set}


class NewMachine(MachineFields):
    """A machine without a wire to this gateway."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "T1",
                    "name": "Transformer 1",
                    "type": "transformer",
                    "location": "Yard",
                    "installed": "2019-03-01",
                }
            ]
        }
    )

    code: Code

    @property
    def facts(self) -> Facts:
        """As insight has it."""
        return Facts(**{name: getattr(self, name) for name in FACTS})


class MachineChange(MachineFields):
    """What is to change of a machine; what is not sent stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "maintenance", "location": "Bay 4"}]})

    @model_validator(mode="after")
    def _says_something(self) -> "MachineChange":
        if not self.model_fields_set:
            raise ValueError("nothing is to change")
        return self


class MachineOut(Model):
    """A machine."""

    code: str
    name: str
    type: str
    location: str
    status: Status
    installed: str | None
    maker: str
    model: str
    serial: str
    firmware: str
    notes: str
    device: bool = Field(description="it is a device of the configuration: its code is the device's id")
    noted: bool = Field(description="a person added it, or said something of it")

    @classmethod
    def of(cls, machine: Machine) -> "MachineOut":
        """As the API shows it."""
        return cls(**{name: getattr(machine, name) for name in cls.model_fields})


class MachinePage(Model):
    """A page of machines."""

    total: int
    page: int
    page_size: int
    items: list[MachineOut]


class MachineSummary(Model):
    """The machines as a dashboard shows them."""

    total: int
    by_status: dict[str, int] = Field(examples=[{"active": 12, "inactive": 0, "maintenance": 1, "retired": 2}])
    by_type: dict[str, int] = Field(examples=[{"charger": 8, "meter": 3}])
    due: int = Field(description="plans that are due soon")
    overdue: int
    next: list[DueOut] = Field(description="the next ones, the worst and soonest first; at most 5")
    last: list[EntryOut] = Field(description="the last maintenance; at most 5")
