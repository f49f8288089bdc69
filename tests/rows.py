"""Rows of versions with which the tests run, for ``noxfile.py`` and for the tests themselves.

To add a row, or a test file to one, edit `ROWS`; to let a row skip a test, `MAY_BE_SKIPPED`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def path_of(name: str) -> str:
    """Return the path of ``test_NAME.py`` below the tests."""
    tests = Path(__file__).parent
    (path,) = tests.glob(f"*/test_{name}.py")
    return path.relative_to(tests).as_posix()


def declared(*names: str, extra: str | None = None) -> tuple[str, ...]:
    """Return requirements of pyproject.toml: those of the distributions `names`, or all.

    Parameters
    ----------
    names : str
        Names of distributions.
    extra : str, optional
        The extra that has them; if left out, the requirements of the package itself.
    """
    all_of_them = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    by_name = {re.split(r"[^\w-]", each)[0]: each for each in all_of_them}
    return tuple(by_name[name] for name in names) if names else tuple(all_of_them)


def for_tests() -> tuple[str, ...]:
    """Return the requirements of the whole suite, without those of the package."""
    extras = (declared(extra=extra) for extra in ("tensorflow", "progress", "reports", "test"))
    return tuple(each for extra in extras for each in extra if not each.startswith("keras_reduce["))


def oldest() -> tuple[str, ...]:
    """Return the oldest versions that pyproject.toml declares for the requirements of the suite."""
    bounds = (*declared(), *for_tests())
    assert all(each.count(">=") == 1 for each in bounds), bounds
    # A later extra may require a newer version.
    by_name = dict(each.split(">=") for each in bounds)
    return tuple(f"{name}=={version}" for name, version in by_name.items())


class Row(NamedTuple):
    """Versions, and the tests to run with them.

    Attributes
    ----------
    about : str
        Purpose of the row.
    tests : tuple of str
        Names of test files, without ``test_`` and ``.py``, or of tests in them (``file::test``);
        none for the whole suite.
    installs : tuple of str
        Requirements that pip installs beside the package and its requirements; one for the same
        distribution as a requirement of the package replaces it.
    expects : tuple of str
        Requirements that must be met in the end; with a ``!`` before it, a distribution that must
        not be there.
    backend : str, optional
        Keras's backend.
    python : str, optional
        Version of Python, if the row needs a certain one.
    reads : tuple of str
        Rows whose dumps must load in this row: see ``test_versions.py``.
    zoo : tuple of str
        Cases of the zoo; none for all of them.
    in_gate : bool
        True if the gate runs the row.
    """

    about: str
    tests: tuple[str, ...]
    installs: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    backend: str | None = None
    python: str | None = None
    reads: tuple[str, ...] = ()
    zoo: tuple[str, ...] = ()
    in_gate: bool = True


_TOOLS = declared("pandas", "psutil", "pytest", "pytest-xdist", extra="test")
_KERAS = declared("keras", extra="tensorflow")

_ON_OTHER_BACKENDS = (
    "rows",
    "private",
    "zoo",
    "installation",
    "golden::test_loads_and_answers_as_written",
    "backends::test_memory_and_values",
    "backends::test_what_one_backend_writes_another_reads",
    "backends::test_workers_compute_with_what_the_program_has_chosen[by_environment]",
    "backends::test_a_worker_that_has_another_backend_says_so",
    "backends::test_sparse_rows_reach_an_estimator_of_each_backend",
)
# Cases of the zoo that may differ between backends; and those that may differ between tf_keras and
# the Keras 2 of TensorFlow 2.12, with which all cases are tried.
_ZOO_OF_BACKENDS = (
    "sequential",
    "functional_two_inputs_two_outputs",
    "subclassed_model_with_containers",
    "layer_without_get_config",
    "lambda_layers",
    "lora",
    "optimizer_of_main",
    "convolutions",
    "recurrent",
    "noise_and_normalizations",
    "normalization_adapted",
    "mixed_float16",
    "frozen_layers",
    "every_optimizer",
    "lone_optimizers",
    "lone_metrics",
    "lone_variables",
    "lone_seed_generators",
    "symbolic_tensors",
    "keras_function",
    "callbacks_after_use",
    "attributes_at_every_level",
    "wrapper_in_pipeline",
    "quantized_int8",
    "lone_layers",
    "lone_losses",
    "lone_rules",
    "lora_on_inner_layers",
    "quantized_inner_layers",
    "calibrated_by_gptq",
)
_ZOO_OF_TF_KERAS = (
    "sequential",
    "functional_two_inputs_two_outputs",
    "functional_in_functional",
    "subclassed_model",
    "subclassed_with_train_step",
    "custom_layers",
    "lambdas",
    "recurrent",
    "convolutions",
    "normalization",
    "lookups",
    "what_configs_leave_out",
    "mixed_precision",
    "layers_with_modules_of_tensorflow",
    "dropout_with_a_generator",
    "legacy_optimizers",
    "optimizer_with_schedule_and_average",
    "optimizers_with_variables_besides_their_lists",
    "metrics_that_hold_others_or_build_late",
    "own_optimizer_loss_and_metric",
    "losses_and_metrics_alone",
    "rules_and_schedules_alone",
    "callbacks_after_use",
)

ROWS = {
    # It runs in the environment in which nox itself is installed; nothing is installed for it.
    "tensorflow": Row(
        "the newest versions that are released, the whole suite",
        tests=(),
        # TensorFlow imports dill and tblib if they are installed; the row tf_keras has neither.
        expects=("keras>=3.15", "tensorflow>=2.21", "dill", "tblib"),
        backend="tensorflow",
        reads=("oldest", "jax", "torch"),
    ),
    "jax": Row(
        "Keras 3 on JAX, without TensorFlow",
        tests=(*_ON_OTHER_BACKENDS, "distribution"),
        installs=("jax", *_KERAS, *_TOOLS, "scikeras"),
        expects=("jax>=0.4", "keras>=3.15", "!tensorflow", "!torch"),
        backend="jax",
        reads=("tensorflow", "oldest"),
        zoo=_ZOO_OF_BACKENDS,
    ),
    "torch": Row(
        "Keras 3 on Torch, without TensorFlow",
        tests=_ON_OTHER_BACKENDS,
        # A release with a wheel for the CPU only.
        installs=("torch==2.13.0", *_KERAS, *_TOOLS, "scikeras"),
        expects=("torch>=2", "keras>=3.15", "!tensorflow", "!jax"),
        backend="torch",
        reads=("tensorflow", "oldest"),
        zoo=_ZOO_OF_BACKENDS,
    ),
    **{
        backend: Row(
            f"Keras's {title} backend, which predicts what others have trained",
            tests=(
                "rows",
                "serving",
                "golden::test_loads_and_answers_as_written",
            ),
            # Keras's NumPy backend computes some layers by JAX, and so do parts of the other one.
            installs=("jax", *needed, *_KERAS, *_TOOLS),
            expects=("keras>=3.15", *needed, "!tensorflow", "!torch"),
            backend=backend,
            reads=("tensorflow",),
            in_gate=backend == "numpy",  # OpenVINO compiles each model, which takes minutes.
        )
        for backend, title, needed in (
            ("numpy", "NumPy", ()),
            ("openvino", "OpenVINO", ("openvino>=2026.4",)),
        )
    },
    "keras2": Row(
        "the last TensorFlow that had Keras 2, and a scikit-learn of its time",
        tests=("rows", "keras2", "golden", "dumps"),
        installs=("tensorflow-cpu==2.12.*", "scikit-learn==1.5.*", *_TOOLS),
        expects=("keras==2.12.*", "tensorflow-cpu==2.12.*", "scikit-learn==1.5.*"),
        python="3.11",
    ),
    "keras2_today": Row(
        "the last TensorFlow that had Keras 2, and a scikit-learn that asks estimators for tags",
        tests=("rows", "keras2::test_everything_else"),
        installs=("tensorflow-cpu==2.12.*", "scikit-learn>=1.6", *_TOOLS),
        expects=("keras==2.12.*", "scikit-learn>=1.6"),
        python="3.11",
    ),
    "tf_keras": Row(
        "Keras 2 as a package of its own, beside Keras 3",
        tests=(
            "rows",
            "keras2",
            "golden::test_loads_and_answers_as_written",
            "golden::test_loads_by_a_list_of_what_is_trusted",
        ),
        installs=(*declared(extra="tf_keras"), *_KERAS, *_TOOLS, "scikeras"),
        expects=("tf_keras>=2.16", "keras>=3", "!dill", "!tblib"),
        backend="tensorflow",
        zoo=_ZOO_OF_TF_KERAS,
    ),
    "oldest": Row(
        "the oldest versions that pyproject.toml declares",
        tests=(
            "rows",
            "private",
            "payloads",
            "persistence::test_models",
            "wrappers",
            "dumps",
            "later_changes",
            "installation",
            "golden::test_loads_and_answers_as_written",
            "golden::test_loads_by_a_list_of_what_is_trusted",
            "parallel::test_after_the_program_has_computed_with_tensorflow",
            "traces::test_estimators_find_the_same_with_shared_traces[random_lives_are_as_those_of_their_twins]",
            "templates::test_clones_are_as_rebuilt_models[training_goes_on_bit_for_bit]",
        ),
        installs=oldest(),
        expects=oldest(),
        backend="tensorflow",
        reads=("tensorflow",),
    ),
    "clusters": Row(
        "the engines that joblib's calls may run on, started on this machine",
        tests=("rows", "dask", "ray", "spark", "private_names", "examples::test_a_search_on_dask"),
        installs=(
            *(declared(extra="dask") + declared(extra="ray") + declared(extra="spark")),
            *declared(extra="tensorflow"),
            *_TOOLS,
            "dask-ml",
            "ray[tune]",
            "scikeras",
        ),
        expects=("distributed", "dask-ml", "ray", "pyspark", "joblibspark", "keras>=3.15"),
        backend="tensorflow",
    ),
    "libraries": Row(
        "libraries that build on Keras 3; no part of the gate, as it takes minutes",
        tests=("rows", "libraries"),
        installs=(
            "keras-hub==0.32.*",
            "keras-tuner>=1.4.8",
            "hgq2>=0.2",
            "sentencepiece",
            "tensorboard",  # KerasTuner imports it; TensorFlow no longer requires it.
            *declared(extra="tensorflow"),
            *_TOOLS,
        ),
        expects=("keras-hub>=0.32", "keras-tuner", "hgq2", "keras>=3.15"),
        backend="tensorflow",
        in_gate=False,
    ),
    "libraries_keras2": Row(
        "libraries that build on tf_keras, with the last versions that can be installed together",
        tests=("rows", "libraries_keras2"),
        installs=(
            "tensorflow==2.19.*",
            "tf_keras==2.19.*",
            "tensorflow-probability==0.25.*",
            "tensorflow-decision-forests==1.12.*",
            "ydf==0.11.*",
            "protobuf<6",
            # QKeras requires "pyparser", but imports pyparsing.
            "QKeras==0.9.*",
            "pyparsing<3.3",
            "keras-cv==0.9.*",
            *_TOOLS,
            *_KERAS,
        ),
        expects=("tf_keras==2.19.*", "tensorflow-probability", "QKeras", "keras-cv", "keras>=3.13"),
        backend="tensorflow",
        python="3.11",
        in_gate=False,
    ),
    "company": Row(
        "formats, trackers, servers, pools and stores; no part of the gate, as it takes minutes",
        tests=("rows", "skops", "mlflow", "private_names", "servers", "pools"),
        installs=(
            "skops>=0.16",
            "mlflow>=3.17",
            "gunicorn>=26",
            "uvicorn>=0.54",
            "celery>=5.7",
            "diskcache>=5.6",
            "ipykernel>=6.29",
            "mpi4py>=4.1",
            "mpich>=5",
            "nbclient>=0.10",
            "optuna>=4",
            "pathos>=0.3.5",
            "scikeras",
            "tensorboard",  # For cases of the zoo.
            *declared(extra="tensorflow"),
            *_TOOLS,
        ),
        expects=("skops>=0.16", "mlflow>=3.17", "gunicorn", "uvicorn", "mpi4py", "keras>=3.15"),
        backend="tensorflow",
        in_gate=False,
    ),
    "searches": Row(
        "packages that search, sample or hold data for estimators; no part of the gate",
        tests=("rows", "with_other_packages"),
        installs=(
            "scikit-optimize>=0.10",
            "optuna>=4",
            "optuna-integration>=4",
            "imbalanced-learn>=0.14",
            "polars>=1",
            "pyarrow>=20",
            *declared(extra="tensorflow"),
            *_TOOLS,
        ),
        expects=(
            "scikit-optimize",
            "optuna",
            "optuna-integration",
            "imbalanced-learn",
            "polars",
            "pyarrow",
            "keras>=3.15",
        ),
        backend="tensorflow",
        in_gate=False,
    ),
    "bare": Row(
        "no Keras, nor anything that computes for it",
        tests=(
            "rows",
            "bare",
            "first_steps",
            "dumps",
            "architecture",
            "persistence::test_files",
            "persistence::test_reading_what_has_no_model_loads_no_framework",
            "installation::test_import_and_install_load_no_framework",
            "explanation::test_without_installation_or_keras",
            "inspection::test_needs_no_keras",
        ),
        installs=_TOOLS,
        expects=("!keras", "!tf_keras", "!tensorflow", "!tensorflow-cpu", "!jax", "!torch"),
    ),
    "newest": Row(
        "what is not released yet: shows what will break, and is no part of the gate",
        tests=(
            "rows",
            "versions",
            "golden",
            "private",
            "zoo",
            "payloads",
            "public",
            "persistence",
            "wrappers",
            "scikeras",
            "installation",
            "hashing",
            "traces",
            "sharing",
            "parallel",
        ),
        # Release candidates; nightly builds have other names: tf-nightly, keras-nightly.
        installs=("--pre", *for_tests()),
        expects=("keras>=3.15", "tensorflow>=2.21"),
        backend="tensorflow",
        in_gate=False,
    ),
}

# Tests that a row can't run, by the beginning of their names ("test_file.py::test_name"), with the
# reason. Any other skip in a row is a failure.
MAY_BE_SKIPPED: dict[str, dict[str, str]] = {}


def in_gate() -> list[str]:
    """Return the rows that the gate runs; the whole suite, which takes longest, comes first."""
    return [name for name, row in ROWS.items() if row.in_gate]


def zoo_of(row: str, cases: list[str]) -> list[str]:
    """Return the cases of a zoo that a row tries; all, if `row` is empty or selects none."""
    part = ROWS[row].zoo if row else ()
    assert set(part) <= set(cases), set(part) - set(cases)
    return [name for name in cases if name in part] if part else cases
