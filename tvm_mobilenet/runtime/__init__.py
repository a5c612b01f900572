"""What a device needs to run a bundle, and nothing else."""
