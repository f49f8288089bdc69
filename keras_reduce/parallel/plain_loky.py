"""joblib's own backend "loky", which runs where ours can't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OURS = {"gpus", "max_worker_growth", "progress", "retries"}


def known_to_loky(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of the backend "keras" that loky has as well."""
    return {name: value for name, value in options.items() if name not in _OURS}
