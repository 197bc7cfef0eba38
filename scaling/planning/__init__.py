"""What a run will take: hardware, cost, and compiled programs read."""
