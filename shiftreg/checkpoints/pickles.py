"""Pickles read as data: a pickle is a small program, and none of what it asks for is called.

Tensors become values that say where their numbers lie; everything else that a pickle would build
of classes or functions becomes an :class:`Inert`, which does nothing.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from shiftreg.errors import IntegrityError

LARGEST_PICKLE = 16 << 20  # bytes: checkpoints of billions of weights have less than a tenth
MOST_INSTRUCTIONS = 2_000_000  # each may take memory; a tensor takes about forty
SCALARS = (str, int, float, bytes, type(None))
# What training tools save of the standard library. The rest of it has no place in a checkpoint:
# os.system, subprocess.Popen, builtins.eval and their like are code that wants to be run.
HARMLESS = {
    "argparse": {"Namespace"},
    "_codecs": {"encode"},
    "copyreg": {"_reconstructor"},
    "enum": None,
    "datetime": None,
    "pathlib": None,
    "typing": None,
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter"},
    "builtins": {
        "set", "frozenset", "dict", "list", "tuple", "slice", "range", "complex", "bytearray",
        "object", "int", "float", "bool", "str", "bytes",
    },
}  # fmt: skip
OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's
STANDARD = sys.stdlib_module_names | {"commands", "popen2"}  # Python 2 had two more

Builder = Callable[..., Any]


class Inert:
    """Stands for an object that was not made.

    Attributes:
        name: What would have made it.
    """

    __slots__ = ("name",)

    def __init__(self, name: str = "") -> None:
        self.name = name


@dataclass(frozen=True)
class Global:
    """The name of a class or function; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class CodeFoundError(IntegrityError):
    """A pickle names something that could only be meant to be run."""


def read_pickle(
    handle: BinaryIO, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]
) -> Any:
    """Reads the next pickle of a file, running nothing.

    Args:
        handle: Stands where the pickle begins, and afterwards where it ends.
        builders: Dotted name of a function -> what is called in its stead, with its arguments.
            Nothing else is ever called.
        persistent: Turns what the pickle calls a persistent identifier into a value.

    Returns:
        Dictionaries, lists, tuples, texts, numbers and bytes; what the builders and ``persistent``
        return; :class:`Inert` and :class:`Global` for everything else.

    Raises:
        CodeFoundError: It names a function of the standard library that no checkpoint needs.
        Exception: Of any kind, if it is damaged.
    """
    machine = _Machine(builders, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(handle)):
        if count > MOST_INSTRUCTIONS:
            raise ValueError(f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions")
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.do(opcode.name, argument)
    raise ValueError("the pickle does not end")


class _Machine:
    """The stack machine that pickles are programs of, with every call left out."""

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._builders = builders
        self._persistent = persistent

    def do(self, name: str, argument: Any) -> None:
        """Does one instruction; ``argument`` is the one that stands in the pickle."""
        if name in VALUES:
            self.stack.append(argument)
        elif name in INSTRUCTIONS:
            INSTRUCTIONS[name](self, argument)
        elif name not in IGNORED:
            raise ValueError(f"pickles of checkpoints have no instruction {name}")

    def push(self, value: Any) -> None:
        """Puts a value on top of the stack."""
        self.stack.append(value)

    def mark(self) -> None:
        """Begins a sequence."""
        self._marked.append(self.stack)
        self.stack = []

    def items(self) -> list[Any]:
        """Takes what was pushed since the last mark."""
        items, self.stack = self.stack, self._marked.pop()
        return items

    def take(self, count: int) -> tuple[Any, ...]:
        """Takes values from the top of the stack."""
        if len(self.stack) < count:
            raise ValueError("the stack is empty")
        taken = tuple(self.stack[-count:])
        del self.stack[-count:]
        return taken

    def pop(self) -> None:
        """Forgets the topmost value or mark."""
        if self.stack:
            self.stack.pop()
        else:
            self.items()

    def put(self, index: int | None) -> None:
        """Remembers the topmost value."""
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Pushes a remembered value."""
        self.stack.append(self._memo[index])

    def extend(self, values: list[Any]) -> None:
        """Adds to the list on the stack, if it is one."""
        if isinstance(target := self.stack[-1], list):
            target.extend(values)

    def assign(self, items: list[Any]) -> None:
        """Adds keys and values to the dictionary on the stack, if it is one."""
        if isinstance(target := self.stack[-1], dict):
            _fill_in_turn(target, items)

    def name(self, module: Any, name: Any) -> None:
        """Pushes the name of a class or function."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name is not a text")
        module = OLD_NAMES.get(module, module)
        root = module.partition(".")[0]
        allowed = HARMLESS.get(module, set())
        if root in STANDARD and allowed is not None and name not in allowed:
            raise CodeFoundError(f"{module}.{name}")
        self.stack.append(Global(module, name))

    def refer(self, identifier: Any) -> None:
        """Pushes what a persistent identifier stands for."""
        self.stack.append(self._persistent(identifier))

    def make(self, callee: Any, arguments: Any) -> None:
        """Stands in for a call of ``callee``."""
        builder = self._builders.get(str(callee)) if isinstance(callee, Global) else None
        if builder is not None and isinstance(arguments, tuple):
            self.stack.append(builder(*arguments))
        else:
            self.stack.append(Inert(str(callee) if isinstance(callee, Global) else ""))

    def make_object(self, callee: Any, *arguments: Any) -> None:
        """The same, for the first pickles' way of making objects."""
        self.make(callee, arguments)

    def make_instance(self, module: str, name: str) -> None:
        """The same, with the name in the instruction."""
        arguments = tuple(self.items())
        self.name(module, name)
        self.make(self.stack.pop(), arguments)


def fill(target: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Adds keys and values; a key that is not a plain value cannot be looked up.

    Raises:
        ValueError: A text is named twice. No dictionary that was saved does so; readers would
            disagree on which of the values is meant.
    """
    for key, value in items:
        if isinstance(key, str) and key in target:
            raise ValueError(f"it names '{key[:99]}' twice")
        target[key if isinstance(key, SCALARS) else Inert()] = value
    return target


def _fill_in_turn(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """The same, with keys and values in turn."""
    return fill(target, zip(items[::2], items[1::2], strict=True))


VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
IGNORED = {"PROTO", "FRAME"}
INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_SET": lambda machine, _: machine.push(Inert("set")),
    "LIST": lambda machine, _: machine.push(machine.items()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.push(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.take(3)),
    "DICT": lambda machine, _: machine.push(_fill_in_turn({}, machine.items())),
    "FROZENSET": lambda machine, _: machine.make(None, machine.items()),
    "APPEND": lambda machine, _: machine.extend(list(machine.take(1))),
    "APPENDS": lambda machine, _: machine.extend(machine.items()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.items()),
    "SETITEM": lambda machine, _: machine.assign(list(machine.take(2))),
    "SETITEMS": lambda machine, _: machine.assign(machine.items()),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.items(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.take(2)),
    "PERSID": _Machine.refer,
    "BINPERSID": lambda machine, _: machine.refer(*machine.take(1)),
    "REDUCE": lambda machine, _: machine.make(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.make(*machine.take(2)),
    "NEWOBJ_EX": lambda machine, _: machine.make(*machine.take(3)[:2]),
    "INST": lambda machine, names: machine.make_instance(*names.split(" ", 1)),
    "OBJ": lambda machine, _: machine.make_object(*machine.items()),
    # A state is forgotten: there is no object that would take it.
    "BUILD": lambda machine, _: machine.take(1),
}
