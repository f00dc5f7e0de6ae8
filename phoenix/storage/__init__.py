"""Tables, queries and migrations of the database."""
