"""Phoenix turns a written requirement into delivered, verified software."""

__version__ = "0.1.0"
