"""The tuning database: which schedules were measured, where, and how fast."""
