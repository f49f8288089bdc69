"""Variables of TensorFlow, made past the constructor of `tf.Variable`.

The constructor takes most of the time that rebuilding a variable takes. What it does, for
an eager program without a distribution strategy, is two operations and a dictionary.
"""

from __future__ import annotations

import functools
import logging
import weakref
from typing import Any

from .private import RAW_VARIABLES

_log = logging.getLogger(__package__.partition(".")[0])


def is_possible() -> bool:
    """Return whether a `Maker` does, at this moment in this thread, what `tf.Variable` does."""
    return _is_known() and _is_plain()


def is_like(value: Any) -> bool:
    """Return whether `value` is a variable as a `Maker` returns them."""
    return type(value) is _tools().cls and [*vars(value)] == [*_ATTRIBUTES]


def _is_plain() -> bool:
    """Return whether nothing takes part in the making of variables but the constructor."""
    import tensorflow as tf

    # Private: what a `tf.variable_creator_scope` adds to.
    from tensorflow.python.framework import ops

    if not tf.executing_eagerly() or tf.distribute.has_strategy():
        return False
    graph = ops.get_default_graph()
    return not (graph._variable_creator_stack or graph._container)


class Maker:
    """Maker of variables in the scopes that are open now; ask `is_possible` before."""

    def __init__(self) -> None:
        # Private: how TensorFlow names variables, see `_Tools`.
        self._tools = tools = _tools()
        self._scope = tools.context().scope_name
        self._graph_key = tools.get_default_graph()._graph_key

    def __call__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        tensor: Any,
        *,
        trainable: bool,
        aggregation: Any,
        synchronization: Any,
    ) -> Any:
        """Return a `tf.Variable` that holds `tensor`.

        Its name is put below the names of the open scopes. The other arguments are as for
        `tf.Variable`, in the types of TensorFlow.
        """
        tools = self._tools
        static_shape, handle_data = _static(shape, dtype)
        handle = tools.var_handle_op(
            dtype=dtype, shape=static_shape, shared_name=tools.anonymous_name(), debug_name=""
        )
        tools.assign_op(resource=handle, value=tensor)
        scoped_name = f"{self._scope}{name}"
        variable = object.__new__(tools.cls)
        handle._handle_data = handle_data
        handle._parent_trackable = weakref.ref(variable)
        handle._name = handle_name = f"{scoped_name}:0"
        handle._unique_id = unique_id = f"{scoped_name}_{tools.uid()}"
        variable.__dict__.update(
            _ATTRIBUTES,
            _trainable=trainable,
            _synchronization=synchronization,
            _aggregation=aggregation,
            _graph_key=self._graph_key,
            _shape=static_shape,
            _dtype=dtype,
            _handle=handle,
            _unique_id=unique_id,
            _handle_name=handle_name,
        )
        return variable


class _Tools:
    """Functions of TensorFlow, looked up once: a model has hundreds of variables."""

    def __init__(self) -> None:
        import tensorflow as tf
        from tensorflow.python.eager import context
        from tensorflow.python.framework import ops
        from tensorflow.python.ops import resource_variable_ops

        self.var_handle_op, self.assign_op = tf.raw_ops.VarHandleOp, tf.raw_ops.AssignVariableOp
        self.anonymous_name, self.context = context.anonymous_name, context.context
        self.uid, self.get_default_graph = ops.uid, ops.get_default_graph
        self.cls = resource_variable_ops.ResourceVariable


_tools = functools.cache(_Tools)


@functools.lru_cache(maxsize=1024)
def _static(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """Return a shape and a dtype as a handle knows them; TensorFlow changes neither."""
    import tensorflow as tf
    from tensorflow.python.ops import handle_data_util

    static_shape = tf.TensorShape(shape)
    return static_shape, handle_data_util.create_handle_data(static_shape, dtype)


@functools.cache
def _is_known() -> bool:
    """Return whether `tf.Variable` makes what a `Maker` makes."""
    if not RAW_VARIABLES.is_complete():
        return False
    import tensorflow as tf

    with tf.init_scope():
        specimen = tf.Variable(0.0, trainable=False)
    alike = {name: value for name, value in vars(specimen).items() if name not in _OWN}
    if is_like(specimen) and alike == {name: _ATTRIBUTES[name] for name in alike}:
        return True
    _log.warning(
        "%s is off: variables of this TensorFlow have other attributes, so %s",
        RAW_VARIABLES.feature,
        RAW_VARIABLES.instead,
    )
    return False


# Private: the attributes of a variable of an eager program in their order, with what is the same on
# each; and those that are not.
_ATTRIBUTES: dict[str, Any] = {
    "_in_graph_mode": False,
    "_trainable": None,
    "_synchronization": None,
    "_aggregation": None,
    "_save_slice_info": None,
    "_initial_value": None,
    "_initializer_op": None,
    "_is_initialized_op": None,
    "_graph_element": None,
    "_caching_device": None,
    "_cached_value": None,
    "_distribute_strategy": None,
    "_graph_key": None,
    "_shape": None,
    "_dtype": None,
    "_handle": None,
    "_unique_id": None,
    "_handle_name": None,
    "_constraint": None,
    "_cached_shape_as_list": None,
    "_validate_shape": True,
    "_xla_sharding": None,
    "_variable_read": False,
}
_OWN = frozenset(
    {
        "_trainable",
        "_synchronization",
        "_aggregation",
        "_graph_key",
        "_shape",
        "_dtype",
        "_handle",
        "_unique_id",
        "_handle_name",
    }
)
