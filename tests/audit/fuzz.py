"""Fuzzer for the readers of untrusted files: mutations of real files, and random pickles.

``python fuzz.py SECONDS SEED [CASES]`` mutates files of many kinds, and reads each with `inspect`,
with `load` and ``trusted=``, and with the reader of payloads. Only errors of this package are
allowed, and for trusted payloads also those of the framework. Time and memory of a case must be
limited by its size. The last line of the output is a table of outcomes. A case with a forbidden
outcome is written to ``fuzz-*.bin`` in the current folder; the current case is in
``fuzz-SEED.last`` if the process crashes.
"""

from __future__ import annotations

import collections
import gzip
import io
import json
import pickle
import pickletools
import random
import signal
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_reduce import KerasReduceError, dumps, inspect, load
from keras_reduce.audit import trust_policy
from process_memory import in_bytes

GOLDEN = Path(__file__).parents[1] / "golden" / "protocol-1" / "keras3"
TRUSTED = ["golden_code_keras3.", "golden_code_tensorflow."]
PATIENCE = 30  # seconds per case
MOST = 600 << 20  # bytes by which the memory of all cases may grow

# Opcodes, names and numbers to insert at random positions.
OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NAMES = [
    b"cos\nsystem\n",
    b"cbuiltins\ngetattr\n",
    b"cbuiltins\nset\n",
    b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n",
    b"ccopyreg\n_reconstructor\n",
    b"cnumpy.random._pickle\n__generator_ctor\n",
    b"ccollections\ndefaultdict\n",
    b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n",
    b"ckeras_reduce.reducers\nrebuild_model\n",
    b"ccollections\ndeque\n",
    b"cnumpy\nndarray\n",
    b"cnumpy.ma.core\n_mareconstruct\n",
]
NUMBERS = [b"\xff" * 4, b"\x7f" + b"\xff" * 7, b"\0" * 8, b"\x80" * 4, b"\1\0\0\0\0\0\0\x80"]


def seeds():
    """Return the files to mutate."""
    files = [path.read_bytes() for path in sorted(GOLDEN.iterdir()) if path.suffix != ".json"]
    x, y = np.arange(40.0).reshape(10, 4), np.arange(10) % 2
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    held = {"p": pipeline, "o": np.array([{}, "a", None]), "f": np.asfortranarray(x), "s": {1, 2}}
    files += [pickle.dumps(held, protocol) for protocol in range(6)]
    for compress in (0, ("zlib", 1), ("gzip", 1), ("bz2", 1), ("lzma", 0)):
        file = io.BytesIO()
        joblib.dump(held, file, compress)
        files += [file.getvalue(), dumps(held, compress), dumps(held, compress, key=b"k" * 16)]
    return files


