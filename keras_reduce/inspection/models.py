"""Descriptions of Keras objects in a file, and limits for reading them."""

from __future__ import annotations

import dataclasses

from ..audit.descriptions import Global

__all__ = ["Budget", "Layer", "Model", "OddError"]


class OddError(Exception):
    """The payload of a Keras object is not one that this package writes."""


@dataclasses.dataclass
class Layer:
    """Description of a layer.

    Attributes
    ----------
    cls, name : str
        Its class and its name.
    shape : str
        Input shape for which it was built; empty if that is not known.
    parameters : int
        Number of its parameters.
    inputs : list of str
        Names of its inbound layers.
    origin : {"keras", "by reference", "by value"}
        Source of its class.
    layers : list of Layer
        Its inner layers.
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
    """Description of a Keras object that is not part of another one, such as a model.

    Attributes
    ----------
    kind : str
        "model", "layer", "optimizer" and so on.
    cls, name : str
        Its class and its name.
    family, protocol : str, int
        Writer: "keras3", "keras2", or "keras" for Keras's own pickles; and the protocol number of
        the payload, 0 for Keras's own.
    versions : dict of str to str
        Versions of the packages that wrote it.
    parameters, bytes : int
        Number of parameters of the layers; bytes of all arrays, including those of the optimizer.
    dtypes : list of str
        Dtypes of the weights.
    optimizer, loss, metrics : str, str, list of str
        Arguments of ``compile()``; empty if it was not compiled.
    custom : dict of str to str
        User-defined classes and functions: "by reference" or "by value".
    layers : list of Layer
        The layers, in their order.
    remarks : list of str
        Defects and dangers.
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
        """Add a remark, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def cannot_read(self, what: str, error: Exception) -> None:
        """Add a remark that a part can't be read."""
        self.remark(f"{what} can't be read ({type(error).__name__}: {error})"[:500])

    def take_over(self, part: Model) -> None:
        """Add the globals, remarks and custom objects of a part."""
        self.imports += part.imports
        for text in part.remarks:
            self.remark(text)
        for key, origin in part.custom.items():
            self.custom.setdefault(key, origin)


class Budget:
    """Limits for reading the Keras objects of a file, of which a small file may have any number.

    Attributes
    ----------
    is_spent : bool
        Whether a limit was exceeded.
    """

    def __init__(self) -> None:
        self.is_spent = False
        self._text, self._layers = _MOST_TEXT, _MOST_LAYERS

    def take_text(self, size: int) -> None:
        """Count characters of JSON to read.

        Raises
        ------
        OddError
            If the limit is exceeded.
        """
        self._text -= size
        if self._text < 0:
            self.is_spent = True
            raise OddError("it exceeds the limit for reading")

    def may_have_a_layer(self) -> bool:
        """Count a layer; return whether the limit allows it."""
        self._layers -= 1
        self.is_spent |= self._layers < 0
        return self._layers >= 0


_MOST_TEXT, _MOST_LAYERS = 100_000_000, 200_000  # characters of JSON, layers
