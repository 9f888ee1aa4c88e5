"""What operators can have done, a file for each of the rooms that it concerns; `control` reads the request.

looking    ping, ps, tree, stats        mail       messages and inboxes
dead       dead letters
saying     ask, tell, announce          tasks      delegate, and the ledger of tasks
running    stop, start, restart, converge    family     spawn, remove, permit, family
"""
