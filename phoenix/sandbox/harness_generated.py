"""Give a package the version module that its build backend would have written.

Copied into every environment as `phoenix_generated`, so it imports nothing of Phoenix. It is loaded only
in that of a project that declares such a module, and asked last: a file that the workspace has wins.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

FOLDER = Path(__file__).with_name("phoenix-generated")


class Generated:
    """Finds modules by their whole name in one folder."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return how to load the module; None when it is none of these."""
        file = FOLDER / f"{name}.py"
        if path is None or not file.is_file():
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, file)


sys.meta_path.append(Generated)
