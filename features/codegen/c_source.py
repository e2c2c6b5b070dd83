"""Translates Python of the kernel to C, for a compiler that is available when the wheel is built.

The kernel is restricted to flat arrays and plain arithmetic, so its functions translate line by line. Types follow from
the arguments: integers have 64 bits, an array is a pointer with its length, and a function is translated once for each
combination of argument types. Integers divide as in Python. The compiler must let them wrap (`-fwrapv`) and must not
fuse products and sums (`-ffp-contract=off`): then all values are bit-equal to those of the interpreter. Functions are
inlined into their callers (`INLINED`), which is a quarter faster than passing so many arguments. `source`
writes the whole library, which `compiled_library.py` loads.

Why not Cython? Tried with 3.3.1: the table kernel of all kinds, 180 functions, typed by `Function._infer` below. Values
were bit-equal, CPU time of a table of 400,000 calls 3 % (least of 12) to 9 % (median) above this translation, import
0.2 ms longer. But it would not make the house smaller. Types have to come from somewhere, and the kernel is a template
of which each kind has its own constants and hooks: inference, `assemble.py` and the loader would stay, and only the
printing of expressions would go. Elements of 32 bits do not widen by themselves there (the first run had wrong values).
And a module of Python needs Python's headers to be built, and a wheel for each version of CPython or its stable ABI,
where one library now serves every Python.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.kernel import heap, table_pass, windows

from . import assemble
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

INT, FLOAT, NOTHING = "int64_t", "double", "void"
ARRAYS = {"q": "Longs", "i": "Ints", "b": "Smalls", "d": "Doubles", "B": "Bytes"}
ELEMENTS = {"Longs": INT, "Ints": INT, "Smalls": INT, "Doubles": FLOAT, "Bytes": INT}
HEAD = """\
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINED static inline __attribute__((always_inline))
#define c_prefetch(place) __builtin_prefetch(place)

typedef struct { int64_t *at; int64_t length; } Longs;
typedef struct { int32_t *at; int64_t length; } Ints;
typedef struct { const int8_t *at; int64_t length; } Smalls;
typedef struct { double *at; int64_t length; } Doubles;
typedef struct { const uint8_t *at; int64_t length; } Bytes;

