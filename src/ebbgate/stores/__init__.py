"""Where the truth is kept. `open_store` is the only place that knows all stores."""
