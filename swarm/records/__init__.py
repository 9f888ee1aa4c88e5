"""What the ledger and the memory hold, as frozen values. The same words stand in the SQL schema.

Ids are strings: UUIDs in their usual form (version 7 for rows, derived ones where a retry must find the
same row again). Times are Unix milliseconds. Agents are named by their name in the swarm, which is
also their token in subjects; the id is the character's.
"""

from swarm.records.agents import (
    CHILD_PERMISSIONS,
    DEFAULT_LIMITS,
    AgentPermissions,
    AgentPlan,
    AgentRecord,
    Balance,
    Birth,
    Desired,
    Family,
    HierarchyLimits,
    NewChild,
    Orphans,
)
from swarm.records.memories import Found, Memory, Participant, Room, RoomState
from swarm.records.messages import (
    Content,
    DeliveryState,
    DeliveryView,
    Dispatch,
    Ended,
    InboxView,
    LedgerKind,
    MessageView,
    Outgoing,
    Receipt,
)
from swarm.records.names import COORDINATOR, OPERATOR, RESERVED_NAMES
from swarm.records.tasks import (
    DEADLINE_PASSED,
    MOST_INPUTS,
    TASK_TRANSITIONS,
    TERMINAL_TASK_STATES,
    NewTask,
    Task,
    TaskChange,
    TaskInput,
    TaskOutcome,
    TaskState,
)
from swarm.records.turns import Committed, Turn

__all__ = [
    "CHILD_PERMISSIONS",
    "COORDINATOR",
    "DEADLINE_PASSED",
    "DEFAULT_LIMITS",
    "MOST_INPUTS",
    "OPERATOR",
    "RESERVED_NAMES",
    "TASK_TRANSITIONS",
    "TERMINAL_TASK_STATES",
    "AgentPermissions",
    "AgentPlan",
    "AgentRecord",
    "Balance",
    "Birth",
    "Committed",
    "Content",
    "DeliveryState",
    "DeliveryView",
    "Desired",
    "Dispatch",
    "Ended",
    "Family",
    "Found",
    "HierarchyLimits",
    "InboxView",
    "LedgerKind",
    "Memory",
    "MessageView",
    "NewChild",
    "NewTask",
    "Orphans",
    "Outgoing",
    "Participant",
    "Receipt",
    "Room",
    "RoomState",
    "Task",
    "TaskChange",
    "TaskInput",
    "TaskOutcome",
    "TaskState",
    "Turn",
]
