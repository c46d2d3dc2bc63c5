"""The migrations of the state database, in order; run by service/store/migrate.py."""
