"""Where LangGraph keeps the state of runs: PostgreSQL, with types nobody can smuggle in."""
