"""C sources that run under, or inside, QEMU: see emulator.py and instruction_count.py."""
