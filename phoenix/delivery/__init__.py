"""Hand finished work to its user: a branch and an evidence report."""
