"""Run the command line: `python -m phoenix`."""

from phoenix.cli.app import main

if __name__ == "__main__":
    main()
