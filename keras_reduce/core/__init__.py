"""Payloads, weights, code by value, and what can be known of the pickler at work."""
