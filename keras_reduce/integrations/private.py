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
            ("BY_CLASS", "to find the id of a class in pickles"),
            ("BY_ID", "to find the class of an id"),
            ("LOCK", "to lock these tables while a class is added"),
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
        "joblib's default backend 'keras'",
        "joblib's own default is used",
        {
            "joblib.parallel:BACKENDS": "to register the backend",
            "joblib.parallel:DEFAULT_BACKEND": "to set the default backend",
        },
    ),
    "by value": Manifest(
        "Code by value in joblib.dump",
        "joblib.dump refuses functions and classes that can't be imported; keras_reduce.dump "
        "carries them",
        {
            f"{_PICKLER}.dispatch": "to give joblib's pickler a reducer for code",
            "pickle:_Pickler.save": "to let `reducer_override` come before the reducers of a "
            "pickler",
        },
    ),
    "whole dumps": Manifest(
        "The removal of incomplete output when joblib.dump fails",
        "an incomplete file may remain, and a model in an array of objects and beside it is "
        "written as two",
        {
            f"{_PICKLER}.dump": "to remove what was written when a dump fails",
            f"{_PICKLER}.save": "to keep an object in an array, and beside it, one object",
            f"{_PICKLER}().file_handle": "to find the file that is written",
            f"{_PICKLER}._create_array_wrapper": "to write arrays of objects into the pickle",
            "pickle:_Pickler.save_global": "to find code that must be written by value",
            "pickle:_Pickler.memoize": "to write an array once",
            "pickle:_Pickler.get": "to refer to a written array",
        },
    ),
    "hashing": Manifest(
        "Hashes of Keras objects that are the same in every process",
        "joblib.hash hashes their pickles, which differ between processes",
        {
            "joblib.hashing:Hasher.dispatch": "to give joblib's Hasher a reducer for Keras objects",
            "joblib.hashing:Hasher.save_global": "to hash code by its content",
            "joblib.hashing:NumpyHasher": "to use joblib's own methods in programs without Keras",
        },
    ),
    "dask batches": Manifest(
        "Batches for Dask that are unpickled in their task",
        "errors in tasks may end workers, and joblib.Parallel waits for ever",
        {
            "joblib._dask:DaskDistributedBackend._to_func_args": "to pickle each task of a batch "
            "separately",
            "joblib._dask:DaskDistributedBackend.submit": "to report a batch that can't be sent",
            "joblib._dask:Batch": "to send an error as a task",
        },
    ),
    "dask admission": Manifest(
        "The check that Dask's workers have this package",
        "a worker without it ends when it gets a model",
        {
            "distributed.client:Client._close": "to send waiting tasks before a client closes",
            "distributed.client:Client._handle_task_erred": "to let tasks fail that no worker can "
            "run",
            "distributed.client:Client._scatter": "to check workers before data are sent",
            "distributed.client:Client._send_to_scheduler_safe": "to check workers before tasks "
            "are sent",
            "distributed.protocol.serialize:serialize": "to find data that need this package",
        },
    ),
    "dask adapters": Manifest(
        "The removal of Dask's serializers for Keras",
        "they fail with Keras 3: models can be sent in tasks only",
        {
            f"{_REGISTRY}._lazy": "to remove serializers that Dask would register later",
            f"{_REGISTRY}._lookup": "to remove registered serializers",
            "distributed.protocol.serialize:dask_deserialize._lookup": "to remove registered "
            "deserializers",
        },
    ),
    "dask sizes": Manifest(
        "The sizes of models for Dask",
        "Dask assumes some bytes for a model, and sends it with each task",
        {
            "dask.sizeof:sizeof._lazy": "to register the size of models once Keras is imported",
            "dask.sizeof:sizeof._lookup": "to register the size of models",
            "dask.sizeof:random": "to keep Dask's random samples out of the program's seed",
        },
    ),
    "ray classes": _classes("ray.cloudpickle.cloudpickle"),
    "spark classes": _classes("pyspark.cloudpickle.cloudpickle"),
    "spark batches": Manifest(
        "Errors of tasks on Spark",
        "for any error, joblib reports that Parallel has no _backend_args",
        {
            "joblib._parallel_backends:PoolManagerMixin.retrieve_result_callback": "to raise the "
            "error of a task",
            "joblibspark.backend:SparkDistributedBackend.abort_everything": "to end a call that "
            "failed",
            "joblibspark.backend:SparkDistributedBackend.supports_retrieve_callback": "to tell "
            "whether joblibspark supports this joblib",
        },
    ),
    "skops": Manifest(
        "Keras objects in files of skops",
        "skops recurses in a model until it fails, and can't read files with one",
        {
            "skops.io._utils:_get_state": "to write Keras objects",
            "skops.io._utils:get_state": "to write the objects in them",
            "skops.io._utils:get_type_paths": "to find the names that the user trusts",
            "skops.io._utils:SaveContext.clear_memo": "to forget at the end of a file what it has",
            "skops.io._audit:NODE_TYPE_MAPPING": "to register the nodes that read them",
            "skops.io._audit:Node": "to define these nodes",
            "skops.io._audit:UNINITIALIZED": "to find out that one has been rebuilt",
            "skops.io._audit:CachedNode": "to refer to an object that was written before",
            "skops.io._audit:get_tree": "to read the objects in them",
            "skops.io._protocol:PROTOCOL": "to register nodes for its present format",
        },
    ),
}
