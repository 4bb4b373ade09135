"""Dual encoders as engine files: a file for each tower, each with its distance from torch stated."""
