"""How fast it is through a server: `ebbgate serve` in a process of its own, its clients in others."""
