"""What runs on the device: numpy, tokenizers and one engine, no torch. docs/runtime.md tells how it behaves."""
