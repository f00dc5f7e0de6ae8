"""Vectors of what an organisation remembers: embedders, Chroma, and an index in memory."""
