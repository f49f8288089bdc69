"""Writer of golden files: pickles of this version, which later versions must load.

``python tests/golden/write.py`` writes the files of the current protocol for Keras 3 into
``tests/golden/protocol-N/keras3``, with a manifest of the versions that wrote them and of the
answers of the objects. It refuses to touch existing files, which must load for ever. ``--force`` is
for a protocol that no release has written yet. ``--add`` writes missing files, for new kinds of
objects.

``--note`` writes no golden files, but the wire format of the current pickles into
``wire/FAMILY-BACKEND.json``, so that tests notice changes. Run it with each backend; see `wire`.

``--family keras2`` writes the files of another family.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import os
import pickle
import platform
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import joblib

import keras_reduce
import objects
import wire
from keras_reduce import families
from keras_reduce.core import payload
from keras_reduce.files import trailer

HERE = Path(__file__).parent


def folder_of(family: str) -> Path:
    return HERE / f"protocol-{payload.PROTOCOL}" / family


def versions(family: str) -> dict[str, str]:
    """Return the versions of the packages that write the files."""
    installed = {
        "python": platform.python_version(),
        **families.by_name(family).versions(),
        **{name: importlib.metadata.version(name) for name in ("joblib", "cloudpickle", "numpy")},
        "scikit-learn": importlib.metadata.version("scikit-learn"),
    }
    return {"keras_reduce": keras_reduce.__version__, **installed}


def dump(obj: Any, path: Path, container: str) -> None:
    if container == "pickle":
        path.write_bytes(pickle.dumps(obj, protocol=4))
    elif container == "dump":
        keras_reduce.dump(obj, path)
    else:
        joblib.dump(obj, path, compress=3 if container == "joblib.z" else 0)


def make(family: str, keras: Any) -> Iterator[tuple[str, objects.Golden, Any]]:
    """Yield the objects of a family that exist with this backend."""
    code = importlib.import_module(f"golden_code_{family}")
    backend = families.by_name(family).backend()
    for name, golden in objects.OBJECTS.items():
        if family in golden.families and golden.backend in (None, backend):
            keras.backend.clear_session()
            keras.utils.set_random_seed(1)
            yield name, golden, golden.build(keras, code)


def describe(family: str, keras: Any) -> dict[str, Any]:
    """Return the wire format of the pickle of each object."""
    return {name: wire.describe(pickle.dumps(obj)) for name, _, obj in make(family, keras)}


def write(folder: Path, family: str, keras: Any, existing: Collection[str]) -> dict[str, Any]:
    """Write the files of all objects that are not `existing`; return entries for the manifest."""
    entries: dict[str, Any] = {}
    for name, golden, obj in make(family, keras):
        if name in existing:
            continue
        said = objects.answer(keras, pickle.loads(pickle.dumps(obj)), golden.kind)
        for container in golden.containers:
            path = folder / f"{name}.{container}"
            dump(obj, path, container)
            entries[path.name] = {
                "object": name,
                "kind": golden.kind,
                "container": container,
                "backend": golden.backend,
                "python": platform.python_version() if golden.by_value else None,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "said": said,
            }
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="keras3")
    parser.add_argument("--into", type=Path, help="another folder, or file of the format")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="replace the files that are there")
    how.add_argument("--add", action="store_true", help="write the files that are missing")
    how.add_argument("--note", action="store_true", help="note the format of what is written now")
    options = parser.parse_args()
    keras = objects.framework(options.family)
    keras_reduce.install()
    if options.note:
        text = json.dumps(describe(options.family, keras), indent=1)
        name = f"{options.family}-{families.by_name(options.family).backend()}.json"
        (options.into or HERE / "wire" / name).write_text(f"{text}\n")
        return
    folder = options.into or folder_of(options.family)
    manifest, existing = folder / "manifest.json", {}
    if options.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif options.add and manifest.exists():
        existing = json.loads(manifest.read_text())["files"]
    elif folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} has files: raise payload.PROTOCOL, or see --help")
    folder.mkdir(parents=True, exist_ok=True)
    files = write(folder, options.family, keras, {entry["object"] for entry in existing.values()})
    said = versions(options.family)
    files = {name: {**entry, "versions": said} for name, entry in files.items()}
    # One line per file.
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted({**existing, **files}.items())]
    head = {"protocol": payload.PROTOCOL, "family": options.family, "format": trailer.VERSION}
    start = json.dumps({**head, "files": {}}).removesuffix("}}")
    manifest.write_text("\n".join([start, ",\n".join(lines), "}}", ""]))
    print(f"{len(files)} files in {folder}")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Some pickles contain sets. With a fixed order, the files are the same each time, except
        # for code by value, in which cloudpickle puts an id of the process.
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    main()
