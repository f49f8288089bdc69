"""Ship Keras models through pickle, joblib and scikit-learn."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
