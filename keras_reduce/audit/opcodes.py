"""Description of a pickle from its opcodes, without executing it.

The opcodes are decoded by `pickletools` of the standard library, one at a time, so that the bytes
of arrays, which joblib writes between them, can be skipped. (fickling, which decompiles pickles to
Python, would decode them as opcodes.) A stack machine builds descriptions: a call of a global with
arguments and a state, a list, a number. For any pickle they are plain data.

Where a loader might do something else than the description, reading ends with a reason.
"""

from __future__ import annotations

import _compat_pickle
import math
import pickletools
import re
from collections.abc import Callable
from typing import IO, Any, cast

from ..files.sources import Source
from .arrays import dtype_of, is_shape
from .descriptions import (
    Array,
    Bytes,
    Call,
    Global,
    Items,
    Pairs,
    Reading,
    Unknown,
    is_method_of_keras,
)
from .trust_policy import BY_VALUE

__all__ = ["read"]


class _EndedError(Exception):
    """Reading ends early."""


_DEEPEST = 40  # pickles in arrays of objects in pickles
_MOST = 10_000_000  # opcodes, each of which needs some hundred bytes of memory
_CODES = {each.code: each for each in pickletools.opcodes}


def read(source: Source) -> Reading:
    """Read all pickles of a source, until its end or an error."""
    reading = Reading()
    while source.left():
        start, machine = source.tell(), _Machine(source, reading)
        try:
            reading.objects.append(machine.run())
        except (_EndedError, ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}".removeprefix("_EndedError: ")
            if isinstance(error, (KeyError, IndexError)):
                reason = "it refers to something that is not in it"
            reading.ended = f"at byte {source.tell()} of {source.size}: {reason}"
            if reading.objects and source.tell() - start < 64:
                reading.ended = f"before {source.size - start} bytes that are no pickle ({reason})"
            elif reading.protocols or reading.globals:
                # Not a pickle by chance: its partial contents are reported.
                reading.objects.append(machine.remains())
            break
    return reading


