"""Where engines are measured: side by side here, on a device, or counted on an emulator."""
