"""Random damage to files: loading must raise our error, return the content, or be a documented gap.

``python mutations.py 20000 [seed]`` prints a table of the outcomes by way of loading, and fails if
one is not allowed. Loading runs in its own process, so that a crash is an outcome as well; loading
without a digest (verify=False) comes last.
"""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import keras_reduce
from keras_reduce.files.sources import MemorySource
from keras_reduce.files.trailer import Trailer

COMPRESSORS = {"plain": 0, "zlib": ("zlib", 3), "lzma": ("lzma", 1)}
# For each way to load: its options, its weight, and the files that it is for.
WAYS = {
    "default": ({}, 10, tuple(COMPRESSORS)),
    "bytes": ({}, 4, tuple(COMPRESSORS)),
    "mapped": ({"mmap_mode": "r"}, 2, ("plain",)),
    "mapped, verified": ({"mmap_mode": "c", "verify": True}, 3, ("plain",)),
    "unverified": ({"verify": False}, 3, ("plain", "plain", "plain", "zlib", "lzma")),
    "mapped, unverified": ({"mmap_mode": "c", "verify": False}, 1, ("plain",)),
}
PATIENCE = 60  # seconds per load


def build(units=4):
    import keras

    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model


def content():
    import keras

    keras.utils.set_random_seed(0)
    estimator = keras_reduce.KerasRegressor(build, units=5, epochs=1)
    estimator.fit(np.ones((8, 3)), np.ones(8))
    return {"model": build(), "estimator": estimator, "array": np.arange(2000.0)}


def fingerprint(loaded):
    """Return the bytes and parameters of all objects of `content`, for comparison."""
    models = [loaded["model"], loaded["estimator"].model_]
    return (
        sorted(loaded),
        [model.to_json() for model in models],
        [[w.tobytes() for w in model.get_weights()] for model in models],
        [[np.asarray(v).tobytes() for v in model.optimizer.variables] for model in models],
        {k: v for k, v in loaded["estimator"].get_params().items() if not callable(v)},
        loaded["estimator"].get_params()["build_fn"].__code__.co_code,
        loaded["array"].tobytes(),
    )


# --- damage --------------------------------------------------------------------------------------


def truncate(data, chance):
    return data[: chance.randrange(len(data))]


def flip_one(data, chance):
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return data


def flip_bit(data, chance):
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def flip_several(data, chance):
    for _ in range(chance.randrange(2, 20)):
        flip_one(data, chance)
    return data


def block(data, chance):
    start = chance.randrange(len(data))
    return start, min(len(data), start + chance.choice([1, 4, 16, 64, 512, 4096]))


def zero(data, chance):
    start, stop = block(data, chance)
    data[start:stop] = bytes(stop - start)
    return data


def swap(data, chance):
    (a, b), (c, d) = sorted([block(data, chance), block(data, chance)])
    size = min(b - a, d - c, max(c - a, 1))
    data[a : a + size], data[c : c + size] = data[c : c + size], data[a : a + size]
    return data


def insert(data, chance):
    start, stop = block(data, chance)
    data[start:start] = chance.choice([data[start:stop], bytes(stop - start)])
    return data


def append(data, chance):
    return data + chance.randbytes(chance.randrange(1, 100))


def delete(data, chance):
    start, stop = block(data, chance)
    del data[start:stop]
    return data


DAMAGE = [truncate, flip_one, flip_bit, flip_several, zero, swap, insert, append, delete]


def mutation(seed, number, originals):
    """Return the way to load, compressor, kind of damage and damaged bytes of mutation `number`."""
    chance = random.Random(f"{seed} {number}")
    names = list(WAYS)
    (way,) = chance.choices(names, [WAYS[name][1] for name in names])
    compressor = chance.choice(WAYS[way][2])
    while True:
        damage = chance.choice(DAMAGE)
        damaged = bytes(damage(bytearray(originals[compressor]), chance))
        if damaged != originals[compressor]:
            return way, compressor, damage.__name__, damaged


# --- outcomes ------------------------------------------------------------------------------------


class Hang(BaseException):
    pass


@contextlib.contextmanager
def limited():
    def stop(*_):
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def outcome(way, compressor, damaged, path, originals, expected):
    """Load, and return "refused", "same", "gap" or the text of a forbidden outcome."""
    options = WAYS[way][0]
    try:
        with limited():
            if way == "bytes":
                loaded = keras_reduce.loads(damaged, **options)
            else:
                path.write_bytes(damaged)
                loaded = keras_reduce.load(path, **options)
    except keras_reduce.KerasReduceError as error:
        complete = error.what and error.cause and error.cure
        return "refused" if complete else f"an error without cause and cure: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    if options.get("verify") is False:
        return "gap"
    if fingerprint(loaded) == expected:
        return "same"
    if way == "mapped" and outside_arrays(damaged) == outside_arrays(originals[compressor]):
        return "gap"
    return "SILENTLY WRONG"


def outside_arrays(data):
    trailer = Trailer.read(MemorySource([memoryview(data)], ""))
    data = bytearray(data)
    for offset, length in trailer.extents:
        data[offset : offset + length] = bytes(length)
    return bytes(data)


def run(seed, start, count, folder):
    """Print two lines for each mutation; those that are loaded without a digest come last."""
    folder = Path(folder)
    originals = {name: (folder / name).read_bytes() for name in COMPRESSORS}
    expected = fingerprint(keras_reduce.load(folder / "plain"))
    for position in range(start, 2 * count):
        way, compressor, damage, damaged = mutation(seed, position % count, originals)
        is_unverified = position >= count
        if (WAYS[way][0].get("verify") is False) is not is_unverified:
            continue
        print(json.dumps([position, way, compressor, damage]), flush=True)
        path = folder / f"damaged{os.getpid()}"
        verdict = outcome(way, compressor, damaged, path, originals, expected)
        print(json.dumps(verdict), flush=True)


def results(seed, count, folder):
    """Yield number, way, compressor, damage and outcome, from processes that may crash."""
    start = 0
    while start < 2 * count:
        process = subprocess.Popen(
            [sys.executable, __file__, "run", str(seed), str(start), str(count), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        pending = None
        for line in process.stdout:
            if not line.startswith(("[", '"')):
                continue
            value = json.loads(line)
            if isinstance(value, list):
                pending = value
            elif pending:
                position, *mutated = pending
                yield (position % count, *mutated, value)
                start, pending = position + 1, None
        if process.wait() == 0:
            return
        assert pending, f"exit {process.returncode} before the first mutation"
        position, *mutated = pending
        yield (position % count, *mutated, f"ABORT, exit {process.returncode}")
        start = position + 1


def main(count, seed=0):
    table = collections.Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        obj = content()
        for name, compress in COMPRESSORS.items():
            keras_reduce.dump(obj, Path(folder, name), compress)
        for number, way, compressor, damage, verdict in results(seed, count, folder):
            if verdict in ("refused", "same", "gap"):
                table[f"{way}, {compressor}: {verdict}"] += 1
            else:
                wrong.append([number, way, compressor, damage, verdict])
    print("\nTABLE " + json.dumps({"table": dict(sorted(table.items())), "wrong": wrong}))
    return bool(wrong)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        *numbers, folder = sys.argv[2:]
        run(*map(int, numbers), folder)
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
