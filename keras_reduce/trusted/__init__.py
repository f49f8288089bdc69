"""Checks of the names in a payload against a trust policy, for readers of pickles and of skops."""
