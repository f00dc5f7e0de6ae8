"""The gateway to models: providers, budget, retries, structured output, recordings."""
