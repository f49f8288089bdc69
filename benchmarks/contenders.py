"""Contenders: libraries and recipes that ship models, with the same methods for each."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from models import variables


class AbsentError(Exception):
    """The contender does not support this way to ship a model."""


class Native:
    """Keras's own pickling, and the base class of the other contenders.

    `subject` returns the object to ship for a model. ``dumps`` and ``loads`` pickle in memory,
    ``dumps_out`` and ``loads_out`` with the buffers of protocol 5 outside of the pickle;
    ``joblib_dump`` and ``joblib_load`` use a joblib file, ``file_dump`` and ``file_load`` the
    contender's own file format.
    """

    title = "Keras's own pickling"
    # A contender without its own file format uses joblib's; both are measured once.
    twins: Mapping[str, str] = {"file_load": "joblib_load", "file_map": "joblib_map"}

    def prepare(self) -> None:
        """Import and install the contender, as a program does before it builds a model."""

    def subject(self, model: Any) -> Any:
        """Return the object to ship; called once, outside the timing."""
        return model

    def pack(self, subject: Any) -> Any:
        """Return the object to pickle; included in the timing."""
        return subject

    def unpack(self, packed: Any) -> Any:
        """Undo `pack`; included in the timing."""
        return packed

    def answer(self, subject: Any, inputs: Any) -> str:
        """Return a digest of the outputs of a model and of its optimizer's variables."""
        # A call, not `predict`: another trace may differ in the last bit.
        answers = [np.asarray(subject(inputs, training=False))]
        optimizer = getattr(subject, "optimizer", None)
        slots = (variable.numpy() for variable in (optimizer.variables if optimizer else ()))
        return _digest((*answers, *slots))

    def dumps(self, subject: Any) -> bytes:
        return pickle.dumps(self.pack(subject), protocol=5)

    def loads(self, content: bytes) -> Any:
        return self.unpack(pickle.loads(content))

    def dumps_out(self, subject: Any) -> tuple[Any, list[Any]]:
        buffers: list[Any] = []
        packed = self.pack(subject)
        return pickle.dumps(packed, protocol=5, buffer_callback=buffers.append), buffers

    def loads_out(self, parts: tuple[Any, list[Any]]) -> Any:
        content, buffers = parts
        return self.unpack(pickle.loads(content, buffers=buffers))

    def deepcopy(self, subject: Any) -> Any:
        return copy.deepcopy(subject)

    def hash(self, subject: Any) -> str:
        return joblib.hash(self.pack(subject))

    def joblib_dump(self, subject: Any, path: Path) -> Path:
        joblib.dump(self.pack(subject), path)
        return path

    def joblib_load(self, path: Path, mmap_mode: str | None = None) -> Any:
        return self.unpack(joblib.load(path, mmap_mode=mmap_mode))

    def file_dump(self, subject: Any, path: Path) -> Path:
        """Write a file and wait until it is on the disk, as `keras_reduce.dump` does."""
        self.joblib_dump(subject, path)
        sync(path)
        return path

    def file_load(
        self, path: Path, mmap_mode: str | None = None, verify: bool | None = None
    ) -> Any:
        if verify is not None:
            raise AbsentError
        return self.joblib_load(path, mmap_mode)


class SciKeras(Native):
    """SciKeras's reducer, which SciKeras sets on the Keras classes when it is imported."""

    title = "SciKeras's reducer"

    def prepare(self) -> None:
        import scikeras  # noqa: F401


class Recipe(Native):
    """A hand-written recipe: the JSON, the weights, the optimizer's variables."""

    title = "recipe by hand (to_json, get_weights, optimizer variables)"

    def pack(self, subject: Any) -> Any:
        optimizer = getattr(subject, "optimizer", None)
        return {
            # In Keras 3, it includes the arguments of compile(), with the optimizer's config.
            "json": subject.to_json(),
            "weights": subject.get_weights(),
            "optimizer": [variable.numpy() for variable in optimizer.variables]
            if optimizer
            else None,
        }

    def unpack(self, packed: Any) -> Any:
        import keras

        model = keras.models.model_from_json(packed["json"])
        model.set_weights(packed["weights"])
        if packed["optimizer"] is not None:
            model.optimizer.build(model.trainable_variables)
            for variable, value in zip(model.optimizer.variables, packed["optimizer"], strict=True):
                variable.assign(value)
        return model

    def deepcopy(self, subject: Any) -> Any:
        return self.unpack(self.pack(subject))


class Dask(Native):
    """distributed's serializer for Keras models, which Dask prefers to pickle."""

    title = "Dask's serializer (distributed)"
    twins: Mapping[str, str] = {}

    def prepare(self) -> None:
        import distributed.protocol  # noqa: F401

    def dumps(self, subject: Any) -> bytes:
        from distributed.protocol.serialize import serialize_bytes

        return serialize_bytes(subject, on_error="raise")

    def loads(self, content: bytes) -> Any:
        from distributed.protocol import deserialize_bytes

        return deserialize_bytes(content)

    def dumps_out(self, subject: Any) -> tuple[Any, list[Any]]:
        from distributed.protocol import serialize

        return serialize(subject, on_error="raise")

    def loads_out(self, parts: tuple[Any, list[Any]]) -> Any:
        from distributed.protocol import deserialize

        return deserialize(*parts)

    def deepcopy(self, subject: Any) -> Any:
        raise AbsentError

    def hash(self, subject: Any) -> str:
        raise AbsentError

    def joblib_dump(self, subject: Any, path: Path) -> Path:
        raise AbsentError


class KerasReduce(Native):
    """keras_reduce, the package of these benchmarks."""

    title = "this package"
    twins: Mapping[str, str] = {}

    def prepare(self) -> None:
        import keras_reduce

        keras_reduce.install()

    def file_dump(self, subject: Any, path: Path) -> Path:
        _ours("dump")(subject, path)
        return path

    def file_load(
        self, path: Path, mmap_mode: str | None = None, verify: bool | None = None
    ) -> Any:
        return _ours("load")(path, mmap_mode=mmap_mode, verify=verify)


class Floor(Native):
    """A plain list of the same arrays: a lower bound for the time of a reducer."""

    title = "the bare list of the same arrays"

    def subject(self, model: Any) -> Any:
        return [variable.numpy() for variable in variables(model)]

    def answer(self, subject: Any, inputs: Any) -> str:
        return _digest(subject)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _ours(name: str) -> Any:
    import keras_reduce

    function = getattr(keras_reduce, name, None)
    if function is None:
        raise AbsentError
    return function


def _digest(arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


CONTENDERS: dict[str, Native] = {
    "native": Native(),
    "scikeras": SciKeras(),
    "recipe": Recipe(),
    "dask": Dask(),
    "keras_reduce": KerasReduce(),
    "floor": Floor(),
}
