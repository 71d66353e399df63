"""The command `ebbgate`."""
