"""Safe reader of pickles that contain plain data and uint8 arrays.

Python's unpickler imports and calls the names in the file. Even if only NumPy's three names are admitted, a few bytes
can allocate gigabytes (by an array shape, a memo index or a counted string) or set attributes of the named objects.
This reader supports only the opcodes that describe data, calls nothing, and turns arrays into records that
`as_uint8_matrix` checks. Its memory is bounded by the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .._common.errors import DataError

__all__ = ["ArrayRecord", "as_uint8_matrix", "read_plain_pickle"]

# Names in the pickle of a NumPy array (NumPy 2 moved them), and the one with which Python 3 writes bytes at protocol 2.
# They are compared, never imported.
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}

# Fixed-width integers: opcode -> struct format.
_INTEGERS = {b"K": "<B", b"M": "<H", b"J": "<i"}
# Counted strings: opcode -> (struct format of the count, whether it is text).
_STRINGS = {
    b"U": ("<B", False),  # SHORT_BINSTRING, BINSTRING: str of Python 2
    b"T": ("<i", False),
    b"C": ("<B", False),  # SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
    b"B": ("<I", False),
    b"\x8e": ("<Q", False),
    b"\x96": ("<Q", False),
    b"\x8c": ("<B", True),  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
    b"X": ("<I", True),
    b"\x8d": ("<Q", True),
}
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_SHORT_TUPLES = {b")": 0, b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}
_MARK = object()


@dataclass
class _Name:
    role: str


@dataclass
class _DtypeRecord:
    code: object


@dataclass
class ArrayRecord:
    """Unchecked description of an array in a pickle."""

    shape: object = None
    dtype: object = None
    fortran: object = False
    values: object = None


def read_plain_pickle(data: bytes, source: str) -> object:
    """Read a pickle of dicts, lists, tuples, strings, integers and arrays.

    Parameters
    ----------
    data : bytes
        The whole pickle, of protocol 2 to 5. Strings of Python 2 become bytes.
    source : str
        Name of the file, for messages.

    Returns
    -------
    object
        The pickled object, with arrays as `ArrayRecord`.

    Raises
    ------
    DataError
        If the pickle is truncated or damaged, or names anything but NumPy arrays.
    """
    return _Reader(data, source).read()


class _Reader:
    """State of the pickle machine: stack, memo and position in the file."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self.source = source
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0

    def fail(self, what: str) -> NoReturn:
        raise DataError(f"{self.source} is not a batch of CIFAR-10: {what}.")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            self.fail(f"the pickle is truncated or damaged at byte {self.position} of {len(self.data)}")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            self.fail(f"the pickle is truncated or damaged at byte {self.position} of {len(self.data)}")
        text = self.data[self.position : end].decode("latin-1")
        self.position = end + 1
        return text

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            self.fail(f"the pickle is damaged before byte {self.position}")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for depth in range(len(self.stack) - 1, -1, -1):
            if self.stack[depth] is _MARK:
                items = self.stack[depth + 1 :]
                del self.stack[depth:]
                return items
        self.fail(f"the pickle is damaged before byte {self.position}")

    def read(self) -> object:
        if self.take(2)[:1] != b"\x80" or not 2 <= self.data[1] <= 5:
            self.fail("it does not begin as a pickle of protocol 2 to 5")
        while (code := self.take(1)) != b".":
            self.step(code)
        return self.pop()

    def step(self, code: bytes) -> None:
        push = self.stack.append
        if code in _INTEGERS:
            push(self.number(_INTEGERS[code]))
        elif code in _STRINGS:
            form, is_text = _STRINGS[code]
            piece = self.take(self.number(form))
            push(piece.decode("utf-8", "replace") if is_text else piece)
        elif code in _PUTS:
            self.keep(self.number(_PUTS[code]))
        elif code in _GETS:
            index = self.number(_GETS[code])
            if index not in self.memo:
                self.fail(f"the pickle is damaged before byte {self.position}")
            push(self.memo[index])
        elif code == b"\x94":  # MEMOIZE
            self.keep(len(self.memo))
        elif code in _CONSTANTS:
            push(_CONSTANTS[code])
        elif code == b"(":
            push(_MARK)
        elif code in b"}]":
            push({} if code == b"}" else [])
        elif code in _SHORT_TUPLES:
            push(tuple(reversed([self.pop() for _ in range(_SHORT_TUPLES[code])])))
        elif code == b"t":
            push(tuple(self.pop_to_mark()))
        elif code in b"ea":
            items = self.pop_to_mark() if code == b"e" else [self.pop()]
            self.top(list).extend(items)
        elif code in b"us":
            pairs = self.pop_to_mark() if code == b"u" else [self.pop(), self.pop()][::-1]
            self.set_items(pairs)
        elif code in b"c\x93":
            self.push_name(code)
        elif code == b"R":
            arguments, name = self.pop(), self.pop()
            push(self.describe(name, arguments))
        elif code == b"b":
            state = self.pop()
            self.build(state)
        elif code == b"\x8a":  # LONG1
            push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
        elif code == b"\x95":  # FRAME: a length for streaming readers
            self.take(8)
        elif code in b"ioR\x81\x92":  # INST, OBJ, NEWOBJ, NEWOBJ_EX: construct objects of other classes
            self.fail("its pickle builds objects, where plain data and uint8 arrays are expected")
        else:
            self.fail(f"its pickle has opcode {code!r} at byte {self.position - 1}, which no batch needs")

    def keep(self, index: int) -> None:
        value = self.pop()
        self.memo[index] = value
        self.stack.append(value)

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            self.fail(f"the pickle is damaged before byte {self.position}")
        return self.stack[-1]

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        # Scalar keys only: the hash of a deeply nested tuple could exhaust the C stack.
        if len(pairs) % 2 or not all(type(key) in (bytes, str, int) for key in pairs[::2]):
            self.fail(f"the pickle is damaged before byte {self.position}")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def push_name(self, code: bytes) -> None:
        if code == b"c":
            module, name = self.line(), self.line()
        else:
            name, module = self.pop(), self.pop()
            if type(module) is not str or type(name) is not str:
                self.fail(f"the pickle is damaged before byte {self.position}")
        role = _ADMITTED.get((module, name))
        if role is None:
            shown = f"{module[:80]}.{name[:80]}"
            shown = shown if shown.isprintable() else ascii(shown)
            self.fail(f"its pickle names {shown}, and only NumPy arrays are admitted")
        self.stack.append(_Name(role))

    def describe(self, name: object, arguments: object) -> object:
        """Return a record of the object that a call of `name` would create."""
        if not isinstance(name, _Name) or type(arguments) is not tuple:
            self.fail(f"the pickle is damaged before byte {self.position}")
        if name.role == "reconstruct":
            return ArrayRecord()
        if name.role == "dtype" and arguments:
            return _DtypeRecord(arguments[0])
        if name.role == "frombuffer" and len(arguments) == 4:
            values, dtype, shape, order = arguments
            return ArrayRecord(shape, dtype, order == "F", values)
        if name.role == "encode" and arguments and type(arguments[0]) is str:
            self.encoded += len(arguments[0])
            if self.encoded <= len(self.data):  # a bound for a text that is encoded repeatedly
                return arguments[0].encode("latin-1", "replace")
        self.fail(f"the pickle is damaged before byte {self.position}")

    def build(self, state: object) -> None:
        target = self.stack[-1] if self.stack else None
        if isinstance(target, ArrayRecord) and type(state) is tuple and len(state) == 5:
            _, target.shape, target.dtype, target.fortran, target.values = state
        elif not isinstance(target, _DtypeRecord):
            self.fail(f"the pickle is damaged before byte {self.position}")


