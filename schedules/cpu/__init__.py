"""What the schedules of x86 and ARM share."""
