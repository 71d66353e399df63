"""`python -m ebbgate`: the command, where the script is not on the path."""

from ebbgate.cli.main import main

if __name__ == "__main__":
    main()
