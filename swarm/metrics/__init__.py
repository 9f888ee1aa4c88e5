"""Numbers on their way out, whoever counted them: one shape (`family`), and how others want to read it.

    histogram    durations, counted in fixed buckets
    prometheus   the text that a scraper pulls
    otlp         the JSON that a collector is sent
    pushing      the sending of it all, every so often, in the background
    posting      the sending: one bounded HTTP request
    pages        `/health`, `/ready` and `/metrics` of a process that has no other door

What an agent counts is in `swarm/agent/metrics.py`, what it tells of it in `swarm/agent/families.py`.
"""
