"""Forebay's runtime: from a request's first byte to its last event. ARCHITECTURE.md has the picture."""
