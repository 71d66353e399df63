"""The way to a file that a server owns: over the server while it lives, on the file itself afterwards."""
