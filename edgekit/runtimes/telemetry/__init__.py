"""What the board says of itself: heat, clocks, throttling, memory, pressure, power. docs/realtime.md says whence."""
