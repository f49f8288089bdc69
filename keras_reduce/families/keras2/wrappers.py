"""Methods that the scikit-learn wrappers of Keras 2.12, the last that had any, lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...custom_objects import by_value
from .._shared.lookups import LOOKUPS
from .framework import private


def repairs() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the methods that are missing: class, name, function from the old to the new one."""
    try:
        wrappers = private("wrappers.scikit_learn")
    except ImportError:
        return
    # Their build function is mostly one of the program, which no other program can import.
    yield wrappers.BaseWrapper, "__getstate__", _with_code
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    # By themselves, no attribute with an underscore at its end tells a pipeline that they are.
    yield wrappers.BaseWrapper, "__sklearn_is_fitted__", _with_sign
    if not hasattr(BaseEstimator, "__sklearn_tags__"):
        return  # Before scikit-learn 1.6, no code asks for them.
    for name, mixin in (("KerasClassifier", ClassifierMixin), ("KerasRegressor", RegressorMixin)):
        # With the tags that any estimator of its kind has.
        like = type(name, (mixin, BaseEstimator), {})
        yield getattr(wrappers, name), "__sklearn_tags__", _tags_of(like())


def _tags_of(like: Any) -> Callable[[Any], Any]:
    def with_tags(original: Any) -> Any:
        def __sklearn_tags__(self: Any) -> Any:  # noqa: N807
            return like.__sklearn_tags__()

        return original or __sklearn_tags__

    return with_tags


def _with_code(original: Any) -> Any:
    def __getstate__(self: Any) -> dict[str, Any]:  # noqa: N807
        return {name: by_value(value, LOOKUPS) for name, value in vars(self).items()}

    return original or __getstate__


def _with_sign(original: Any) -> Any:
    def __sklearn_is_fitted__(self: Any) -> bool:  # noqa: N807
        return hasattr(self, "model")

    return original or __sklearn_is_fitted__
