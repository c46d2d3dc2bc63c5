"""The engine beyond one machine: Temporal says who works when. Loaded by the workforce if the settings say so.

Temporal knows of a job its id, kind and tenant and how it ended; what it is about stays in the state database.
"""
