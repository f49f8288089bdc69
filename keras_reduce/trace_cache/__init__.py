"""Traces that models share: which models are alike, and the functions traced for them."""
