"""Which schedule to try next: tasks, their state and the search."""