class _Machine:
    """Stack machine for the opcodes of one pickle."""

    def __init__(
        self, source: Source, reading: Reading, depth: int = 0, *, has_arrays: bool = True
    ) -> None:
        self._source, self._reading, self._depth = source, reading, depth
        # False for nested pickles, in which joblib reads no arrays.
        self._has_arrays = has_arrays
        self._frame_end = self._protocol = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[Any, Any] = {}

    def run(self) -> Any:
        if self._depth > _DEEPEST:
            raise _EndedError("pickles are nested too deeply")
        while code := self._source.read(1).decode("latin1"):
            opcode = _CODES.get(code)
            if opcode is None:
                raise _EndedError(f"there is no opcode {code!r}")
            self._reading.opcodes += 1
            if self._reading.opcodes > _MOST:
                raise _EndedError(f"it has more than {_MOST:,} opcodes")
            name, argument = opcode.name, None
            if name in ("GLOBAL", "INST"):
                # In UTF-8 and with any spaces, as unpicklers read them.
                argument = tuple(self._source.readline()[:-1].decode() for _ in range(2))
            elif opcode.arg is not None:
                # A source limits reads to its size.
                argument = opcode.arg.reader(cast(IO[bytes], self._source))
            if name == "STOP":
                return self._stack.pop()
            if name in _PLAIN:
                self._stack.append(argument)
            else:
                method: Callable[[Any], None] | None = getattr(self, f"_{name.lower()}", None)
                if method is None:
                    raise _EndedError(f"the opcode {name} is not known")
                method(argument)
        raise _EndedError("the pickle has no end")

    def remains(self) -> Items:
        """Return the objects of an incomplete pickle."""
        return Items(
            "incomplete pickle", [each for level in self._marks for each in level] + self._stack
        )

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    # --- values ------------------------------------------------------------------------------

    def _proto(self, number: int) -> None:
        self._protocol = number
        self._reading.protocols.add(number)

    def _frame(self, size: int) -> None:
        self._frame_end = self._source.tell() + size

    def _none(self, _: None) -> None:
        self._push(None)

    def _newtrue(self, _: None) -> None:
        self._push(True)

    def _newfalse(self, _: None) -> None:
        self._push(False)

    def _bytes(self, data: bytes) -> None:
        self._push(Bytes(data))

    _binbytes = _short_binbytes = _binbytes8 = _bytearray8 = _bytes

    def _next_buffer(self, _: None) -> None:
        self._push(Unknown("a buffer that is not in the file"))

    def _readonly_buffer(self, _: None) -> None:
        """Do nothing: the buffer stays on the stack."""

    def _empty_list(self, _: None) -> None:
        self._push(Items("list", []))

    def _empty_set(self, _: None) -> None:
        self._push(Items("set", []))

    def _empty_dict(self, _: None) -> None:
        self._push(Pairs([]))

    def _empty_tuple(self, _: None) -> None:
        self._push(())

    def _list(self, _: None) -> None:
        self._push_after(lambda items: Items("list", items))

    def _frozenset(self, _: None) -> None:
        self._push_after(lambda items: Items("frozenset", items))

    def _dict(self, _: None) -> None:
        self._push_after(lambda items: Pairs(_paired(items)))

    def _tuple(self, _: None) -> None:
        self._push_after(tuple)

    def _push_after(self, make: Callable[[list[Any]], Any]) -> None:
        items = self._since_mark()
        self._push(make(items))

    def _tuple1(self, _: None) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    def _tuple2(self, _: None) -> None:
        self._stack[-2:] = [(self._stack[-2], self._stack[-1])]

    def _tuple3(self, _: None) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    # --- stack and memo ----------------------------------------------------------------------

    def _mark(self, _: None) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: None) -> None:
        self._since_mark()

    def _dup(self, _: None) -> None:
        self._push(self._stack[-1])

    def _put(self, key: Any) -> None:
        self._memo[key] = self._stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, key: Any) -> None:
        self._push(self._memo[key])

    _binget = _long_binget = _get

    # --- containers --------------------------------------------------------------------------

    def _append(self, _: None) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    _additems = _appends

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, (Items, Call)):
            target.items.extend(values)
        else:
            self._odd(f"items are added to {_kind(target)}")

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([(key, value)])

    def _setitems(self, _: None) -> None:
        self._update(_paired(self._since_mark()))

    def _update(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self._stack[-1]
        if isinstance(target, (Pairs, Call)):
            target.pairs.extend(pairs)
        else:
            self._odd(f"keys are set in {_kind(target)}")

    # --- names and calls ---------------------------------------------------------------------

    def _name(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            self._odd("the name of a global is computed, and known only after loading")
            return Unknown("a name that is computed")
        if self._protocol < 3:
            # Private: the names of Python 2, as unpicklers map them.
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        named_global = Global(module, name)
        self._reading.globals[named_global] += 1
        return named_global

    def _global(self, argument: tuple[str, str]) -> None:
        self._push(self._name(*argument))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._name(module, name))

    def _ext1(self, code: int) -> None:
        self._push(self._name("copyreg extension", str(code)))

    _ext2 = _ext4 = _ext1

    def _persid(self, number: Any) -> None:
        self._odd("a persistent id, which only the loading program can resolve")
        shown = repr(number)[:40] if isinstance(number, str) else f"a {_kind(number)}"
        self._push(Unknown(f"persistent id {shown}"))

    def _binpersid(self, _: None) -> None:
        self._persid(self._stack.pop())

    def _call(self, function: Any, arguments: Any, named: Any = None) -> None:
        if isinstance(arguments, Items) and arguments.kind == "list":
            self._odd("a call is given its arguments as a list")
            arguments = tuple(arguments.items)
        elif not isinstance(arguments, tuple):
            self._odd("the arguments of a call are computed")
        if isinstance(function, Global):
            self._reading.called.add(function)
            if function.path in _CALLING and isinstance(arguments, tuple):
                self._reading.called.update(each for each in arguments if isinstance(each, Global))
        elif not _is_expected(function):
            self._odd("the function of a call is computed, and known only after loading")
        call = Call(function, arguments, named)
        self._reading.calls.append(call)
        self._push(call)

    def _reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._call(function, arguments)

    _newobj = _reduce

    def _newobj_ex(self, _: None) -> None:
        named, arguments, function = (self._stack.pop() for _ in range(3))
        self._call(function, arguments, named)

    def _inst(self, argument: tuple[str, str]) -> None:
        arguments = tuple(self._since_mark())
        self._call(self._name(*argument), arguments)

    def _obj(self, _: None) -> None:
        function, *arguments = self._since_mark()
        self._call(function, tuple(arguments))

    def _build(self, _: None) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, Call):
            self._odd(f"the state of {_kind(target)} is set")
            return
        if target.state is not None:
            self._odd("the state of an object is set twice")
        target.state = state
        if self._has_arrays and self._may_be_array(target):
            self._stack[-1] = self._array(state)

    def _odd(self, what: str) -> None:
        self._reading.odd[what] = None

    # --- arrays of joblib's ------------------------------------------------------------------

    def _may_be_array(self, target: Call) -> bool:
        """Return whether joblib reads an array after the state of an object is set."""
        function, arguments = target.function, target.arguments
        if function == _WRAPPER and arguments == ():
            return True
        if function == _RECONSTRUCTOR and arguments == (_WRAPPER, _OBJECT, None):
            return True
        if not isinstance(function, Global) and not _is_expected(function):
            raise _EndedError("the class of an object is computed, and may be an array's wrapper")
        names = (function, *(arguments if isinstance(arguments, tuple) else ()))
        if any(isinstance(name, Global) and _WRAPPERS.search(name.name) for name in names):
            raise _EndedError("the wrapper of an array is not one that joblib writes")
        return False

    def _array(self, state: Any) -> Array:
        """Skip the bytes of an array; return its description."""
        attributes = state.plain() if isinstance(state, Pairs) else None
        if attributes is None or self._source.tell() < self._frame_end:
            raise _EndedError("the wrapper of an array is not one that joblib writes")
        shape: Any = attributes.get("shape")
        dtype = dtype_of(attributes.get("dtype"))
        if dtype is None or not is_shape(shape):
            raise _EndedError("the wrapper of an array is not one that joblib writes")
        self._reading.holds_arrays = True
        if dtype.name == "object":
            nested = _Machine(self._source, self._reading, self._depth + 1, has_arrays=False)
            return Array(dtype.name, shape, 0, nested.run())
        if attributes.get("numpy_array_alignment_bytes") is not None:
            (padding,) = self._source.read(1) or (0,)
            self._source.skip(min(padding, self._source.left()))
        size = math.prod(shape) * dtype.size
        if size > self._source.left():
            raise _EndedError("an array is longer than the rest of the file")
        self._source.skip(size)
        return Array(dtype.name, shape, size)


# Opcodes with the value as their argument.
_PLAIN = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
    }
)
_WRAPPER = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
# Wrappers under any module name, including those of old releases, which read other files.
_WRAPPERS = re.compile("ArrayWrapper$")
_RECONSTRUCTOR, _OBJECT = Global("copyreg", "_reconstructor"), Global("builtins", "object")
_CALLING = ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")


def _is_expected(function: Any) -> bool:
    """Return whether picklers write calls of a function that is itself the result of this call."""
    if not isinstance(function, Call) or not isinstance(function.function, Global):
        return False
    # Functions by value are reported as code in the file.
    return function.function.path.startswith(BY_VALUE) or is_method_of_keras(function)


def _paired(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _kind(value: Any) -> str:
    return f"the name {value.path}" if isinstance(value, Global) else type(value).__name__.lower()
