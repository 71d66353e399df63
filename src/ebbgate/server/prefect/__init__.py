"""The way in for unmodified clients of Prefect: its API for global concurrency limits, under `/api`."""
