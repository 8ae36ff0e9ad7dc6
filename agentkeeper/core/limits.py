"""Every bound of the product, by name. What exceeds one is refused with a message that names it.

Sizes of text are in bytes of UTF-8.
"""

from typing import Final

# Text fields.
NAME_BYTES: Final = 256
"""Names, versions, groups, task types, policy ids, lease keys, idempotency keys."""
AGENT_ID_BYTES: Final = 64
TASK_ID_BYTES: Final = 512
"""Lease keys and ids of tasks."""
DESCRIPTION_BYTES: Final = 8_192
PATTERN_BYTES: Final = 512
"""Subject, action and resource, in policies and in checks."""
QUERY_BYTES: Final = 1_024
REASON_BYTES: Final = 2_048
TOPIC_BYTES: Final = 128
PAGE_TOKEN_BYTES: Final = 32
ENDPOINT_BYTES: Final = 256
SESSION_ID_BYTES: Final = 64
NODE_ID_BYTES: Final = 64

# Lists.
TOOLS: Final = 256
CAPABILITIES: Final = 64
METADATA_ENTRIES: Final = 64
METADATA_VALUE_BYTES: Final = 1_024
CARD_BYTES: Final = 65_536
TOPICS: Final = 64

# Numbers.
TTL_SECONDS_MAX: Final = 86_400
AGENT_TTL_MS_DEFAULT: Final = 30_000
LEASE_TTL_MS_DEFAULT: Final = 60_000
TASK_TTL_MS_DEFAULT: Final = 60_000
SESSION_TTL_MS_DEFAULT: Final = 600_000
WAIT_MS_MAX: Final = 3_600_000
FIND_LIMIT_DEFAULT: Final = 10
FIND_LIMIT_MAX: Final = 1_000
LIST_LIMIT_DEFAULT: Final = 100
LIST_LIMIT_MAX: Final = 10_000
NAMED_IN_ANSWERS: Final = 100
"""Of those in line for a lease, of candidates, of matching policies: the rest is counted."""
STATUSES: Final = 16
"""`statuses` of ListAgents."""
RETRIES_MAX: Final = 1_000
PRIORITY_MAX: Final = 1_000_000
COUNTER_MAX: Final = 2**53 - 1
"""Tokens, terms, sequence and request numbers stay exact in every language's numbers."""
BLOB_BYTES: Final = 1_048_576
"""A task's input or output."""

# Collections in the state.
AGENTS: Final = 100_000
"""ALIVE and UNREACHABLE ones."""
DEAD_AGENTS: Final = 20_000
CARDS_BYTES: Final = 268_435_456
"""All cards together; those of DEAD agents make room for new ones."""
LEASES: Final = 200_000
LEASES_EACH: Final = 1_000
"""Held by one agent: what its death frees at once."""
LEASE_WAITERS: Final = 50_000
LEASE_WAITERS_EACH: Final = 1_000
"""For one lease."""
GROUPS: Final = 10_000
GROUPS_EACH: Final = 200
"""In which one agent is a candidate."""
CANDIDATES_EACH: Final = 1_000
"""In one group."""
POLICIES: Final = 10_000
PATTERN_SUBJECTS: Final = 2_000
"""Policies whose subject has a wildcard: every check looks at them."""
TASKS: Final = 100_000
"""PENDING and CLAIMED ones."""
CLAIMS_EACH: Final = 500
"""Of one agent."""
FINISHED_TASKS: Final = 50_000
TASK_BYTES: Final = 268_435_456
"""Inputs, outputs and names of required tools together."""
TOOL_SETS: Final = 1_000
"""Distinct sets of required tools among PENDING and CLAIMED tasks."""
SESSIONS: Final = 20_000
"""Of clients."""
SESSION_WINDOW: Final = 256
"""Requests of a client's session that may be unanswered at a time."""
REPLICA_SESSION_WINDOW: Final = 16_384
"""The same for a replica, which serves callers without a session under its own."""
EVENTS: Final = 20_000
"""Kept for watchers to resume from; one that is further behind is cut."""
EVENT_BYTES: Final = 16_777_216
REPLICAS: Final = 16

# Times, on the cluster clock.
AGENT_RETENTION_MS: Final = 3_600_000
"""How long a DEAD agent is remembered."""
TASK_RETENTION_MS: Final = 86_400_000
"""How long a COMPLETED or DEAD task is kept."""
GROUP_RETENTION_MS: Final = 86_400_000
"""How long an election group without candidates keeps its place; its terms are never reused."""
GRANT_CONFIRM_MS: Final = 5_000
"""A lease granted to a waiter passes on unless confirmed within this time."""
WAITER_SLACK_MS: Final = 5_000
"""How much longer a waiter is kept than its caller said it would wait."""
TAKEOVER_GRACE_MS: Final = 3_000
"""After a new leader takes over nothing expires for this long: clients need it to reconnect."""

# Work.
CLAIM_EXPIRIES: Final = 10
"""Claims of a task that may end unanswered before it is DEAD."""
DUE_WORK_PER_ENTRY: Final = 256
"""Expiries that one log entry works off; the next entry follows at once."""
DIGEST_BACKLOG: Final = 256
"""Changed records after which the digest is brought up to date."""
DIGEST_EVERY: Final = 4_096
"""Log indexes after which replicas compare their digests."""

# On each replica, outside the state.
REQUEST_BYTES: Final = 4_194_304
RESPONSE_BYTES: Final = 4_000_000
BATCH_COMMANDS: Final = 256
"""Of one replica; an entry may carry as many of each. Few enough that applying stalls nobody."""
BATCH_BYTES: Final = 2_097_152
PENDING_COMMANDS: Final = 8_192
"""Commands of one replica waiting to be decided; more are refused as overload."""
PENDING_BYTES: Final = 67_108_864
PENDING_READS: Final = 8_192
CLAIM_WAITERS: Final = 10_000
WATCHERS: Final = 2_000
CONCURRENT_CALLS: Final = 20_000
"""Those that wait for a lease or a task not counted."""
LATE_MS: Final = 500
"""How long a call may wait for its turn to begin."""
WAITING_CALLS: Final = 20_000
"""Calls that wait for a lease or a task."""
UNDER_WAY_BYTES: Final = 134_217_728
"""Requests of all calls under way."""
OWED_COMMANDS: Final = 50_000
"""Withdrawals for calls that have ended, until they are decided."""
STREAMS: Final = 4_096
"""Shared streams, of one client each."""
FRAME_CALLS: Final = 1_024
STREAM_CALLS: Final = 10_000
"""Under way on one stream, those that wait included."""
STREAM_WORKING_CALLS: Final = 4_096
"""The same, of those that do not wait: a part of `CONCURRENT_CALLS`."""
STREAM_UNDER_WAY_BYTES: Final = 67_108_864
"""Requests of one stream's calls under way."""
STREAM_UNREAD_BYTES: Final = 4_194_304
"""Answers that a client has not taken: no more calls are read from it before it does."""
STREAM_CUT_BYTES: Final = 67_108_864
"""The same, from calls that were under way by then: the stream ends."""
UNREAD_BYTES: Final = 268_435_456
"""The same of all streams of a replica: the one with most ends."""
ANSWER_FRAME_BYTES: Final = 1_048_576
"""Answers in one frame; a larger one travels alone."""
SNAPSHOTS_SENT: Final = 2
"""To callers that save one, at a time."""
DIGESTS_KEPT: Final = 8
"""Of each replica, to be compared with those of replicas that are ahead or behind."""
