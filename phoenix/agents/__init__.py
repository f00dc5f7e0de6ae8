"""Agents: plain async functions of typed input and ports. Their prompts are files in `prompts/`."""
