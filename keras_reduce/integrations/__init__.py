"""Patches of other libraries, and what workers of their engines need."""
