"""What a browser shows: files that are served as they are, and log-ins with a key."""
