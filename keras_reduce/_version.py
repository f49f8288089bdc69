"""The one place that holds the version: read by packaging and by the payload header."""

__version__ = "0.1.0"
