"""Make a process look as if it had other things installed; Python imports this when it starts.

``HIDDEN`` names a module that is not there, ``KERAS_VERSION`` the version that Keras claims to be,
``IMPORTED_WITH`` a backend with which Keras seems to have been imported already.
"""

import importlib.metadata
import os
import sys
import types


class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ["HIDDEN"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if "HIDDEN" in os.environ:
    sys.meta_path.insert(0, Hiding())

if "IMPORTED_WITH" in os.environ:
    keras = sys.modules["keras"] = types.ModuleType("keras")
    keras.config = types.SimpleNamespace(backend=lambda: os.environ["IMPORTED_WITH"])
    keras.__version__ = importlib.metadata.version("keras")

_version = importlib.metadata.version


def version(name):
    if name == os.environ.get("HIDDEN"):
        raise importlib.metadata.PackageNotFoundError(name)
    if name == "keras" and "KERAS_VERSION" in os.environ:
        return os.environ["KERAS_VERSION"]
    return _version(name)


importlib.metadata.version = version
