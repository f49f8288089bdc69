"""What a pickle may name that is loaded with ``trusted=``, and what it may call.

To unpickle is to import what is named, and to call some of it. A few names suffice for any program:
``os.system``, or ``getattr`` and patience. So only those are let through that stand in a list, here
or the user's. That a name is *known* here means: whatever it is called with, it builds a value and
does nothing else. Names of which the user's program may be given a reference, and which a pickle
has no reason to call, are known as references only.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import UntrustedError

__all__ = ["BY_VALUE", "Policy", "active", "in_force", "standing"]

_KINDS_OF_WRAPPERS = ("Classifier", "Regressor", "Transformer")

CONSTRUCTORS = frozenset(
    {
        *(f"builtins.{name}" for name in ("complex", "frozenset", "object", "range", "set")),
        *("builtins.slice", "builtins.bytearray", "_codecs.encode", "_io.BytesIO"),
        *("copyreg._reconstructor", "copyreg.__newobj__"),
        *(f"collections.{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *("decimal.Decimal", "uuid.UUID", "types.SimpleNamespace"),
        *(f"pathlib.{name}" for name in ("PosixPath", "PurePath", "PurePosixPath", "WindowsPath")),
        *("numpy.dtype", "numpy.ma.core._mareconstruct", "builtins.bytes"),
        "numpy._core._internal._convert_to_stringdtype_kwargs",
        *(
            f"numpy.{core}.{name}"
            for core in ("core", "_core")
            for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
        ),
        *(
            f"numpy.random._pickle.{name}"
            for name in ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor")
        ),
        *(
            f"numpy.random.{name}"
            for name in (
                *("_mt19937.MT19937", "_pcg64.PCG64", "_pcg64.PCG64DXSM", "_philox.Philox"),
                *("_sfc64.SFC64", "_generator.Generator", "mtrand.RandomState"),
                *("bit_generator.SeedSequence", "bit_generator.__pyx_unpickle_SeedSequence"),
            )
        ),
        "scipy.interpolate._bsplines.BSpline",
        *(
            f"sklearn.{name}.newObj"
            for name in (
                "metrics._dist_metrics",
                "neighbors._ball_tree",
                "neighbors._kd_tree",
            )
        ),
        "joblib.numpy_pickle.NumpyArrayWrapper",
        *("keras_reduce.wrappers.KerasClassifier", "keras_reduce.wrappers.KerasRegressor"),
        "keras_reduce.identities.rebuild_identity",
        "keras_reduce.weak_references.rebuild_weak_attribute",
        *(
            f"keras.src.{name}"
            for name in (
                *("layers.input_spec.InputSpec", "layers.preprocessing.feature_space.Cross"),
                *("layers.preprocessing.feature_space.Feature", "wrappers.utils.TargetReshaper"),
                *(f"wrappers.sklearn_wrapper.SKLearn{kind}" for kind in _KINDS_OF_WRAPPERS),
                "quantizers.quantizers.AbsMaxQuantizer",
            )
        ),
    }
)
REFERENCES = frozenset(
    {
        *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
        *("numpy.ndarray", "numpy.matrix"),
        *("numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray"),
        *(
            f"numpy.{name}"
            for name in (
                *("average", "max", "mean", "median", "min", "ptp", "std", "sum", "var"),
                *("nanmax", "nanmean", "nanmedian", "nanmin", "nanstd", "nansum", "nanvar"),
                *("amax", "amin", "prod", "argmax", "argmin"),
            )
        ),
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
    }
)
# Packages of which some classes and functions are known by what they are, once they are imported.
PACKAGES = ("numpy", "scipy", "sklearn", "keras", "tf_keras")
# Parts of them that do something when they are imported, or bring code of others along.
APART = frozenset(
    {
        *("__main__", "conftest", "datasets", "distutils", "externals", "f2py", "setup"),
        *("_build_utils", "_test_common", "_testing", "testing", "tests", "test"),
        *("_joblib", "_pyinstaller", "parallel"),
    }
)
# Whose `__setstate__` opens a socket, and connects to an address in the file.
CONNECTING = ("sklearn.callback.",)
# What runs whatever it is given. No list makes these harmless.
_RUNNERS = (
    *(
        f"builtins.{name}"
        for name in (
            *("__import__", "breakpoint", "compile", "delattr", "eval", "exec", "exit"),
            *("getattr", "globals", "input", "locals", "map", "open", "quit", "setattr", "vars"),
        )
    ),
    *("os.", "posix.", "nt.", "subprocess.", "sys.", "importlib.", "runpy.", "pty.", "code."),
    *("_posixsubprocess.", "ctypes.", "_ctypes.", "socket.", "shutil.", "webbrowser.", "pdb."),
    *("pickle.", "_pickle.", "marshal.", "shelve.", "dill.", "inspect.", "timeit.", "gc."),
    *("functools.partial", "functools.reduce", "operator.", "_operator.", "types.FunctionType"),
    *("types.CodeType", "types.MethodType", "builtins.code", "builtins.function"),
    *("numpy._core._ufunc_reconstruct", "numpy.core._ufunc_reconstruct", "numpy.testing."),
    *("joblib.load", "joblib.numpy_pickle.load", "joblib.numpy_pickle_compat."),
    *("numpy.load", "numpy.lib.", "keras.models.load_model", "keras.saving.load_model"),
)
# What carries code in the pickle itself.
BY_VALUE = (
    *("cloudpickle.", "keras_reduce.custom_objects.", "keras_reduce.closures."),
    *("joblib.externals.cloudpickle.", "joblib.externals.loky.cloudpickle_wrapper."),
    *("ray.cloudpickle.", "pyspark.cloudpickle."),
)


class Policy:
    """What one loading trusts, and what it has met that it does not.

    Parameters
    ----------
    trusted : iterable of str, class or function
        Full names, ``package.module.Class``; those that end with a dot or ``.*`` stand for all that
        is defined in a package or module.

    Attributes
    ----------
    refused : dict of str to str
        What has been met and is in no list, each with the reason why it never could be; empty if
        the user may list it.
    """

    def __init__(self, trusted: Iterable[Any]) -> None:
        if isinstance(trusted, str):
            raise TypeError(f"trusted must be a list of names, not the name {trusted!r}")
        names = [each if isinstance(each, str) else _name_of(each) for each in trusted]
        names = [name.removesuffix("*") if name.endswith(".*") else name for name in names]
        if not all(name.strip(".") for name in names):
            raise ValueError("trusted holds a name that stands for everything")
        self._exact = frozenset(names)
        self._prefixes = tuple(name for name in names if name.endswith("."))
        self.refused: dict[str, str] = {}

    def lists(self, name: str, *, exactly: bool = False) -> bool:
        """Return whether the user trusts a name; `exactly`: not by a prefix."""
        return name in self._exact or (not exactly and name.startswith(self._prefixes or ("\0",)))

    def refuse(self, name: str, reason: str = "") -> None:
        """Take note of what is not trusted."""
        self.refused.setdefault(name, reason)

    def may_be_imported(self, module: str, name: str) -> bool:
        """Return whether to import a module, to see what a name in it is; refuse it otherwise."""
        full = f"{module}.{name}"
        reason = _reason_against(full)
        if reason:
            self.refuse(full, reason)
            return False
        is_known = full in CONSTRUCTORS or full in REFERENCES or self.lists(full)
        parts = module.split(".")
        if is_known or (parts[0] in PACKAGES and not APART & {*parts, *name.split(".")}):
            return True
        self.refuse(full)
        return False

    def require(self, found: Any, named: str, is_harmless: bool) -> None:
        """Demand that what Keras has found by a name in a config is trusted.

        Raises
        ------
        UntrustedError
            If it is neither harmless nor listed.
        """
        own = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
        if not (is_harmless or self.lists(own) or self.lists(named, exactly=True)):
            self.refuse(own, _reason_against(own))
            raise self.error(named)

    def error(self, where: str) -> UntrustedError:
        """Return the error that says what was refused."""
        names = sorted(name for name, reason in self.refused.items() if not reason)
        never = [f"{name} ({reason})" for name, reason in self.refused.items() if reason]
        causes, cures = [], []
        if names:
            causes.append(f"it names {', '.join(names)}")
            cures.append(f"if you trust that, load it with trusted={names!r}, and what you had")
        if never:
            causes.append(f"it has what no list can trust: {', '.join(never)}")
            cures.append(
                "leave trusted= out if you know who wrote the file, and would let them run "
                "programs here; or move the code into a module, and write the file anew"
            )
        return UntrustedError(
            "The file needs what is not trusted",
            where=where,
            cause="; ".join(causes),
            cure="; ".join(cures),
        )


def standing(module: str, name: str, is_called: bool = False) -> tuple[str, str]:
    """Tell what a name is, by what it says: nothing is imported.

    Parameters
    ----------
    module, name : str
        As in a pickle.
    is_called : bool
        Whether the pickle calls it.

    Returns
    -------
    kind : {"known", "keras", "foreign"}
        Of a library that is known, of Keras, or of somebody else.
    reason : str
        Why no list can trust it; empty if one can.
    """
    full, root, parts = f"{module}.{name}", module.partition(".")[0], name.split(".")
    # What is an attribute of a module in a module is of that one.
    paths = (full, *(".".join(parts[start:]) for start in range(len(parts))))
    reason = next(filter(None, map(_reason_against, paths)), "")
    if len(parts) > 1 and not reason and _is_of(root):
        reason = "an attribute of something: only loading would tell what that is"
    if is_called and not reason and _is_of(root) and not _may_be_called(module, name):
        reason = "called, and not known to do no more than make a value"
    if root in _KERAS:
        return "keras", reason
    is_known = full in CONSTRUCTORS or full in REFERENCES or root in _LIBRARIES
    return ("known" if is_known and not reason else "foreign"), reason


def _may_be_called(module: str, name: str) -> bool:
    """Return whether calling something does no more than make a value, by what it is called."""
    full = f"{module}.{name}"
    if full in CONSTRUCTORS or full == _RECEIVE:
        return True
    if module == "keras_reduce.reducers":
        # The one that is left out sets attributes of any name.
        return re.fullmatch("rebuild_(?!part_attributes$)[a-z_]+", name) is not None
    if module.startswith("scipy.sparse."):
        return re.fullmatch("[a-z]{3}_(array|matrix)", name) is not None
    # To make an object of a class of scikit-learn's is all that a pickle does with it.
    is_class = module.startswith("sklearn.") and name.lstrip("_")[:1].isupper()
    return is_class and not full.startswith(CONNECTING) and not APART & set(module.split("."))


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
            f"trusted holds names, classes and functions, not {type(obj).__name__}"
        ) from None


def _reason_against(name: str) -> str:
    if any(name == each or (each[-1] == "." and name.startswith(each)) for each in BY_VALUE):
        return "code that is in the file itself"
    if any(name == each or (each[-1] == "." and name.startswith(each)) for each in _RUNNERS):
        return "runs whatever it is given"
    return ""


_state = threading.local()


def active() -> Policy | None:
    """Return the policy by which this thread loads something; None if it trusts all."""
    return getattr(_state, "policy", None)


@contextlib.contextmanager
def in_force(policy: Policy | None) -> Iterator[None]:
    """Let this thread load by a policy."""
    before, _state.policy = active(), policy
    try:
        yield
    finally:
        _state.policy = before
