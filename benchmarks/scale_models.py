"""A model with a list of layers, in a module that a reader can import, as Keras alone needs."""

from __future__ import annotations

from typing import Any

import keras


class Listed(keras.Model):
    """A chain of layers in a list.

    Parameters
    ----------
    count : int
        How many layers.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.parts = [keras.layers.Dense(2) for _ in range(count)]

    def call(self, inputs: Any) -> Any:
        """Apply one layer after the other."""
        for part in self.parts:
            inputs = part(inputs)
        return inputs

    def get_config(self) -> dict[str, int]:
        """Return the arguments of the constructor."""
        return {"count": self.count}
