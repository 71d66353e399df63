"""How fast servers are that share a database: real ones, as safe as users run them."""
