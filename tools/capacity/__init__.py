"""How many machines and how much money so many channels and viewers take: measured costs, a simulation, a bill."""
