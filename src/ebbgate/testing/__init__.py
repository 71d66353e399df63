"""For users and authors of stores: the simulation, and what every store must do."""
