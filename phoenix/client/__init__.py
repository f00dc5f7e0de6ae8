"""A client of the HTTP API. It knows Phoenix's models, and nothing of how they are stored or worked on."""
