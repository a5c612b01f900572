"""The tuning database: which schedules were measured, where, how fast; what compile and tune share."""
