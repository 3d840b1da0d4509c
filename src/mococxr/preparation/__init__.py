"""A dataset becomes a store: images decoded, patients split, everything recorded."""
