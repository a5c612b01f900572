"""Who measures candidates: a pool of workers here, a farm of devices, or a model of the core."""
