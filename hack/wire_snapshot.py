"""Write down what the wire promises, and refuse to take any of it back.

`proto/penstock.v1.lock.json` lists every message with its field numbers, every enum with its values
and every service with its methods. Other people's clients are built against them, so they may only
grow: this program adds what is new and stops when something of the old list has gone or changed.
What is given up stays where it is, marked `deprecated` in the .proto file.

`make proto` runs it after the generator; a unit test compares the file with the generated code.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "proto" / "penstock.v1.lock.json"

Snapshot = dict[str, dict[str, Any]]


def current() -> Snapshot:
    """The promises of the generated code: kind → full name → number or method → shape."""
    found: Snapshot = {"messages": {}, "enums": {}, "services": {}}
    for source in sorted((ROOT / "proto" / "penstock" / "v1").glob("*.proto")):
        file = importlib.import_module(f"penstock.v1.{source.stem}_pb2").DESCRIPTOR
        for message in file.message_types_by_name.values():
            _add_message(found, message)
        for enum in file.enum_types_by_name.values():
            _add_enum(found, enum)
        for service in file.services_by_name.values():
            found["services"][service.full_name] = {
                method.name: _method(method) for method in service.methods
            }
    return found


def violations(before: Snapshot, now: Snapshot) -> list[str]:
    """What `before` promised and `now` does not keep."""
    broken = []
    for kind, names in before.items():
        for name, entries in names.items():
            if name not in now[kind]:
                broken.append(f"{name} has gone")
                continue
            for key, shape in entries.items():
                new = now[kind][name].get(key)
                if new is None:
                    broken.append(f"{name}: {key} ({shape}) has gone")
                elif new != shape:
                    broken.append(f"{name}: {key} was '{shape}' and is now '{new}'")
    return broken


def load() -> Snapshot:
    """The checked-in promises; none before there are any."""
    return json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}


def _add_message(found: Snapshot, message: descriptor.Descriptor) -> None:
    if message.GetOptions().map_entry:
        return  # its shape is told by the field that uses it
    entries = {str(field.number): _field(field) for field in message.fields}
    found["messages"][message.full_name] = entries
    for nested in message.nested_types:
        _add_message(found, nested)
    for enum in message.enum_types:
        _add_enum(found, enum)


def _add_enum(found: Snapshot, enum: descriptor.EnumDescriptor) -> None:
    found["enums"][enum.full_name] = {str(value.number): value.name for value in enum.values}


def _method(method: descriptor.MethodDescriptor) -> str:
    request = ("stream " if method.client_streaming else "") + method.input_type.full_name
    response = ("stream " if method.server_streaming else "") + method.output_type.full_name
    return f"{request} -> {response}"


def _field(field: descriptor.FieldDescriptor) -> str:
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        key, value = nested.fields_by_name["key"], nested.fields_by_name["value"]
        return f"map<{_type(key)}, {_type(value)}> {field.name}"
    words = []
    if field.is_repeated:
        words.append("repeated")
    elif field.containing_oneof is not None:
        # A proto3 `optional` is a oneof of its own, with a name that starts with an underscore.
        oneof = field.containing_oneof.name
        words.append("optional" if oneof.startswith("_") else f"oneof:{oneof}")
    return " ".join([*words, _type(field), field.name])


def _type(field: descriptor.FieldDescriptor) -> str:
    if field.message_type is not None:
        return field.message_type.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    names = {
        number: name.removeprefix("TYPE_").lower()
        for name, number in vars(descriptor.FieldDescriptor).items()
        if name.startswith("TYPE_")
    }
    return names[field.type]


def main() -> int:
    """Return 1 when the generated code breaks a promise."""
    now = current()
    broken = violations(load(), now)
    for line in broken:
        print(f"wire: {line}", file=sys.stderr)
    if broken:
        print("wire: field numbers and methods only ever grow", file=sys.stderr)
        return 1
    SNAPSHOT.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
