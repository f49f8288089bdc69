"""Golden files loaded in a program that has not written them: ``read_again.py FOLDER``.

Prints for each file an empty word, or the difference from the answers in its manifest.
"""

import json
import pickle
import sys
import traceback
import warnings
from pathlib import Path

import joblib

import checks
import objects
from keras_reduce import families, load


def read(path, container):
    if container == "pickle":
        return pickle.loads(path.read_bytes())
    return load(path) if container == "dump" else joblib.load(path)


def word(folder, name, manifest, keras):
    entry = manifest["files"][name]
    try:
        obj = read(folder / name, entry["container"])
        answer = json.loads(json.dumps(objects.answer(keras, obj, entry["kind"])))
        family = families.by_name(manifest["family"])
        same_backend = family.backend() == entry["versions"].get("backend", "tensorflow")
        return objects.difference(entry["said"], answer, same_backend=same_backend)
    except Exception:
        return traceback.format_exc()


def main(folder):
    # Files of another version of scikit-learn are read as well.
    warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
    manifest = json.loads((Path(folder) / "manifest.json").read_text())
    module = objects.framework(manifest["family"])
    checks.compute_eagerly()
    for name in checks.selected(manifest["files"]):
        module.backend.clear_session()
        words = {name: word(Path(folder), name, manifest, module)}
        print(f"\nWORDS {json.dumps(words)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
