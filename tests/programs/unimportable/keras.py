"""A module that can't be imported; see `processes.UNIMPORTABLE`."""

raise ImportError("a test hides it")
