"""Real time: streams, ladders of models, the governor. docs/realtime.md tells how they behave."""
