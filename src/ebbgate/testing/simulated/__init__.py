"""A world in virtual time in which processes share limits through a store and everything goes wrong."""
