"""The steps of a turn, a file each, named like their span: `retrieval.query` is retrieval_query.py."""
