"""Why the winner wins: which of its fields matter, near it and together, and how far one may go."""
