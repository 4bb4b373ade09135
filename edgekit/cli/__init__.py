"""The command line: one module a verb. It parses, calls the API and prints; it decides nothing."""
