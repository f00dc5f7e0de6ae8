"""The bundled project: a requirement, and the recording of the model that built it."""
