"""The command line. Modules import heavy libraries inside functions, so that `--help` is quick."""
