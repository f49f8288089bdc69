"""Estimators with the parameters of SciKeras, for programs that were written for it.

>>> from keras_reduce.scikeras import KerasClassifier, KerasRegressor

The submodules have the names of SciKeras's: a program moves by writing ``keras_reduce.`` before
``scikeras.wrappers`` or ``scikeras.utils.transformers``.
"""

from __future__ import annotations

from .wrappers import BaseWrapper, KerasClassifier, KerasRegressor, KerasTransformer

__all__ = ["BaseWrapper", "KerasClassifier", "KerasRegressor", "KerasTransformer"]