def mutated(data, others, rng):
    """Return `data` with a few random changes that may mislead readers."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 12))):
        position, kind = rng.randrange(len(changed) + 1), rng.randrange(9)
        if kind == 0 and changed:
            changed[min(position, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[position : position + rng.choice((1, 2, 4, 8, 64))]
        elif kind == 2:
            changed[position:position] = rng.choice(OPCODES)
        elif kind == 3:
            changed[position:position] = rng.choice(NAMES) + rng.choice((b"", b")R", b"(tR", b"}b"))
        elif kind == 4:
            number = rng.choice(NUMBERS)
            changed[position : position + len(number)] = number
        elif kind == 5:
            start = rng.randrange(len(changed) + 1)
            piece = changed[start : start + rng.choice((1, 5, 20, 200))]
            changed[position:position] = piece * rng.choice((1, 2, 50))
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            changed[position:position] = other[start : start + rng.choice((10, 100, 1000))]
        elif kind == 7:
            del changed[position:]
        else:
            changed = _with_another_text(changed, rng)
    return bytes(changed)


def _with_another_text(data, rng):
    """Change a number or a word in the JSON of a payload, if there is one."""
    spots = [i for i in range(len(data)) if data[i : i + 1] in (b"0", b"1", b"2", b'"', b"[", b"{")]
    if not spots:
        return data
    spot = rng.choice(spots)
    words = (b"9", b"-1", b"null", b"true", b'"x"', b"[]", b"{}", b"1e999", b"99999999999999999999")
    data[spot : spot + 1] = rng.choice(words)
    return data


def program(rng):
    """Return a random pickle with a valid stack that calls functions from the allowlists."""
    parts, depth = [b"\x80\x04"], 0
    names = sorted(trust_policy.CONSTRUCTORS | trust_policy.REFERENCES)
    for _ in range(rng.randrange(4, 60)):
        choices = [(_value(rng), 1), (b"c%b\n%b\n" % _split(rng.choice(names)), 1)]
        choices += [(b")", 1), (b"]", 1), (b"}", 1), (b"\x8f", 1)]
        if depth >= 1:
            choices += [(b"\x85", 0), (b"\x94", 0), (b"2", 1)]
        if depth >= 2:
            choices += [(code, -1) for code in (b"\x86", b"a", b"R", b"R", b"\x81", b"b")]
        if depth >= 3:
            choices += [(b"\x87", -2), (b"s", -2), (b"\x92", -2)]
        code, change = rng.choice(choices)
        parts.append(code)
        depth += change
    return b"".join(parts) + b"0" * (depth - 1) + b"."


def _split(name):
    module, _, name = name.rpartition(".")
    return module.encode(), name.encode()


def _value(rng):
    """Return opcodes for a value that often occurs in arguments and states."""
    values = (
        0,
        1,
        -1,
        3,
        255,
        1 << 31,
        1 << 62,
        1.5,
        float("nan"),
        None,
        True,
        "f8",
        "O",
        "latin1",
        "<",
        "C",
        "b",
        "text",
        b"",
        b"12345678",
        b"\x80\x04N.",
        (0,),
        (1,),
        (2, 3),
        (),
        [1],
        {},
        (3, "<", None, None, None, -1, -1, 0),
        (1, (1,), None, False, b"12345678"),
        {"a": 1},
    )
    return pickle.dumps(rng.choice(values), 4)[2:-1].replace(b"\x94", b"")


def packed(data, rng):
    """Compress some of the mutations."""
    kind = rng.randrange(12)
    if kind == 0:
        return zlib.compress(data, 1)
    return gzip.compress(data, 1) if kind == 1 else data


def by_inspecting(path, data):
    report = inspect(path)
    report.to_json()
    report.to_html()
    return "reports"


def by_trusting(path, data):
    load(path, verify=False, trusted=TRUSTED)
    return "loads"


def by_trusting_mapped(path, data):
    load(path, "c", verify=False, trusted=[])
    return "loads"


READERS = (by_inspecting, by_trusting, by_trusting_mapped)


class SlowError(BaseException):
    """A case has taken too long."""


def on_alarm(*_):
    raise SlowError


def main(seconds, seed, most=10**9):
    rng = random.Random(seed)
    files = seeds()
    sys.path.insert(0, str(GOLDEN.parents[1]))
    table, wrong, last = collections.Counter(), [], Path(f"fuzz-{seed}.last")
    signal.signal(signal.SIGALRM, on_alarm)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case")
        for reader in READERS:  # Imports at the first use must not count for any case.
            path.write_bytes(files[-3])
            reader(path, files[-3])
        by_trusting(GOLDEN / "sequential.dump", b"")
        before = in_bytes("VmHWM")
        end = time.monotonic() + seconds
        cases = 0
        while time.monotonic() < end and cases < most:
            data = program(rng) if rng.randrange(3) == 0 else mutated(rng.choice(files), files, rng)
            data = packed(data, rng)
            path.write_bytes(data)
            last.write_bytes(data)
            for reader in READERS:
                word = _word(reader, path, data)
                table[f"{reader.__name__}: {word.splitlines()[0]}"] += 1
                grown = in_bytes("VmHWM") - before
                if word.startswith("WRONG") or grown > MOST:
                    name = f"fuzz-{seed}-{cases}-{reader.__name__}.bin"
                    Path(name).write_bytes(data)
                    wrong.append(f"{name}: {word}; memory grown by {grown >> 20} MiB")
                    before += max(grown - MOST, 0)
                    print(wrong[-1], file=sys.stderr, flush=True)
            cases += 1
    last.unlink(missing_ok=True)
    print("TABLE", json.dumps({"cases": cases, "table": table, "wrong": wrong}))


def _word(reader, path, data):
    signal.alarm(PATIENCE)
    try:
        return reader(path, data)
    except KerasReduceError as error:
        return type(error).__name__
    except SlowError:
        return f"WRONG: took more than {PATIENCE} seconds"
    except BaseException:
        return "WRONG: " + traceback.format_exc(limit=-6)
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
