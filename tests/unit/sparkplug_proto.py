"""Sparkplug B's messages as the protobuf library has them: what our own codec is held against.

The description is the published one (Eclipse Sparkplug 3.0, chapter 6), as far as a gateway needs it.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
}
_VALUES = (
    "uint32 int_value",
    "uint64 long_value",
    "float float_value",
    "double double_value",
    "bool boolean_value",
    "string string_value",
)
_MESSAGES: dict[str, dict[int, str]] = {
    "PropertySet": {1: "repeated string keys", 2: "repeated PropertyValue values"},
    "PropertyValue": {1: "uint32 type", 2: "bool is_null"} | dict(enumerate(_VALUES, 3)),
    "Metric": {
        1: "string name",
        2: "uint64 alias",
        3: "uint64 timestamp",
        4: "uint32 datatype",
        5: "bool is_historical",
        6: "bool is_transient",
        7: "bool is_null",
        9: "PropertySet properties",
        16: "bytes bytes_value",
    }
    | dict(enumerate(_VALUES, 10)),
    "Payload": {
        1: "uint64 timestamp",
        2: "repeated Metric metrics",
        3: "uint64 seq",
        4: "string uuid",
        5: "bytes body",
    },
}
_ONE_OF = {"Metric", "PropertyValue"}


def _payload_class() -> Any:  # noqa: ANN401 - the library makes it at run time
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package="sparkplug", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="value")
        for number, text in fields.items():
            *label, kind, field = text.split()
            added = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if label:
                added.label = _FIELD.LABEL_REPEATED
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".sparkplug.{kind}"
            if name in _ONE_OF and field.endswith("_value"):
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sparkplug.Payload"))


#: The library's class of a message.
PAYLOAD = _payload_class()
