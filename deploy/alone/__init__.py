"""One agent without a swarm: `swarm run CHARACTER`. Its messages come over HTTP, and there is nobody else.

    settings    what the command line and the environment ask for
    store       where its memory is
    agent       the agent behind its mailbox, on a bus in memory
    question    what a body asks
    reply       what is answered, with which status
    streaming   an answer as server-sent events
    door        the addresses
    server      the HTTP server
    life        from the start to the exit code

It stands in `deploy` because serving is a way of running an agent, not a part of one: `swarm/` knows no HTTP server,
and an agent of a swarm never imports one.
"""
