"""A reader of files with Keras objects, written from ``docs/wire-format.md`` and nothing else.

It needs neither Keras nor NumPy nor the package, and executes nothing of a pickle: an object is
read as the call that makes it. Docstrings name the sections of the page.
"""

from __future__ import annotations

import hmac
import io
import json
import math
import pickletools
import struct
import zlib
from typing import Any, NamedTuple


class Global(NamedTuple):
    """A name that a pickle imports."""

    module: str
    name: str


class Call:
    """An object as the call that makes it: function, arguments and state."""

    def __init__(self, function: Global, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments, self.state = function, arguments, None


class Array(NamedTuple):
    """An array: the code of its dtype (``f4``), its shape, and its items in C order."""

    dtype: str
    shape: tuple[int, ...]
    items: bytes

    def values(self) -> list[Any]:
        """Return the items as a flat list."""
        return [value for (value,) in struct.iter_unpack("<" + _CODES[self.dtype], self.items)]


class Payload(NamedTuple):
    """A Keras object, as in the sections "Pickle level" and "JSON"."""

    kind: str
    header: dict[str, Any]
    config: dict[str, Any]
    compile_config: dict[str, Any] | None
    weights: dict[str, Array]
    assets: dict[tuple[str, str], Array]
    objects: tuple[Any, ...]
    state: dict[str, Any]

    def child(self, config: dict[str, Any]) -> Payload:
        """Return the part that a config refers to: section "Config"."""
        number = config["number" if self.header["family"] == "keras2" else "keras_reduce_child"]
        return payload(self.objects[number])


# Codes of `struct` for those of NumPy.
_CODES = {
    "b1": "?",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
}
# Section "Arrays".
_CARRIERS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_NAMES = {"f": "float", "i": "int", "u": "uint"}


def payload(call: Call) -> Payload:
    """Return the Keras object of a call: section "Pickle level"."""
    assert call.function.module == "keras_reduce.reducers", call.function
    given = (*call.arguments, *_DEFAULTS[len(call.arguments) :])
    text, arrays, compile_config, _, objects, *_ = given
    document = json.loads(text, object_hook=_without_pairs)
    header = document["header"]
    assert header["protocol"] == 1, "a protocol number of a later version"
    listed, others = header["weights"], header.get("assets", [])
    assert len(listed) + len(others) == len(arrays)
    for (*_, shape, dtype), array in zip([*listed, *others], arrays, strict=True):
        assert tuple(shape) == array.shape
        assert _CARRIERS.get(dtype, dtype) == _dtype_name(array.dtype)
    return Payload(
        call.function.name.removeprefix("rebuild_"),
        header,
        document["config"],
        None if compile_config is None else json.loads(compile_config, object_hook=_without_pairs),
        {path: array for (path, *_), array in zip(listed, arrays, strict=False)},
        {
            (path, name): array
            for (path, name, *_), array in zip(others, arrays[len(listed) :], strict=True)
        },
        objects,
        call.state or {},
    )


_DEFAULTS = (None, None, None, None, (), None, (), (), ())


def _dtype_name(code: str) -> str:
    return "bool" if code == "b1" else f"{_NAMES[code[0]]}{8 * int(code[1:])}"


def _without_pairs(node: dict[str, Any]) -> dict[Any, Any]:
    if node.keys() != {"keras_reduce_pairs"}:
        return node
    return {_as_key(key): value for key, value in node["keras_reduce_pairs"]}


def _as_key(key: Any) -> Any:
    return tuple(map(_as_key, key)) if isinstance(key, list) else key


# --- section "Files" --------------------------------------------------------------------------


class File(NamedTuple):
    """The parts of a file. Without a trailer, there is the content only.

    Attributes
    ----------
    content : bytes
        The pickle.
    extents : tuple of tuple
        Offset and length of each array.
    digests, digested : tuple of bytes
        The three digests, and the bytes that each is computed from.
    signature, signed : bytes
        The HMAC, and the bytes that it is computed from.
    """

    content: bytes
    extents: tuple[tuple[int, int], ...] = ()
    digests: tuple[bytes, ...] = ()
    digested: tuple[bytes, ...] = ()
    signature: bytes = b""
    signed: bytes = b""

    def is_signed_with(self, key: bytes) -> bool:
        """Tell whether the signature is one of this key."""
        key = key.removesuffix(b"\n").removesuffix(b"\r")
        message = b"keras_reduce signature 1\0" + self.signed
        return hmac.compare_digest(hmac.new(key, message, "sha256").digest(), self.signature)


def parted(data: bytes) -> File:
    """Return the parts of a file, which may be compressed by zlib."""
    if data[:1] == b"\x78":
        data = zlib.decompress(data)
    signature = signed = b""
    if data.endswith(b"keras_signed"):
        signature, (version, _) = data[-48:-16], struct.unpack("<I12s", data[-16:])
        assert version == 1
        data = signed = data[:-48]
    if not data.endswith(b"keras_reduce"):
        return File(data)
    footer = data[-80:]
    length, count, stream, arrays = struct.unpack("<QQ16s16s", footer[:48])
    version, _ = struct.unpack("<I12s", footer[64:])
    assert version == 1
    index = data[length:-80]
    assert len(index) == 16 * count
    extents = tuple(struct.iter_unpack("<QQ", index))
    content, between, items, position = data[:length], b"", b"", 0
    for start, size in extents:
        between += content[position:start]
        position = start + size
        items += content[start:position]
    return File(
        content,
        extents,
        (stream, arrays, footer[48:64]),
        (between + content[position:], items, index + footer[:48] + footer[64:]),
        signature,
        signed,
    )


# --- the pickle machine -----------------------------------------------------------------------


def load(data: bytes) -> Any:
    """Return the object in a file, of plain values, `Call` and `Array`."""
    return _Machine(io.BytesIO(parted(data).content)).run()


# Opcodes without an effect here.
_PASSED = ("PROTO", "FRAME", "READONLY_BUFFER")
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_WRAPPER = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
_RECONSTRUCT = [Global(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")]
_FROM_BUFFER = [Global(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")]


class _Machine:
    def __init__(self, file: io.BytesIO) -> None:
        self.file, self.stack, self.memo = file, [], {}

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.file):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif hasattr(self, f"on_{name.lower()}"):
                getattr(self, f"on_{name.lower()}")(argument)
            elif name.endswith("PUT"):
                self.memo[argument] = self.stack[-1]
            elif name.endswith("GET"):
                self.stack.append(self.memo[argument])
            elif argument is not None and name not in _PASSED:
                self.stack.append(argument)  # A number, a text, bytes.
            else:
                assert name in _PASSED, f"no reader for {name}"
        raise AssertionError("the pickle has no end")

    def top(self) -> list[Any]:
        """Take the items above the mark, and the mark, from the stack."""
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def last(self, count: int) -> list[Any]:
        """Take the last items from the stack."""
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def on_mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def on_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def on_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.top()))

    def on_tuple1(self, _: None) -> None:
        self.stack.append(tuple(self.last(1)))

    def on_tuple2(self, _: None) -> None:
        self.stack.append(tuple(self.last(2)))

    def on_tuple3(self, _: None) -> None:
        self.stack.append(tuple(self.last(3)))

    def on_empty_list(self, _: None) -> None:
        self.stack.append([])

    def on_append(self, _: None) -> None:
        (item,) = self.last(1)
        self.stack[-1].append(item)

    def on_appends(self, _: None) -> None:
        items = self.top()
        self.stack[-1].extend(items)

    def on_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def on_setitem(self, _: None) -> None:
        key, value = self.last(2)
        self.stack[-1][key] = value

    def on_setitems(self, _: None) -> None:
        items = self.top()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def on_global(self, name: str) -> None:
        self.stack.append(Global(*name.split(" ")))

    def on_stack_global(self, _: None) -> None:
        self.stack.append(Global(*self.last(2)))

    def on_reduce(self, _: None) -> None:
        function, arguments = self.last(2)
        if function == ("_codecs", "encode"):
            self.stack.append(arguments[0].encode(arguments[1]))
        elif function in _FROM_BUFFER:
            buffer, dtype, shape, order = arguments
            self.stack.append(_array(dtype, shape, order == "F", bytes(buffer)))
        else:
            self.stack.append(Call(function, arguments))

    on_newobj = on_reduce

    def on_build(self, _: None) -> None:
        (state,) = self.last(1)
        call = self.stack[-1]
        call.state = state
        if call.function == _WRAPPER:
            self.replace(call, self.array_that_follows(state))
        elif call.function in _RECONSTRUCT:
            _, shape, dtype, is_fortran, items = state
            self.replace(call, _array(dtype, shape, is_fortran, items))

    def replace(self, call: Call, array: Any) -> None:
        """Replace the call that makes an array by the array, on the stack and in the memo."""
        self.stack[-1] = array
        self.memo |= {number: array for number, each in self.memo.items() if each is call}

    def array_that_follows(self, state: dict[str, Any]) -> Any:
        """Read the items of an array: section "Files"."""
        code = state["dtype"].arguments[0]
        if code.startswith("O"):
            return _Machine(self.file).run()
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.read(self.file.read(1)[0])
        size = math.prod(state["shape"]) * int(code[1:])
        return _array(state["dtype"], state["shape"], state["order"] == "F", self.file.read(size))


def _array(dtype: Call, shape: tuple[int, ...], is_fortran: bool, items: Any) -> Any:
    code = dtype.arguments[0]
    if not isinstance(items, bytes):
        return items  # An array of objects.
    size = int(code[1:])
    if is_fortran and len(shape) > 1:
        items = _transposed(items, shape, size)
    return Array(code, tuple(shape), items)


def _transposed(items: bytes, shape: tuple[int, ...], size: int) -> bytes:
    """Return items that are in Fortran's order in C's."""
    steps = [math.prod(shape[:axis]) for axis in range(len(shape))]
    places = [0]
    for step, length in zip(steps, shape, strict=True):
        places = [place + step * number for place in places for number in range(length)]
    return b"".join(items[place * size : (place + 1) * size] for place in places)
