"""Budgets, cancellation, bounded queues, fair places: for any long request, without a word of language models."""
