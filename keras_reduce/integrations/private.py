"""Names of joblib and of the engines for its calls that these don't promise to keep."""

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
            ("BY_CLASS", "the name that a class has in pickles"),
            ("BY_ID", "the class that has a name"),
            ("LOCK", "held while one is added"),
        )
    }
    return Manifest(
        f"What knows classes of {module.partition('.')[0]}'s pickles again",
        "a class that comes back in a model is another one than the program's",
        names,
    )


# By feature. What one needs is looked for when the module that it concerns has been imported.
MANIFESTS = {
    "batches": Manifest(
        "The installation in workers of other backends than 'keras'",
        "a worker that is to send code by value calls keras_reduce.install() itself",
        {"joblib.parallel:BatchedCalls.__reduce__": "what a batch of tasks is pickled by"},
    ),
    "backend": Manifest(
        "joblib's backend 'keras'",
        "joblib's own default stays",
        {
            "joblib.parallel:BACKENDS": "where backends are entered",
            "joblib.parallel:DEFAULT_BACKEND": "the one that is used unless told otherwise",
        },
    ),
    "by value": Manifest(
        "Code by value in joblib.dump",
        "joblib.dump refuses functions and classes that no import finds; keras_reduce.dump takes "
        "them",
        {
            f"{_PICKLER}.dispatch": "what a pickler of joblib's does with functions",
            "pickle:_Pickler.save": "by which it asks whom it knows, `reducer_override` first",
        },
    ),
    "whole dumps": Manifest(
        "What removes the beginning of a file when joblib.dump fails",
        "a file may be left that looks like a dump, and a model in an array of objects is written "
        "as another one than beside it",
        {
            f"{_PICKLER}.dump": "what writes a file",
            f"{_PICKLER}.save": "what writes an object",
            f"{_PICKLER}().file_handle": "the file that is written",
            "pickle:_Pickler.memoize": "to write an array once",
            "pickle:_Pickler.get": "to refer to one that has been written",
        },
    ),
    "hashing": Manifest(
        "Hashes of Keras objects that are the same in every process",
        "joblib.hash goes by their pickles",
        {"joblib.hashing:Hasher.dispatch": "what joblib's hash does with functions"},
    ),
    "dask batches": Manifest(
        "Batches for Dask that are opened where they run",
        "errors in tasks may end workers, and joblib.Parallel waits for ever",
        {
            "joblib._dask:DaskDistributedBackend._to_func_args": "what makes tasks of a batch",
            "joblib._dask:DaskDistributedBackend.submit": "what sends a batch",
            "joblib._dask:Batch": "what runs the tasks of one",
        },
    ),
    "dask admission": Manifest(
        "The question whether Dask's workers have this package",
        "a worker without it ends when it gets a model",
        {
            "distributed.client:Client._close": "after which nothing is sent",
            "distributed.client:Client._handle_task_erred": "what a task's error is given to",
            "distributed.client:Client._scatter": "by which data are sent",
            "distributed.client:Client._send_to_scheduler_safe": "by which tasks are sent",
            "distributed.protocol.serialize:serialize": "whether data refer to this package",
        },
    ),
    "dask adapters": Manifest(
        "Dask without its own serializers for Keras",
        "they fail with Keras 3: models can be sent in tasks only",
        {
            f"{_REGISTRY}._lazy": "what is registered once a module of a name is met",
            f"{_REGISTRY}._lookup": "what has been registered by class",
            "distributed.protocol.serialize:dask_deserialize._lookup": "as well, for the way back",
        },
    ),
    "dask sizes": Manifest(
        "The sizes of models that Dask is told",
        "it takes a model for some bytes, and sends one with each task",
        {
            "dask.sizeof:sizeof._lazy": "what is registered once a module of a name is met",
            "dask.sizeof:sizeof._lookup": "what has been registered by class",
            "dask.sizeof:random": "what it draws samples by",
        },
    ),
    "ray classes": _classes("ray.cloudpickle.cloudpickle"),
    "spark classes": _classes("pyspark.cloudpickle.cloudpickle"),
    "spark batches": Manifest(
        "Errors of tasks on Spark",
        "whatever a task raises, joblib says that Parallel has no _backend_args",
        {
            "joblib._parallel_backends:PoolManagerMixin.retrieve_result_callback": "what raises it",
            "joblibspark.backend:SparkDistributedBackend.abort_everything": "what ends a call",
            "joblibspark.backend:SparkDistributedBackend.supports_retrieve_callback": "whether it "
            "is written for this joblib",
        },
    ),
    "skops": Manifest(
        "The error that skops can't hold Keras models",
        "skops says something else",
        {"skops.io._utils:_get_state": "what each object passes on its way into a file"},
    ),
}
