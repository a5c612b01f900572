"""What schedule a kernel has: by default, at a point of its space, or by a record's trace."""
