"""Torch: dual encoders (CLIP). Image and text towers, import of other checkpoints, losses, structured pruning."""
