"""The confirmation of a sweep: a race, its judgement, and what is recorded of it."""
