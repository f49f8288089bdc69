"""Validation of the inputs and outputs of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing, check_array, check_consistent_length

from ..errors import EstimatorError
from ..families import named_parts

__all__ = [
    "check_lengths",
    "check_not_masked",
    "checked_weights",
    "in_dtypes_of_numpy",
    "is_ragged",
    "like_targets",
    "n_samples",
    "naming_ragged",
    "output_shape",
    "selected",
    "single_output",
    "with_text_tensors",
]

_PAD = (
    "pad the samples to one length: keras.utils.pad_sequences(X, dtype='float32', padding='post'); "
    "the layers Masking, or Embedding(mask_zero=True), let a model skip the padding; or, if the "
    "model takes them, make a tf.RaggedTensor of X in a pipeline's FunctionTransformer"
)


def is_ragged(values: Any) -> bool:
    """Return whether `values` are a ragged tensor of TensorFlow."""
    return hasattr(values, "ragged_rank")


@contextlib.contextmanager
def naming_ragged(values: Any, name: str) -> Iterator[None]:
    """Raise a clear error if this context fails for `values` that are ragged.

    Parameters
    ----------
    values : object
        The object that is converted to an array, or that a model gets.
    name : str
        The name of the argument.

    Raises
    ------
    EstimatorError
        If samples have different lengths, or are arrays in an array of objects.
    """
    try:
        yield
    except Exception:  # An error of TensorFlow is of its own kind.
        _refuse_ragged(values, name)
        raise


def _refuse_ragged(values: Any, name: str) -> None:
    if is_ragged(values):
        values = values.to_list()
    lengths = _lengths(values)
    if len(lengths) > 1:
        raise EstimatorError(
            "Samples have different lengths",
            where=name,
            cause=f"lengths such as {_listed(lengths)} don't make one array",
            cure=_PAD,
        )
    if lengths and not isinstance(values, (list, tuple)):
        raise EstimatorError(
            "Samples are arrays in an array of objects",
            where=name,
            cure=f"make one array of numbers: numpy.stack(list({name}))",
        )


def _lengths(values: Any) -> list[int]:
    """Return the distinct lengths of the sequences in `values`: more than one if it is ragged."""
    items = _items(values)
    lengths = sorted({length for item in items if (length := _length(item)) is not None})
    if len(lengths) != 1:
        return lengths
    return next((below for item in items if len(below := _lengths(item)) > 1), lengths)


def _items(values: Any) -> list[Any]:
    """Return the items of a list or of an array of objects; none of an array of numbers."""
    if isinstance(values, (list, tuple)):
        return list(values)
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    return list(np.asarray(values).flat) if kind == "O" and hasattr(values, "__array__") else []


def _length(item: Any) -> int | None:
    """Return the length of a list or an array; None for any other object."""
    if isinstance(item, (list, tuple)):
        return len(item)
    shape = getattr(item, "shape", None)
    return int(shape[0]) if shape else None


def check_not_masked(values: Any, name: str) -> None:
    """Check that `values` are no masked array of NumPy: the values behind its mask would count.

    Raises
    ------
    EstimatorError
        If they are one, and a value is masked.
    """
    if np.ma.is_masked(values):
        raise EstimatorError(
            f"{name} is a masked array of NumPy",
            where=name,
            cause="Keras would compute with the values behind the mask",
            cure=f"fill them, {name}.filled(0.0), and let the layer Masking(mask_value=0.0) skip "
            "such time steps; or leave out these samples, or give them the weight 0",
        )


def check_lengths(inputs: Any, targets: Any) -> None:
    """Check that all parts of the `inputs` have as many samples as all parts of the `targets`.

    Raises
    ------
    EstimatorError
        If the inputs are a list of arrays that look like samples.
    ValueError
        If the numbers of samples differ.
    """
    parts, of_targets = _parts(inputs), _parts(targets)
    lengths = sorted({_n_rows(part) for part in parts})
    n = len(of_targets[0])
    if isinstance(inputs, list) and len(parts) == n and lengths != [n]:
        raise EstimatorError(
            f"X is a list of {len(parts)} arrays, taken as {len(parts)} inputs of a model",
            where="X",
            cause=f"each array seems to be a sample: there are as many as targets, with lengths "
            f"such as {_listed(lengths)}",
            cure=_PAD if len(lengths) > 1 else "make one array of them: numpy.stack(X)",
        )
    check_consistent_length(*parts, *of_targets)


def _parts(inputs: Any) -> list[Any]:
    """Return the arrays of `inputs`: one, or several in a list or dict."""
    if isinstance(inputs, dict):
        return list(inputs.values())
    return inputs if isinstance(inputs, list) else [inputs]


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths[:3]))


def checked_weights(
    weights: Any, targets: NDArray[Any], output: tuple[int | None, ...] | None
) -> NDArray[Any]:
    """Return validated sample weights: one for each sample, or for each step of its output.

    Parameters
    ----------
    weights : array-like
        Of shape (n_samples,); or of shape (n_samples, n_steps), if the output of the model has an
        axis of steps before that of its units.
    targets : ndarray
        The targets on which the model is trained.
    output : tuple or None
        The shape of the output; None if it is not known.

    Raises
    ------
    EstimatorError
        If the output of the model has no axis for such weights.
    ValueError
        If all weights are zero, or their number is not that of the samples.
    """
    checked: NDArray[Any] = check_array(
        weights, ensure_2d=False, allow_nd=True, input_name="sample_weight"
    )
    check_consistent_length(targets, checked)
    if checked.ndim != 1 and not _has_output_for(checked.shape, targets, output):
        raise EstimatorError(
            f"Sample weights must be 1D, got an array of shape {checked.shape}",
            where="sample_weight",
            cause=f"the targets have shape {targets.shape} and the output of the model has shape "
            f"{output or 'unknown'}; Keras weights the steps of an output of shape "
            "(samples, steps, units)",
            cure="for weights of time steps, use an output and targets of shape (samples, steps, "
            "units), also for one unit and for labels: y[..., None]; else pass one weight for each "
            "sample, or weight the steps in a user-defined loss",
        )
    if not checked.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return checked


def _has_output_for(
    shape: tuple[int, ...], targets: NDArray[Any], output: tuple[int | None, ...] | None
) -> bool:
    """Return whether a loss has a value for each of the weights.

    Otherwise Keras may broadcast the weights along a wrong axis.
    """
    axes = len(shape)
    if targets.shape[:axes] != shape:
        return False
    if output is None:
        return axes < targets.ndim
    sizes = zip(output[1:axes], shape[1:], strict=False)
    # A loss is a mean over the last axis of the output. Keras drops that axis if it has one unit
    # and the targets lack it; a sparse loss has several units, and targets without that axis.
    is_kept = axes < targets.ndim or output[-1] != 1
    return axes < len(output) and is_kept and all(size in (None, n) for size, n in sizes)


def output_shape(model: Any) -> tuple[int | None, ...] | None:
    """Return the shape of the single output of `model`; None if it is not known."""
    shape = getattr(model, "output_shape", None)
    return shape if isinstance(shape, tuple) and not any(map(_length, shape)) else None


def single_output(predicted: Any, where: str) -> NDArray[Any]:
    """Return the prediction of a model with one output as an array.

    Parameters
    ----------
    predicted : object
        Return value of Keras's ``predict``: an array, or a list or dict of arrays.
    where : str
        Name of the calling method, for the error message.

    Raises
    ------
    EstimatorError
        If the model has several outputs.
    """
    outputs = list(_outputs(predicted))
    if len(outputs) > 1:
        raise EstimatorError(
            f"The model has {len(outputs)} outputs, and an estimator predicts one array",
            where=where,
            cause=f"the outputs have the shapes {', '.join(str(np.shape(o)) for o in outputs)}",
            cure="pass fit targets for each of them; or join them in the model by "
            "keras.layers.Concatenate, or leave out those that are needed for training only; "
            "model_.predict(X) returns all",
        )
    if outputs and is_ragged(outputs[0]):
        raise EstimatorError(
            "The model predicts samples of different lengths",
            where=where,
            cause="they don't make one array",
            cure="pad them in the model, or call model_.predict(X), which returns a ragged tensor",
        )
    return np.asarray(outputs[0] if outputs else predicted)


def in_dtypes_of_numpy(predicted: Any) -> Any:
    """Return a prediction with float32 in place of dtypes that packages add to NumPy.

    A model with the policy "mixed_bfloat16" predicts such arrays. scikit-learn's metrics and its
    other estimators take them for text, or raise TypeError (1.9).

    Parameters
    ----------
    predicted : object
        Return value of Keras's ``predict``: an array, or a nest of lists and dicts.
    """
    if isinstance(predicted, Mapping):
        return {name: in_dtypes_of_numpy(item) for name, item in predicted.items()}
    if isinstance(predicted, (list, tuple)):
        plain = list if isinstance(predicted, list) else tuple  # not a named one, which takes items
        return plain(map(in_dtypes_of_numpy, predicted))
    is_added = isinstance(predicted, np.ndarray) and predicted.dtype.isbuiltin == 2
    return predicted.astype("float32") if is_added else predicted


def _outputs(predicted: Any) -> Iterator[Any]:
    """Yield the arrays in a nest of lists and dicts; none for a list of plain numbers."""
    if isinstance(predicted, Mapping):
        predicted = list(predicted.values())
    if not isinstance(predicted, (list, tuple)):
        if is_ragged(predicted) or np.ndim(predicted):
            yield predicted
        return
    for item in predicted:
        yield from _outputs(item)


def like_targets(predicted: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """Return a prediction with as many dimensions as the targets.

    Parameters
    ----------
    predicted : ndarray
        Output of a model. An axis of one unit is dropped, or added, if the targets lack or have it.
    dimensions : int
        Number of dimensions of the targets.

    Raises
    ------
    EstimatorError
        If the number of dimensions differs otherwise.
    """
    if predicted.ndim == dimensions + 1 and predicted.shape[-1] == 1:
        return predicted[..., 0]
    if predicted.ndim == dimensions - 1:
        return predicted[..., None]
    if predicted.ndim != dimensions:
        raise EstimatorError(
            f"The model predicts an array of shape {predicted.shape}",
            where="predict",
            cause=f"the targets of fit had {dimensions} dimensions",
            cure="give the model an output of the shape of the targets, or override "
            "target_encoder in a subclass of keras_reduce.scikeras.KerasRegressor",
        )
    return predicted


def with_text_tensors(features: Any) -> Any:
    """Return the inputs of a model, with arrays of strings as Keras takes them."""
    if isinstance(features, Mapping) and not issparse(features):
        return {name: with_text_tensors(part) for name, part in features.items()}
    if isinstance(features, list):
        return [with_text_tensors(part) for part in features]
    is_text = type(features) is np.ndarray and features.dtype.kind == "O"
    return named_parts.text_tensor(features) if is_text else features


def n_samples(features: Any) -> int:
    """Return the number of samples of the inputs of a model."""
    return _n_rows(_parts(features)[0])


def _n_rows(part: Any) -> int:
    """Return the number of rows of an array, or of a sparse matrix, which has no length."""
    return int(part.shape[0]) if hasattr(part, "shape") else len(part)


def selected(inputs: Any, rows: NDArray[Any]) -> Any:
    """Return those samples of an array or frame, or of a list or dict of them, that are selected.

    Parameters
    ----------
    inputs : object
        The samples.
    rows : ndarray of bool, shape (n_samples,)
        Which of them to return.
    """
    if isinstance(inputs, dict):
        return {name: part[rows] for name, part in inputs.items()}
    if isinstance(inputs, list):
        return [part[rows] for part in inputs]
    return _safe_indexing(inputs, rows)
