"""What Alembic runs for each upgrade: on the connection, and in the transaction, that it was handed."""

from alembic import context

from service.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