static inline int64_t c_quotient(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
static inline int64_t c_rest(int64_t a, int64_t b) { return a - c_quotient(a, b) * b; }
static inline int64_t c_shifted(int64_t a, int64_t by) { return (int64_t)((uint64_t)a << by); }
static inline int64_t c_least(int64_t a, int64_t b) { return b < a ? b : a; }
static inline int64_t c_most(int64_t a, int64_t b) { return b > a ? b : a; }
static inline double c_most_of_doubles(double a, double b) { return b > a ? b : a; }
/* A wide integer is one access, faster than two, if its lower half comes first in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte order: the kernel runs interpreted on this machine");
static inline int64_t c_read_wide(const int32_t *at) { int64_t value; memcpy(&value, at, sizeof value); return value; }
static inline void c_write_wide(int32_t *at, int64_t value) { memcpy(at, &value, sizeof value); }
static inline int64_t c_exponent(double a) /* exponent of a whole number, like frexp */
{
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    return a == 0 ? 0 : (int64_t)(bits >> 52 & 2047) - 1022;
}
"""
INFIX = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.RShift: ">>",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.And: "&&", ast.Or: "||",
    ast.Not: "!", ast.USub: "-", ast.Invert: "~",
}  # fmt: skip
OPERATOR_CALLS = {ast.FloorDiv: "c_quotient", ast.Mod: "c_rest", ast.LShift: "c_shifted"}


class Untranslatable(ValueError):  # noqa: N818 - it names what is wrong with the line
    """A line that is outside the subset of Python that can be translated to C."""


@dataclass
class Part:
    """A namespace of the kernel: functions, constants, and the namespaces whose functions it calls by name.

    Attributes:
        laid_out: names of constants that the exported function reads from the array `layout` of its memory, in order.
            All functions of the namespace get that array.
    """

    name: str
    functions: dict[str, ast.FunctionDef]
    constants: dict[str, Any]
    others: dict[str, tuple[Part, str]] = field(default_factory=dict)
    laid_out: tuple[str, ...] = ()


def part(
    name: str,
    modules: tuple[ModuleType, ...],
    supplied: dict[str, Any],
    generated: str = "",
    laid_out: tuple[str, ...] = (),
) -> Part:
    """Returns the functions and constants of modules, of a generated source, and the supplied ones; later ones win."""
    functions: dict[str, ast.FunctionDef] = {}
    constants: dict[str, Any] = {"nan": float("nan")}
    for module in modules:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        functions |= {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        constants |= {key: value for key, value in vars(module).items() if isinstance(value, int | float | tuple)}
    functions |= {node.name: node for node in ast.parse(generated).body if isinstance(node, ast.FunctionDef)}
    return Part(name, functions, constants | supplied, laid_out=laid_out)


class Writer:
    """Writes functions in the order in which they are needed, once for each combination of types."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, str]] = {}
        self.lines = [HEAD]
        self._written: dict[tuple[str, ...], tuple[str, str]] = {}
        self._tuples: set[str] = set()

    def structure(self, name: str, fields: dict[str, str]) -> None:
        """Declares a struct with these fields: arrays, and structs declared before."""
        self.fields[f"const {name} *"] = fields
        members = " ".join(f"{kind} {field};" for field, kind in fields.items())
        self.lines.append(f"typedef struct {{ {members} }} {name};\n")

    def function(self, part: Part, name: str, types: tuple[str, ...]) -> tuple[str, str]:
        """Returns label and type of a function for these argument types; an empty function has the label ""."""
        key = (part.name, name, *types)
        if key not in self._written:
            versions = [other for other in self._written if other[:2] == key[:2]]
            function = Function(self, part, part.functions[name], types)
            text = function.text(label := f"{part.name}_{name}" + (f"_{len(versions)}" if versions else ""))
            self._written[key] = (label if text else "", function.returns)
            self.lines.append(text)
        return self._written[key]

    def table(self, part: Part, name: str) -> tuple[str, str]:
        """Returns the label of a tuple of constants as an array, and the type of its elements."""
        values = part.constants[name]
        kind = FLOAT if any(isinstance(value, float) for value in values) else INT
        label = f"{part.name}_{name}"
        if label not in self._tuples:
            self._tuples.add(label)
            elements = ", ".join(literal(value) for value in values)
            self.lines.append(f"static const {kind} {label}[] = {{{elements}}};\n")
        return label, kind

    def export(
        self, label: str, part: Part, name: str, expressions: dict[str, tuple[str, str]], memory: str = "Memory"
    ) -> None:
        """Exports a function."""
        names = [argument.arg for argument in part.functions[name].args.args]
        function, kind = self.function(part, name, tuple(expressions[argument_name][1] for argument_name in names))
        heads = {
            argument_name: "const uint8_t *" if expressions[argument_name][1] == "Bytes" else f"{INT} "
            for argument_name in names
        }
        parameters = (
            f"{heads[argument_name]}{argument_name}"
            for argument_name in names
            if expressions[argument_name][0] == argument_name or expressions[argument_name][1] == "Bytes"
        )
        head = ", ".join([f"{memory} *memory", *parameters])
        codes = [expressions[argument_name][0] for argument_name in names]
        lines = []
        if part.laid_out:  # a copy: the compiler knows that no write to memory changes it
            lines += [f"{INT} layout[{len(part.laid_out)}];", "memcpy(layout, memory->layout.at, sizeof layout);"]
            codes = ["layout", *codes]
        lines.append(f"{'' if kind == NOTHING else 'return '}{function}({', '.join(codes)});")
        self.lines.append(f"{kind} {label}({head})\n{{\n" + textwrap.indent("\n".join(lines), "    ") + "\n}\n")


def literal(value: float) -> str:
    """Returns a constant as an exact C literal."""
    if isinstance(value, float):
        return "NAN" if value != value else value.hex()  # noqa: PLR0124 - no import of math for one question
    return f"INT64_C({int(value)})" if value >= 0 else f"(-INT64_C({-int(value)}))"


# Loops with so few rounds (streams, windows) are unrolled: offsets become constants.
SHORT = {literal(rounds): rounds for rounds in (2, 3, 4)}


class Function:
    """One function for one combination of argument types."""

    def __init__(self, writer: Writer, part: Part, node: ast.FunctionDef, types: tuple[str, ...]) -> None:
        self.writer, self.part, self.node = writer, part, node
        self.arguments = dict(zip((argument.arg for argument in node.args.args), types, strict=True))
        self.types = dict(self.arguments)
        self.returns = NOTHING
        statements = [child for child in ast.walk(node) if isinstance(child, ast.stmt)]
        for _ in range(2):  # a variable that is a float anywhere is a float everywhere
            for statement in sorted(statements, key=lambda statement: statement.lineno):
                self._infer(statement)

    def text(self, label: str) -> str:
        """Returns the function in C; "" if it is empty."""
        body = [line for statement in self.node.body for line in self._statement(statement)]
        if not body or body == ["return;"]:
            return ""
        declared = [f"{kind} {name};" for name, kind in self.types.items() if name not in self.arguments]
        arguments = [f"{kind} {name}" for name, kind in self.arguments.items()]
        head = ", ".join([*([f"const {INT} *layout"] if self.part.laid_out else []), *arguments])
        inside = textwrap.indent("\n".join(declared + body), "    ")
        # Not inlined if another part calls it: a stream calls it for each kind of history.
        how = "static" if self.node.name in assemble.CALLED_BY_DRIVER.get(self.part.name, ()) else "INLINED"
        return f"{how} {self.returns} {label}({head})\n{{\n{inside}\n}}\n"

    def _infer(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self._assign(node.targets[0].id, self._expression(node.value)[1])
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            self._assign(node.target.id, INT)
        elif isinstance(node, ast.Return) and node.value is not None:
            kind = self._expression(node.value)[1]
            self.returns = FLOAT if FLOAT in (kind, self.returns) else kind

    def _assign(self, name: str, kind: str) -> None:
        self.types[name] = FLOAT if FLOAT in (kind, self.types.get(name)) else kind

    def _statement(self, node: ast.stmt) -> list[str]:
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Constant):
                return []
            called = self._expression(node.value)[0]
            return [f"{called};"] if called else []
        if isinstance(node, ast.Assign):
            return [f"{self._expression(node.targets[0])[0]} = {self._expression(node.value)[0]};"]
        if isinstance(node, ast.AugAssign):
            place = self._expression(node.target)
            return [f"{place[0]} = {self._operation(node.op, place, self._expression(node.value))[0]};"]
        if isinstance(node, ast.If):
            lines = [f"if ({self._expression(node.test)[0]}) {{", *self._block(node.body)]
            return [*lines, "} else {", *self._block(node.orelse), "}"] if node.orelse else [*lines, "}"]
        if isinstance(node, ast.While):
            return [f"while ({self._expression(node.test)[0]}) {{", *self._block(node.body), "}"]
        if isinstance(node, ast.For):
            return self._loop(node)
        if isinstance(node, ast.Return):
            return [f"return {self._expression(node.value)[0]};" if node.value else "return;"]
        simple = {ast.Break: ["break;"], ast.Continue: ["continue;"], ast.Pass: []}
        if type(node) in simple:
            return simple[type(node)]
        raise self._untranslatable(node)

    def _loop(self, node: ast.For) -> list[str]:
        if not (isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func) == "range" and len(node.iter.args) < 3):
            raise self._untranslatable(node)
        bounds = [self._expression(argument)[0] for argument in node.iter.args]
        first, end = bounds if len(bounds) == 2 else ("0", bounds[0])
        name = ast.unparse(node.target)
        short = [f"#pragma GCC unroll {SHORT[end]}"] if end in SHORT else []
        return [*short, f"for ({name} = {first}; {name} < {end}; {name}++) {{", *self._block(node.body), "}"]

    def _block(self, body: list[ast.stmt]) -> list[str]:
        return ["    " + line for statement in body for line in self._statement(statement)]

    def _expression(self, node: ast.expr) -> tuple[str, str]:
        """Returns an expression in C, and its type."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return literal(node.value), FLOAT if isinstance(node.value, float) else INT
        if isinstance(node, ast.Name):
            if node.id in self.types:
                return node.id, self.types[node.id]
            if node.id in self.part.laid_out:
                return f"layout[{self.part.laid_out.index(node.id)}]", INT
            value = self.part.constants.get(node.id)
            if not isinstance(value, int | float):
                raise self._untranslatable(node)
            return literal(value), FLOAT if isinstance(value, float) else INT
        if isinstance(node, ast.Subscript):
            return self._element(node)
        if isinstance(node, ast.BinOp):
            return self._operation(node.op, self._expression(node.left), self._expression(node.right))
        if isinstance(node, ast.UnaryOp):
            code, kind = self._expression(node.operand)
            return f"({INFIX[type(node.op)]}{code})", INT if isinstance(node.op, ast.Not) else kind
        if isinstance(node, ast.BoolOp):
            return "(" + f" {INFIX[type(node.op)]} ".join(
                self._expression(operand)[0] for operand in node.values
            ) + ")", INT
        if isinstance(node, ast.Compare):
            sides = [self._expression(operand)[0] for operand in (node.left, *node.comparators)]
            comparisons = (f"{a} {INFIX[type(op)]} {b}" for op, a, b in zip(node.ops, sides, sides[1:], strict=False))
            return "(" + " && ".join(comparisons) + ")", INT
        if isinstance(node, ast.IfExp):
            (yes, kind), (no, other) = self._expression(node.body), self._expression(node.orelse)
            kind = FLOAT if FLOAT in (kind, other) else kind
            return f"({self._expression(node.test)[0]} ? {yes} : {no})", kind
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "math.nan":
            return "NAN", FLOAT
        if isinstance(node, ast.Attribute):
            return self._field(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._untranslatable(node)

    def _field(self, node: ast.Attribute) -> tuple[str, str]:
        code, kind = self._expression(node.value)
        field_type = self.writer.fields.get(kind, {}).get(node.attr)
        if field_type is None:
            raise self._untranslatable(node)
        if field_type in ELEMENTS:
            return f"{code}->{node.attr}", field_type
        return f"(&{code}->{node.attr})", f"const {field_type} *"

    def _element(self, node: ast.Subscript) -> tuple[str, str]:
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "math.frexp":
            # The kernel uses only the second value of frexp.
            return f"c_exponent({self._expression(node.value.args[0])[0]})", INT
        index = self._expression(node.slice)[0]
        if isinstance(node.value, ast.Name) and node.value.id not in self.types:
            label, kind = self.writer.table(self.part, node.value.id)
            return f"{label}[{index}]", kind
        code, kind = self._expression(node.value)
        return f"{code}.at[{index}]", ELEMENTS[kind]

    def _operation(self, op: ast.operator, left: tuple[str, str], right: tuple[str, str]) -> tuple[str, str]:
        kind = FLOAT if FLOAT in (left[1], right[1]) else INT
        if isinstance(op, ast.Div):
            return f"((double){left[0]} / (double){right[0]})", FLOAT
        if type(op) in OPERATOR_CALLS and kind == INT:
            return f"{OPERATOR_CALLS[type(op)]}({left[0]}, {right[0]})", INT
        return f"({left[0]} {INFIX[type(op)]} {right[0]})", kind

    def _call(self, node: ast.Call) -> tuple[str, str]:
        name = ast.unparse(node.func)
        arguments = [self._expression(argument) for argument in node.args]
        codes = [code for code, _ in arguments]
        if name in ("float", "int", "bool", "len", "math.floor", "math.sqrt", "math.log2"):
            return {
                "float": (f"((double){codes[0]})", FLOAT),
                "int": (f"((int64_t){codes[0]})", INT),
                "bool": (f"({codes[0]} != 0)", INT),
                "len": (f"{codes[0]}.length", INT),
                "math.floor": (f"floor({codes[0]})", FLOAT),
                "math.sqrt": (f"sqrt({codes[0]})", FLOAT),
                "math.log2": (f"log2((double){codes[0]})", FLOAT),
            }[name]
        if name in ("min", "max") and len(arguments) == 2:
            floats = FLOAT in (arguments[0][1], arguments[1][1])
            if floats and name == "min":
                raise self._untranslatable(node)
            label = "c_most_of_doubles" if floats else {"min": "c_least", "max": "c_most"}[name]
            return f"{label}({', '.join(codes)})", FLOAT if floats else INT
        if name == "prefetch":
            return f"c_prefetch(&{codes[0]}.at[{codes[1]}])", NOTHING
        if name in ("read_wide", "write_wide"):
            place = f"&{codes[0]}.at[{codes[1]}]"
            return f"c_{name}({', '.join([place, *codes[2:]])})", INT if name == "read_wide" else NOTHING
        part, function = self.part.others.get(name, (self.part, name))
        if function not in part.functions:
            raise self._untranslatable(node)
        label, kind = self.writer.function(part, function, tuple(kind for _, kind in arguments))
        codes = ["layout", *codes] if part.laid_out else codes
        return f"{label}({', '.join(codes)})" if label else "", kind

    def _untranslatable(self, node: ast.AST) -> Untranslatable:
        return Untranslatable(f"{self.part.name}.{self.node.name}, {ast.unparse(node)!r}: cannot be written in C")


MEMORY, STORE = "const Memory *", "const KeyStore *"


def source() -> str:
    """Returns the kernel of streams and tables as C."""
    writer = Writer()
    write_structures(writer)
    writer.lines.append(f'const char callsieve_version[] = "{fingerprint()}";\n')
    write_stream(writer)
    write_tables(writer)
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
