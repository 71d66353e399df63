"""The way to a server: connections, and what must hold across their breaks."""
