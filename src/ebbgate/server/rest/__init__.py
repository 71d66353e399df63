"""REST, version 1: the way in for every language."""
