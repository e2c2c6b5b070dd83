"""Writes the C source of the kernel's library. `setup.py` calls `source`; `compiled_library.py` loads the result."""

from __future__ import annotations

from types import SimpleNamespace

from callsieve.features.catalogue import FEATURES
from callsieve.features.kernel import heap, number_scan, table_pass, windows

from . import assemble
from .c_source import ARRAYS, INT, Part, Writer, part
from .compiled_library import (
    SHARED_FUNCTIONS,
    STORE_FUNCTIONS,
    STREAM_FUNCTIONS,
    TABLE_FUNCTIONS,
    TASK,
    fingerprint,
    integer_arguments,
    laid_out,
)
from .feature_program import KINDS
from .memory_layout import EVENT_LISTS, sizes

MEMORY, STORE = "const Memory *", "const KeyStore *"


def source() -> str:
    """Returns the kernel of streams and tables, and `number_scan.py`, as C."""
    writer = Writer()
    write_structures(writer)
    writer.lines.append(f'const char callsieve_version[] = "{fingerprint()}";\n')
    write_stream(writer)
    write_tables(writer)
    counts = writer.function(part("digits", (number_scan,), {}), "count_numbers", ("Bytes", INT))[0]
    writer.lines.append(f"{INT} callsieve_count_numbers(const uint8_t *at, {INT} length, {INT} form)")
    writer.lines.append(f"{{\n    Bytes text = {{at, length}};\n    return {counts}(text, form);\n}}\n")
    return "\n".join(writer.lines)


def write_structures(writer: Writer) -> None:
    """Writes the struct types of a stream's memory (`memory_layout.py`) and of a table's task."""
    layouts = {kind.name: SimpleNamespace(STATE=1, PAIR=1, LISTS=0) for kind in KINDS}
    arrays = {
        name: {field: ARRAYS[code] for field, (code, _) in fields.items()}
        for name, fields in sizes(layouts, 1, 1, 1).items()
    }
    writer.structure("EventList", arrays[EVENT_LISTS[0]])
    writer.structure("KeyStore", arrays[KINDS[0].name])
    stores = dict.fromkeys((kind.name for kind in KINDS), "KeyStore")
    writer.structure("Memory", arrays["shared"] | dict.fromkeys(EVENT_LISTS, "EventList") | stores)
    writer.structure("Task", {name: ARRAYS[code] for name, code in TASK.items()})


def write_stream(writer: Writer) -> None:
    """Writes the functions that `online/driver.py` binds."""
    stream, parts = part("stream", assemble.DRIVER, assemble.columns(FEATURES)), {}
    for name, (constants, written) in assemble.stream_declarations().items():
        parts[name] = part(name, assemble.STREAM_MODULES[name], constants, written)
        stream.others |= {f"{name}_{kind}": (parts[name], kind) for kind in assemble.CALLED_BY_DRIVER[name]}
    for name, arguments in STREAM_FUNCTIONS.items():
        expressions = {"m": ("memory", MEMORY)} | {argument: (argument, INT) for argument in arguments}
        writer.export(f"callsieve_{name}", stream, name, expressions)
    for kind in KINDS:
        own = parts["number" if kind.name == "number" else "group"]
        for name, arguments in STORE_FUNCTIONS.items():
            expressions = {"store": (f"&memory->{kind.name}", STORE), "state": (f"memory->{kind.name}.state", "Ints")}
            expressions |= {"base": ("0", INT)} | {argument: (argument, INT) for argument in arguments}
            expressions["text"] = ("(Bytes){text, length}", "Bytes")
            writer.export(f"callsieve_{kind.name}_{name}", own, name, expressions)


def write_tables(writer: Writer) -> None:
    """Writes the functions of `compiled_library.Library.table_function`; kinds with the same program share them."""
    parts: dict[str, Part] = {"": part("table", (windows, heap, table_pass), {})}
    for name in SHARED_FUNCTIONS:
        write_table_function(writer, parts[""], name, name)
    for kind in KINDS:
        modules = assemble.modules_of(kind.module)
        constants, generated = assemble.declarations(kind, FEATURES)
        for choice, names in (("whole", ()), ("chosen", laid_out(kind))):
            label = f"{choice}_{kind.name}"
            own = parts.setdefault(f"{choice}{constants}{generated}", part(label, modules, constants, generated, names))
            for name in TABLE_FUNCTIONS:
                write_table_function(writer, own, name, f"{label}_{name}")


def write_table_function(writer: Writer, part: Part, name: str, label: str) -> None:
    """Exports a function of `table_pass.py` under a label."""
    expressions = {argument: (argument, INT) for argument in integer_arguments(name)}
    writer.export(f"callsieve_{label}", part, name, expressions | {"t": ("memory", "const Task *")}, "Task")