def as_uint8_matrix(record: object, source: str, columns: int) -> np.ndarray:
    """Convert a record to a uint8 matrix with a given number of columns.

    Parameters
    ----------
    record : object
        A value in the result of `read_plain_pickle`.
    source : str
        Name of the file, for messages.
    columns : int
        Expected number of columns.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        C-contiguous; read-only if it shares memory with the file's bytes.

    Raises
    ------
    DataError
        If the record is not such an array.
    """
    if not isinstance(record, ArrayRecord):
        raise DataError(f"{source}: data is of type {type(record).__name__}, expected a uint8 array.")
    code = record.dtype.code if isinstance(record.dtype, _DtypeRecord) else None
    kind = code.decode("latin-1") if type(code) is bytes else code
    if type(kind) is not str or kind not in ("u1", "|u1"):
        shown = kind[:20] if type(kind) is str else "no name"
        raise DataError(f"{source}: data has dtype {shown}, expected uint8 (u1).")
    shape, values = record.shape, record.values
    if type(shape) is not tuple or len(shape) != 2 or any(type(n) is not int or n < 0 for n in shape):
        raise DataError(f"{source}: data has no shape of two sizes, expected (rows, {columns}).")
    if shape[1] != columns:
        raise DataError(f"{source}: data has shape {shape}, expected (rows, {columns}).")
    if type(values) is not bytes or len(values) != shape[0] * shape[1]:
        seen = f"{len(values)} bytes" if type(values) is bytes else f"a {type(values).__name__}"
        raise DataError(f"{source}: data holds {seen}, expected {shape[0] * shape[1]} bytes for {shape}.")
    flat = np.frombuffer(values, np.uint8)
    return np.ascontiguousarray(flat.reshape(shape, order="F" if record.fortran is True else "C"))
