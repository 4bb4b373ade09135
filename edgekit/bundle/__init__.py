"""The bundle format: manifest, hashes, golden vectors. docs/bundle.md is the specification."""
