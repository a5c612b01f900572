"""ARM devices that QEMU emulates here, and the instructions they execute."""
