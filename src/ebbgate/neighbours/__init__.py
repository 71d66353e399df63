"""The processes of one machine that share a file: who lives, who owns it, and how one tells another to look."""
