"""Where an inference spends its time, layer by layer, here and on a device."""
