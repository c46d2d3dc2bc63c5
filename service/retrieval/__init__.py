"""Evidence: an index for full-text search, a reranker in processes of its own, and the documents of the demo."""
