"""Dry runs of picklers: which object keeps another from travelling, and where it is."""
