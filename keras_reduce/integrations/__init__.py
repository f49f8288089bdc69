"""Patches of other libraries, and set-up of the workers of their engines."""
