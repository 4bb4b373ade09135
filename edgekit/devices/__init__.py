"""The machine at hand: what it is, what is installed on it, how fast a bundle runs there."""
