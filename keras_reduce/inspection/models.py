"""What is said of Keras objects in a file."""

from __future__ import annotations

import dataclasses

from ..audit.descriptions import Global

__all__ = ["Budget", "Layer", "Model", "OddError"]


class OddError(Exception):
    """What stands for a Keras object is not what was written for it."""


@dataclasses.dataclass
class Layer:
    """A layer of a model.

    Attributes
    ----------
    cls, name : str
        Its class and its name.
    shape : str
        Of what it was built for; empty if that is not known.
    parameters : int
        Numbers in its weights.
    inputs : list of str
        Names of the layers whose outputs it is given.
    origin : {"keras", "by reference", "by value"}
        Where its class comes from.
    layers : list of Layer
        Layers in it.
    """

    cls: str
    name: str
    shape: str = ""
    parameters: int = 0
    inputs: list[str] = dataclasses.field(default_factory=list)
    origin: str = "keras"
    layers: list[Layer] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Model:
    """A Keras object: a model, or a layer or anything else that is not part of one.

    Attributes
    ----------
    kind : str
        "model", "layer", "optimizer" and so on.
    cls, name : str
        Its class and its name.
    family, protocol : str, int
        What wrote it: "keras3", "keras2", or "keras" for Keras's own pickles; the number of the
        payload, 0 for Keras's own.
    versions : dict of str to str
        Of what wrote it.
    parameters, bytes : int
        Numbers in the weights of the layers; bytes of all arrays, those of the optimizer too.
    dtypes : list of str
        Of the weights.
    optimizer, loss, metrics : str, str, list of str
        How it was compiled; empty if it was not.
    custom : dict of str to str
        Classes and functions of the user's: "by reference" or "by value".
    layers : list of Layer
        In their order.
    remarks : list of str
        What is wrong or dangerous about it.
    """

    kind: str
    cls: str = ""
    name: str = ""
    family: str = ""
    protocol: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    parameters: int = 0
    bytes: int = 0
    dtypes: list[str] = dataclasses.field(default_factory=list)
    optimizer: str = ""
    loss: str = ""
    metrics: list[str] = dataclasses.field(default_factory=list)
    custom: dict[str, str] = dataclasses.field(default_factory=dict)
    layers: list[Layer] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    imports: list[Global] = dataclasses.field(default_factory=list)

    def remark(self, text: str) -> None:
        """Say once what is wrong or dangerous about it."""
        if text not in self.remarks:
            self.remarks.append(text)

    def cannot_read(self, what: str, error: Exception) -> None:
        """Say that a part of it can't be read."""
        self.remark(f"{what} can't be read ({type(error).__name__}: {error})"[:500])

    def take_over(self, part: Model) -> None:
        """Take note of what a part of this names, and of what is wrong with it."""
        self.imports += part.imports
        for text in part.remarks:
            self.remark(text)
        for key, origin in part.custom.items():
            self.custom.setdefault(key, origin)


class Budget:
    """How much of a file's Keras objects is looked at: a small file can stand for any number.

    Attributes
    ----------
    is_spent : bool
        Whether there was more.
    """

    def __init__(self) -> None:
        self.is_spent = False
        self._text, self._layers = _MOST_TEXT, _MOST_LAYERS

    def take_text(self, size: int) -> None:
        """Count characters of JSON that are to be read.

        Raises
        ------
        OddError
            If these are too many.
        """
        self._text -= size
        if self._text < 0:
            self.is_spent = True
            raise OddError("there is more of it than is looked at")

    def may_have_a_layer(self) -> bool:
        """Count a layer; tells whether there may be another."""
        self._layers -= 1
        self.is_spent |= self._layers < 0
        return self._layers >= 0


_MOST_TEXT, _MOST_LAYERS = 100_000_000, 200_000  # characters of JSON, layers
