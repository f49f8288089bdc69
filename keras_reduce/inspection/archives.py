"""Models that Keras itself pickles, as archives like those of ``model.save``."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from ..audit.arrays import bytes_of
from ..audit.descriptions import Call, Items
from ..core import payload
from .configs import describe_compilation, dictionary, inputs, record_globals
from .models import Budget, Layer, Model, OddError

__all__ = ["of_archive"]


def of_archive(arguments: Any, budget: Budget) -> Model:
    """Describe a model that Keras itself has pickled, as an archive."""
    model = Model("model", family="keras")
    blob = next(filter(None, map(bytes_of, _flat(arguments))), None)
    try:
        if blob is None:
            raise OddError("it holds no archive")
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            config = json.loads(_member(archive, "config.json", budget))
            metadata = dictionary(json.loads(_member(archive, "metadata.json", budget)))
            sizes = [each.file_size for each in archive.infolist() if each.filename.endswith(".h5")]
        _read_archive(model, config, metadata, budget)
        model.bytes = sum(sizes)
    except Exception as error:  # The archive may be crafted: any error is reported.
        model.cannot_read("Keras's archive in it", error)
    return model


def _read_archive(model: Model, config: Any, metadata: dict[Any, Any], budget: Budget) -> None:
    inner = dictionary(dictionary(config).get("config"))
    model.cls, model.name = str(dictionary(config).get("class_name", "?")), str(inner.get("name"))
    model.versions = {"keras": str(metadata.get("keras_version", ""))}
    describe_compilation(model, {"": {"config": dictionary(config).get("compile_config")}})
    for node in payload.dictionaries([config]):
        record_globals(model, node, {})
    layers = inner.get("layers")
    for entry in layers if isinstance(layers, list) else ():
        if not budget.may_have_a_layer():
            break
        name = dictionary(dictionary(entry).get("config")).get("name", "")
        shape = dictionary(dictionary(entry).get("build_config")).get("input_shape")
        layer = Layer(str(dictionary(entry).get("class_name", "?")), str(name))
        layer.shape = json.dumps(shape) if shape else ""
        layer.inputs = inputs(dictionary(entry).get("inbound_nodes"))
        model.layers.append(layer)


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    size = archive.getinfo(name).file_size
    budget.take_text(size)
    with archive.open(name) as file:
        return file.read(size)


def _flat(value: Any) -> Iterator[Any]:
    waiting, count = [value], 0
    while waiting and count < 10_000:
        node, count = waiting.pop(), count + 1
        yield node
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, Items):
            waiting.extend(node.items)
        elif isinstance(node, Call):
            waiting.extend([node.arguments, node.state, *node.items])
