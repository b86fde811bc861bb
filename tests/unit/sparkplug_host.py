"""A Sparkplug host application that looks at every message of the node ``plant/depot-7``."""

from collections.abc import Iterable, Sequence
from typing import cast

from cloud_sync.sparkplug.payload import DataType, Metric, Payload
from cloud_sync.sparkplug.read import decode_payload

PREFIX = "spBv1.0/plant"


class Host:
    """Reads what a session sent, as a host does, and fails on whatever breaks a rule of the specification."""

    def __init__(self, sent: Iterable[tuple[str, bytes, bool]] = (), bd_seq: int | None = None) -> None:
        self.kinds: list[str] = []
        self.values: list[tuple[str, str, int, object, bool]] = []
        self.names: dict[int, tuple[str, str]] = {}
        self.devices: dict[str, bool] = {}
        self.bd_seq = bd_seq
        self._seq: int | None = None
        for topic, data, retain in sent:
            self.take(topic, data, retain=retain)

    def take(self, topic: str, data: bytes, *, retain: bool) -> None:
        """One message; those that are not Sparkplug's are passed over."""
        if topic.startswith("spBv1.0/"):
            assert not retain
            assert topic.startswith(PREFIX)
            self._take(topic.split("/")[2:], decode_payload(data))

    def _take(self, parts: list[str], payload: Payload) -> None:
        kind, node, device = parts[0], parts[1], parts[2] if len(parts) > 2 else ""
        assert node == "depot-7"
        assert bool(device) == kind.startswith("D")
        self.kinds.append(f"{kind} {device}".strip())
        if kind == "NDEATH":
            assert payload.seq is None
            assert [(metric.name, metric.value) for metric in payload.metrics] == [("bdSeq", self.bd_seq)]
            self._seq = None
            return
        assert payload.timestamp_ms is not None
        assert payload.seq == (0 if kind == "NBIRTH" else ((self._seq if self._seq is not None else -99) + 1) % 256)
        self._seq = payload.seq
        getattr(self, f"_take_{kind.lower()}")(device, payload.metrics)

    def _take_nbirth(self, _device: str, metrics: Sequence[Metric]) -> None:
        first, rebirth, *others = metrics
        assert (first.name, first.datatype, first.alias) == ("bdSeq", DataType.INT64, None)
        assert (rebirth.name, rebirth.value, rebirth.alias) == ("Node Control/Rebirth", False, None)
        self.bd_seq = cast("int", first.value)
        self.names, self.devices = {}, {}
        self._take_names("", others)

    def _take_dbirth(self, device: str, metrics: Sequence[Metric]) -> None:
        self.devices[device] = True
        self._take_names(device, metrics)

    def _take_names(self, device: str, metrics: Sequence[Metric]) -> None:
        names = [metric.name for metric in metrics]
        assert len(set(names)) == len(names)
        for metric in metrics:
            assert metric.alias
            assert metric.datatype
            assert metric.timestamp_ms is not None
            assert self.names.get(metric.alias, (device,))[0] == device
            self.names[metric.alias] = device, metric.name

    def _take_ddeath(self, device: str, metrics: Sequence[Metric]) -> None:
        assert self.devices[device]
        assert not metrics
        self.devices[device] = False

    def _take_ndata(self, _device: str, metrics: Sequence[Metric]) -> None:
        self._take_values("", metrics)

    def _take_ddata(self, device: str, metrics: Sequence[Metric]) -> None:
        assert self.devices[device], "data of a device that has no life"
        self._take_values(device, metrics)

    def _take_values(self, device: str, metrics: Sequence[Metric]) -> None:
        for metric in metrics:
            assert not metric.name
            assert self.names[metric.alias or 0][0] == device
            name = self.names[metric.alias or 0][1]
            self.values.append((device, name, metric.timestamp_ms or 0, metric.value, metric.is_historical))
