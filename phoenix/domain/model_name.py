"""Names of models: `provider:model`, `recorded:FILE`, and `chaos:RATE[,seed=N]:` before one of them."""

from __future__ import annotations

import re

CHAOS = re.compile(r"chaos:[^:]*:(.*)", re.DOTALL)


def behind_chaos(name: str) -> str:
    """Return the model that answers where chaos does not; any other name as it is."""
    while (found := CHAOS.fullmatch(name)) is not None:
        name = found[1]
    return name
