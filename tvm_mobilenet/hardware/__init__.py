"""What a machine is: targets as data, this host's CPU and GPU, its cores, memory and compilers."""
