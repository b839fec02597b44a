"""What configurations cost: score against seconds, and the cheapest one that solves the problem."""
