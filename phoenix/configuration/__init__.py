"""Where settings and composed files come from, read strictly. Knows no setting by name."""
