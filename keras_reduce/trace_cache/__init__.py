"""Cache of TensorFlow traces that equal models share, and its keys."""
