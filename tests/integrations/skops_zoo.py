"""The zoo in files of skops, read by a process that trusts the names that each file lists.

``python skops_zoo.py write FOLDER`` writes the cases that pytest has selected, and ``read``
compares what comes back. Here the zoo is a module, so that its classes can be imported. A word is
empty if all is the same, else it says why a case was refused, or how it differs.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import skops.io

import keras_reduce
import transports
import zoo
from checks import selected
from keras_reduce import families


def write(folder: Path) -> dict[str, str]:
    words = {}
    for number, name in enumerate(selected(zoo.CASES)):
        families.active().set_random_seed(number)
        words[name] = transports.attempt(written, name, folder)
    return words


def written(name: str, folder: Path) -> str:
    obj, x, y = zoo.CASES[name]()
    try:
        skops.io.dump(obj, folder / f"{name}.skops")
    except keras_reduce.ReduceError as error:
        return f"{error.what}: {error.where}"
    expected = transports.outcome(obj, x, y)
    (folder / f"{name}.expected").write_bytes(pickle.dumps((expected, x, y)))
    return ""


def read(folder: Path) -> dict[str, str]:
    paths = sorted(folder.glob("*.expected"))
    return {path.stem: transports.attempt(arrival, path) for path in paths}


def arrival(path: Path) -> str:
    expected, x, y = pickle.loads(path.read_bytes())
    file = path.with_suffix(".skops")
    names = skops.io.get_untrusted_types(file=file)
    obj = skops.io.load(file, trusted=names)
    return transports.compare(expected, transports.outcome(obj, x, y))


if __name__ == "__main__":
    keras_reduce.install()
    role, target = sys.argv[1], Path(sys.argv[2])
    (target / f"{role}.json").write_text(json.dumps({"write": write, "read": read}[role](target)))
