"""Payloads, weights, code objects, and detection of the running pickler."""
