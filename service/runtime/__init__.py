"""Budgets, cancellation, bounded queues and fair places, for any long-lived request: no word of language models in here."""
