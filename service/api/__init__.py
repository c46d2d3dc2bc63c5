"""The routes: how HTTP becomes a request of ours and how its answer becomes HTTP. Nothing is decided here."""
