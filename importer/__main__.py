"""Lets `python -m importer` do what the `importer` command does."""

from importer.cli import main

if __name__ == "__main__":
    main()
