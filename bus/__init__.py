"""The wire: envelopes, subjects, credentials and the buses that carry messages. Knows no agents, no Postgres.

Read `bus.bus` (the contract), `bus.envelope` and `bus.subjects`; `docs/protocol.md` says the same for other
languages. Nothing is imported here, so that who needs one module loads one module.
"""
