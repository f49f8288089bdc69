"""Folders in which traces are kept for other processes.

One is of the program: its workers find there what the others have traced. It is in memory, and goes
with the program. The other is of the user: later programs find there what earlier ones have traced.
"""

from __future__ import annotations

from typing import NamedTuple


class Folders(NamedTuple):
    """Paths of folders; None where there is none.

    Attributes
    ----------
    program : str or None
        Folder of this program and its workers.
    user : str or None
        Folder of all programs of a user.
    """

    program: str | None = None
    user: str | None = None


current = Folders()


def use(**paths: str | None) -> None:
    """Use other folders in this process; parameters are those of `Folders`."""
    global current
    current = current._replace(**paths)
