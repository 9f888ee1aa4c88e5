"""What is wrong with a swarm, and what to do: `swarm doctor`.

finding     one thing that was looked at, its verdict and its remedy
machine     the disk, the project's folder, what should run here
servers     the bus and the store: reached, right, up to date, on time
swarm       the coordinator, the nodes, the agents
agent       one agent, wherever it runs (H12)
plugin      one plugin, tried in a process of its own (H13)
examine     all of it in order; what depends on something broken is not looked at
"""
