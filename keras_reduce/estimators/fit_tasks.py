"""scikit-learn's callbacks, since its version 1.9: each epoch of a fit is a task for them.

A search or a pipeline hands its callbacks on to its estimators; so a progress bar, for example,
counts epochs. (Keras's callbacks are another matter, and parameters of an estimator.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

from ..families import named_parts

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A class without methods, as there are no callbacks."""

    def _with_callbacks(method: Any) -> Any:
        return method


__all__ = ["CallbackSupportMixin", "FitTask", "with_callbacks"]


Method = TypeVar("Method", bound=Callable[..., Any])


def with_callbacks(method: Method) -> Method:
    """Return a method after which callbacks are told that the fit is over, also if it fails."""
    managed: Method = _with_callbacks(method)
    return managed


class FitTask:
    """The task of a fit, and those of its epochs, as scikit-learn's callbacks are told of them.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator, with callbacks or without.
    model : keras.Model
        The model to train.
    data : mapping
        ``X``, ``y`` and ``metadata`` for the callbacks.
    """

    def __init__(self, estimator: BaseEstimator, model: Any, data: Mapping[str, Any]) -> None:
        self._estimator, self._model, self._data = estimator, model, data
        self._is_watched = bool(getattr(estimator, "_skl_callbacks", None))
        self._fit: Any = None
        self._epoch: Any = None
        self._n_left = 0

    def begin(self, arguments: dict[str, Any]) -> None:
        """Begin the fit, and add a callback of Keras to the `arguments` for ``fit``."""
        if not self._is_watched:
            return
        self._n_left = arguments.get("epochs", 1) - arguments.get("initial_epoch", 0)
        self._fit = self._estimator._init_callback_context(max_subtasks=max(self._n_left, 0))
        self._fit.call_on_fit_task_begin(estimator=self._estimator, **self._data)
        self._begin_epoch()
        given = arguments.get("callbacks")
        given = getattr(given, "callbacks", given)  # Of Keras's CallbackList.
        listed = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
        # The last one, so that early stopping is known to it.
        arguments["callbacks"] = [*listed, named_parts.epoch_callback(self._end_epoch)]

    def _begin_epoch(self) -> None:
        if self._n_left > 0:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def _end_epoch(self, epoch: int, logs: Any) -> None:
        model = self._model
        stop = self._epoch.call_on_fit_task_end(
            estimator=self._estimator,
            # A copy, since a callback may keep the estimator, and the model is trained further.
            reconstruction_attributes=lambda: {"model_": copy.deepcopy(model)},
            **self._data,
        )
        self._epoch = None
        if stop:
            model.stop_training = True
        self._n_left = 0 if model.stop_training else self._n_left - 1
        self._begin_epoch()

    def end(self) -> None:
        """End the fit, after `model_` is set."""
        if not self._is_watched:
            return
        if self._epoch is not None:  # An epoch that Keras has left out.
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
        self._fit.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=dict, **self._data
        )
