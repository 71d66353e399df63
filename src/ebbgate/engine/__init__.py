"""The one loop between commands and a store."""
