"""The server: the same limits for every machine and every language, behind one address."""
