"""Manifests of the private names of joblib, of engines for its calls, and of skops."""

from __future__ import annotations

from ..core.private_names import Manifest

__all__ = ["MANIFESTS"]

_PICKLER = "joblib.numpy_pickle:NumpyPickler"
_REGISTRY = "distributed.protocol.serialize:dask_serialize"


def _classes(module: str) -> Manifest:
    names = {
        f"{package}:_DYNAMIC_CLASS_TRACKER_{name}": reason
        for package in ("cloudpickle.cloudpickle", module)
        for name, reason in (
            ("BY_CLASS", "the id of a class in pickles"),
            ("BY_ID", "the class of an id"),
            ("LOCK", "held to add a class"),
        )
    }
    return Manifest(
        f"The recognition of classes in pickles of {module.partition('.')[0]}",
        "a class that comes back in a model is a copy of the program's class",
        names,
    )


# By feature. Names are looked up when the module that they belong to has been imported.
MANIFESTS = {
    "batches": Manifest(
        "The installation in workers of other backends than 'keras'",
        "workers that send code by value must call keras_reduce.install() themselves",
        {"joblib.parallel:BatchedCalls.__reduce__": "to pickle a batch of tasks"},
    ),
    "backend": Manifest(
        "joblib's backend 'keras'",
        "joblib's own default is used",
        {
            "joblib.parallel:BACKENDS": "the registry of backends",
            "joblib.parallel:DEFAULT_BACKEND": "the name of the default backend",
        },
    ),
    "by value": Manifest(
        "Code by value in joblib.dump",
        "joblib.dump refuses functions and classes that can't be imported; keras_reduce.dump "
        "carries them",
        {
            f"{_PICKLER}.dispatch": "the reducers of joblib's pickler",
            "pickle:_Pickler.save": "calls `reducer_override` first",
        },
    ),
    "whole dumps": Manifest(
        "The removal of incomplete output when joblib.dump fails",
        "an incomplete file may remain, and a model in an array of objects and beside it is "
        "written as two",
        {
            f"{_PICKLER}.dump": "writes a file",
            f"{_PICKLER}.save": "writes an object",
            f"{_PICKLER}().file_handle": "the file that is written",
            "pickle:_Pickler.memoize": "to write an array once",
            "pickle:_Pickler.get": "to refer to a written array",
        },
    ),
    "hashing": Manifest(
        "Hashes of Keras objects that are the same in every process",
        "joblib.hash hashes their pickles",
        {"joblib.hashing:Hasher.dispatch": "the reducers of joblib's Hasher"},
    ),
    "dask batches": Manifest(
        "Batches for Dask that are unpickled in their task",
        "errors in tasks may end workers, and joblib.Parallel waits for ever",
        {
            "joblib._dask:DaskDistributedBackend._to_func_args": "makes tasks of a batch",
            "joblib._dask:DaskDistributedBackend.submit": "sends a batch",
            "joblib._dask:Batch": "runs the tasks of a batch",
        },
    ),
    "dask admission": Manifest(
        "The check that Dask's workers have this package",
        "a worker without it ends when it gets a model",
        {
            "distributed.client:Client._close": "the end of sending",
            "distributed.client:Client._handle_task_erred": "handles the error of a task",
            "distributed.client:Client._scatter": "sends data",
            "distributed.client:Client._send_to_scheduler_safe": "sends tasks",
            "distributed.protocol.serialize:serialize": "to see whether data refer to this package",
        },
    ),
    "dask adapters": Manifest(
        "The removal of Dask's serializers for Keras",
        "they fail with Keras 3: models can be sent in tasks only",
        {
            f"{_REGISTRY}._lazy": "registrations for modules not yet used",
            f"{_REGISTRY}._lookup": "registrations by class",
            "distributed.protocol.serialize:dask_deserialize._lookup": "the same, to deserialize",
        },
    ),
    "dask sizes": Manifest(
        "The sizes of models for Dask",
        "Dask assumes some bytes for a model, and sends it with each task",
        {
            "dask.sizeof:sizeof._lazy": "registrations for modules not yet used",
            "dask.sizeof:sizeof._lookup": "registrations by class",
            "dask.sizeof:random": "the generator for its samples",
        },
    ),
    "ray classes": _classes("ray.cloudpickle.cloudpickle"),
    "spark classes": _classes("pyspark.cloudpickle.cloudpickle"),
    "spark batches": Manifest(
        "Errors of tasks on Spark",
        "for any error, joblib reports that Parallel has no _backend_args",
        {
            "joblib._parallel_backends:PoolManagerMixin.retrieve_result_callback": "raises errors",
            "joblibspark.backend:SparkDistributedBackend.abort_everything": "ends a call",
            "joblibspark.backend:SparkDistributedBackend.supports_retrieve_callback": "whether it "
            "supports this joblib",
        },
    ),
    "skops": Manifest(
        "The error that skops can't hold Keras models",
        "skops raises an unclear error",
        {"skops.io._utils:_get_state": "called for each object that is written"},
    ),
}
