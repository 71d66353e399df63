"""Global concurrency limits and rate limits for any process on any machine."""
