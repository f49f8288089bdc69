"""Allowlist of the globals that a pickle may import or call when it is loaded with ``trusted=``.

Unpickling imports globals and calls some of them. A few names are enough for any program:
``os.system``, or ``getattr`` and others. So only globals in a list are allowed, in one of this
module or in the user's. `CONSTRUCTORS` may be called: with any arguments they build a value and do
nothing else. `REFERENCES` may be imported, but no pickle has a reason to call them.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import UntrustedError

__all__ = ["BY_VALUE", "Policy", "active", "classify", "using"]


CONSTRUCTORS = frozenset(
    {
        "_codecs.encode",
        "_io.BytesIO",
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.object",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.deque",
        "copyreg.__newobj__",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "keras.src.layers.input_spec.InputSpec",
        "keras.src.layers.preprocessing.feature_space.Cross",
        "keras.src.layers.preprocessing.feature_space.Feature",
        "keras.src.quantizers.quantizers.AbsMaxQuantizer",
        "keras.src.wrappers.sklearn_wrapper.SKLearnClassifier",
        "keras.src.wrappers.sklearn_wrapper.SKLearnRegressor",
        "keras.src.wrappers.sklearn_wrapper.SKLearnTransformer",
        "keras.src.wrappers.utils.TargetReshaper",
        "keras_reduce.identities.rebuild_identity",
        "keras_reduce.scikeras.utils.transformers.ClassifierLabelEncoder",
        "keras_reduce.scikeras.utils.transformers.Identity",
        "keras_reduce.scikeras.utils.transformers.RegressorTargetEncoder",
        "keras_reduce.scikeras.wrappers.BaseWrapper",
        "keras_reduce.scikeras.wrappers.KerasClassifier",
        "keras_reduce.scikeras.wrappers.KerasRegressor",
        "keras_reduce.scikeras.wrappers.KerasTransformer",
        "keras_reduce.weak_references.rebuild_weak_attribute",
        "keras_reduce.wrappers.KerasClassifier",
        "keras_reduce.wrappers.KerasRegressor",
        "keras_reduce.wrappers.KerasTransformer",
        "numpy._core._internal._convert_to_stringdtype_kwargs",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ma.core._mareconstruct",
        "numpy.random._generator.Generator",
        "numpy.random._mt19937.MT19937",
        "numpy.random._pcg64.PCG64",
        "numpy.random._pcg64.PCG64DXSM",
        "numpy.random._philox.Philox",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "numpy.random._sfc64.SFC64",
        "numpy.random.bit_generator.SeedSequence",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
        "numpy.random.mtrand.RandomState",
        "pathlib.PosixPath",
        "pathlib.PurePath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.metrics._dist_metrics.newObj",
        "sklearn.neighbors._ball_tree.newObj",
        "sklearn.neighbors._kd_tree.newObj",
        "types.SimpleNamespace",
        "uuid.UUID",
    }
)
REFERENCES = frozenset(
    {
        "builtins.bool",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.str",
        "builtins.tuple",
        "numpy.amax",
        "numpy.amin",
        "numpy.argmax",
        "numpy.argmin",
        "numpy.average",
        "numpy.ma.MaskedArray",
        "numpy.ma.core.MaskedArray",
        "numpy.matrix",
        "numpy.max",
        "numpy.mean",
        "numpy.median",
        "numpy.min",
        "numpy.nanmax",
        "numpy.nanmean",
        "numpy.nanmedian",
        "numpy.nanmin",
        "numpy.nanstd",
        "numpy.nansum",
        "numpy.nanvar",
        "numpy.ndarray",
        "numpy.prod",
        "numpy.ptp",
        "numpy.std",
        "numpy.sum",
        "numpy.var",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
    }
)
# Packages of which some classes and functions are trusted by their kind, after the import.
PACKAGES = ("numpy", "scipy", "sklearn", "keras", "tf_keras")
# Parts of these packages with effects at import, or with vendored code.
EXCLUDED = frozenset(
    {
        "__main__",
        "_build_utils",
        "_joblib",
        "_pyinstaller",
        "_test_common",
        "_testing",
        "conftest",
        "datasets",
        "distutils",
        "externals",
        "f2py",
        "parallel",
        "setup",
        "test",
        "testing",
        "tests",
    }
)
# Classes whose `__setstate__` opens a socket and connects to an address in the file.
CONNECTING = ("sklearn.callback.",)
# Globals that can run any code, so that no list can trust them. A dot at the end: all below.
_RUNNERS = (
    "builtins.__import__",
    "builtins.breakpoint",
    "builtins.compile",
    "builtins.delattr",
    "builtins.eval",
    "builtins.exec",
    "builtins.exit",
    "builtins.getattr",
    "builtins.globals",
    "builtins.input",
    "builtins.locals",
    "builtins.map",
    "builtins.open",
    "builtins.quit",
    "builtins.setattr",
    "builtins.vars",
    "os.",
    "posix.",
    "nt.",
    "subprocess.",
    "sys.",
    "importlib.",
    "runpy.",
    "pty.",
    "code.",
    "_posixsubprocess.",
    "ctypes.",
    "_ctypes.",
    "socket.",
    "shutil.",
    "webbrowser.",
    "pdb.",
    "pickle.",
    "_pickle.",
    "marshal.",
    "shelve.",
    "dill.",
    "inspect.",
    "timeit.",
    "gc.",
    "functools.partial",
    "functools.reduce",
    "operator.",
    "_operator.",
    "types.FunctionType",
    "types.CodeType",
    "types.MethodType",
    "builtins.code",
    "builtins.function",
    "numpy._core._ufunc_reconstruct",
    "numpy.core._ufunc_reconstruct",
    "numpy.testing.",
    "joblib.load",
    "joblib.numpy_pickle.load",
    "joblib.numpy_pickle_compat.",
    "numpy.load",
    "numpy.lib.",
    "keras.models.load_model",
    "keras.saving.load_model",
)
# Globals that rebuild code from the pickle itself.
BY_VALUE = (
    "cloudpickle.",
    "keras_reduce.custom_objects.",
    "keras_reduce.closures.",
    "joblib.externals.cloudpickle.",
    "joblib.externals.loky.cloudpickle_wrapper.",
    "ray.cloudpickle.",
    "pyspark.cloudpickle.",
)


class Policy:
    """Policy of one load: the trusted globals, and those that were refused.

    Parameters
    ----------
    trusted : iterable of str, class or function
        Full names, ``package.module.Class``. One that ends with a dot or ``.*`` includes all that
        is defined in a package or module.

    Attributes
    ----------
    refused : dict of str to str
        Globals that are in no list, each with the reason why it can't be trusted; empty if the user
        may list it.
    """

    def __init__(self, trusted: Iterable[Any]) -> None:
        if isinstance(trusted, str):
            raise TypeError(f"trusted must be a list of names, not the name {trusted!r}")
        names = [each if isinstance(each, str) else _name_of(each) for each in trusted]
        names = [name.removesuffix("*") if name.endswith(".*") else name for name in names]
        if not all(name.strip(".") for name in names):
            raise ValueError("trusted contains a name that would include everything")
        self._exact = frozenset(names)
        self._prefixes = tuple(name for name in names if name.endswith("."))
        self.refused: dict[str, str] = {}

    def lists(self, name: str, *, exactly: bool = False) -> bool:
        """Return whether the user lists a name; with `exactly`, not by a prefix."""
        return name in self._exact or (not exactly and name.startswith(self._prefixes or ("\0",)))

    def refuse(self, name: str, reason: str = "") -> None:
        """Record a global that is not trusted."""
        self.refused.setdefault(name, reason)

    def may_be_imported(self, module: str, name: str) -> bool:
        """Return whether a module may be imported to look up a name; record the name if not."""
        full = f"{module}.{name}"
        reason = _reason_against(full)
        if reason:
            self.refuse(full, reason)
            return False
        is_known = full in CONSTRUCTORS or full in REFERENCES or self.lists(full)
        parts = module.split(".")
        if is_known or (parts[0] in PACKAGES and not EXCLUDED & {*parts, *name.split(".")}):
            return True
        self.refuse(full)
        return False

    def require(self, obj: Any, name: str, is_harmless: bool) -> None:
        """Require that a global that Keras has looked up for a config is trusted.

        Raises
        ------
        UntrustedError
            If it is neither harmless nor listed.
        """
        defined_name = f"{getattr(obj, '__module__', None)}.{getattr(obj, '__qualname__', None)}"
        if not (is_harmless or self.lists(defined_name) or self.lists(name, exactly=True)):
            self.refuse(defined_name, _reason_against(defined_name))
            raise self.error(name)

    def error(self, where: str) -> UntrustedError:
        """Return the error with all refused globals."""
        names = sorted(name for name, reason in self.refused.items() if not reason)
        never = [f"{name} ({reason})" for name, reason in self.refused.items() if reason]
        causes, cures = [], []
        if names:
            causes.append(f"it names {', '.join(names)}")
            cures.append(f"if you trust these names, add them to the list: trusted={names!r}")
        if never:
            causes.append(f"no list can trust {', '.join(never)}")
            cures.append(
                "leave trusted= out if you know who wrote the file, and would let them run "
                "programs here; or move the code into a module, and write the file again"
            )
        return UntrustedError(
            "The file needs globals that are not trusted",
            where=where,
            cause="; ".join(causes),
            cure="; ".join(cures),
        )


def classify(module: str, name: str, is_called: bool = False) -> tuple[str, str]:
    """Classify a global by its name, without importing it.

    Parameters
    ----------
    module, name : str
        Module and name, as in a pickle.
    is_called : bool
        Whether the pickle calls it.

    Returns
    -------
    kind : {"known", "keras", "foreign"}
        From a known library, from Keras, or from another package.
    reason : str
        Reason why no list can trust it; empty if one can.
    """
    full, root, parts = f"{module}.{name}", module.partition(".")[0], name.split(".")
    # The attribute of a submodule is a global of that submodule.
    paths = (full, *(".".join(parts[start:]) for start in range(len(parts))))
    reason = next(filter(None, map(_reason_against, paths)), "")
    if len(parts) > 1 and not reason and _is_of(root):
        reason = "an attribute of another object, which is known only after loading"
    if is_called and not reason and _is_of(root) and not _may_be_called(module, name):
        reason = "called, but not known to only build a value"
    if root in _KERAS:
        return "keras", reason
    is_known = full in CONSTRUCTORS or full in REFERENCES or root in _LIBRARIES
    return ("known" if is_known and not reason else "foreign"), reason


def _may_be_called(module: str, name: str) -> bool:
    """Return whether a global, by its name, only builds a value when it is called."""
    full = f"{module}.{name}"
    if full in CONSTRUCTORS or full == _RECEIVE:
        return True
    if module == "keras_reduce.reducers":
        # `rebuild_part_attributes` sets attributes with any name.
        return re.fullmatch("rebuild_(?!part_attributes$)[a-z_]+", name) is not None
    if module.startswith("scipy.sparse."):
        return re.fullmatch("[a-z]{3}_(array|matrix)", name) is not None
    # A pickle only instantiates classes of scikit-learn.
    is_class = module.startswith("sklearn.") and name.lstrip("_")[:1].isupper()
    return is_class and not full.startswith(CONNECTING) and not EXCLUDED & set(module.split("."))


def _is_of(root: str) -> bool:
    return root in _KERAS or root in _LIBRARIES or root == "builtins"


_RECEIVE = "keras_reduce.registry.receive"
_KERAS = ("keras", "tensorflow", "tf_keras")
_LIBRARIES = ("joblib", "keras_reduce", "numpy", "scipy", "sklearn")


def _name_of(obj: Any) -> str:
    try:
        return f"{obj.__module__}.{obj.__qualname__}"
    except AttributeError:
        raise TypeError(
            f"trusted takes names, classes and functions, not {type(obj).__name__}"
        ) from None


def _reason_against(name: str) -> str:
    if any(name == each or (each[-1] == "." and name.startswith(each)) for each in BY_VALUE):
        return "code that is in the file itself"
    if any(name == each or (each[-1] == "." and name.startswith(each)) for each in _RUNNERS):
        return "can run any code"
    return ""


_state = threading.local()


def active() -> Policy | None:
    """Return the policy of the current load in this thread; None if it trusts everything."""
    return getattr(_state, "policy", None)


@contextlib.contextmanager
def using(policy: Policy | None) -> Iterator[None]:
    """Use a policy for loads in this thread, in this block."""
    before, _state.policy = active(), policy
    try:
        yield
    finally:
        _state.policy = before
