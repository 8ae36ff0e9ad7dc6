"""Naive rules of leases: one holder, tokens that only grow, a line of waiters."""

from naive_base import find, full, missing, refuse, swap

from agentkeeper.core import limits
from agentkeeper.core.records import DONE, WAITING, Acquired, Lease, Refused, Waiter


class LeaseRules:
    """The line of a lease is the waiters for it in the order in which they came."""

    def line(self, task_id):
        return [w for w in self.waiters if w.task_id == task_id]

    def held(self, task_id):
        """The lease as it stands once everything due of it and of its holder has happened."""
        while True:
            lease = find(self.leases, task_id=task_id)
            if lease is None:
                return None
            if self.is_due(lease.deadline_ms):
                self.lease_expires(lease)
            elif self.living(lease.holder) is not None:
                return lease

    def lease_expires(self, lease):
        self.free(lease, "lease.expired", "unconfirmed" if lease.grant else "")

    def free(self, lease, topic, reason):
        self.leases.remove(lease)
        self.emit(topic, lease.task_id, lease, reason)
        for waiter in self.line(lease.task_id):
            self.waiters.remove(waiter)
            gone = self.is_due(waiter.deadline_ms) or self.death_is_due(waiter.agent_id)
            if not gone and not self.holds_enough(waiter.agent_id):
                self.grant(waiter, limits.GRANT_CONFIRM_MS, (waiter.session_id, waiter.number))
                return

    def grant(self, asked, span, grant=None):
        lease = Lease(
            asked.task_id, asked.agent_id, self.token(), asked.ttl_ms, self.wall,
            self.wall + span, self.time + span, grant,
        )  # fmt: skip
        self.leases.append(lease)
        self.emit("lease.acquired", lease.task_id, lease)
        return lease

    def acquire(self, cmd, session_id, number):
        if self.living(cmd.agent_id) is None:
            return missing()
        held = self.held(cmd.task_id)
        if held and held.grant == (session_id, number):
            return Acquired(True, self.prolong(held, held.ttl_ms))
        if find(self.waiters, session_id=session_id, number=number):
            return WAITING
        if held is None:
            if len(self.leases) >= limits.LEASES or self.holds_enough(cmd.agent_id):
                return full()
            return Acquired(True, self.grant(cmd, cmd.ttl_ms))
        if held.holder == cmd.agent_id and not held.grant and not cmd.exclusive:
            self.leases.remove(held)
            return Acquired(True, self.grant(cmd, cmd.ttl_ms))
        if cmd.wait_ms == 0:
            return Acquired(False, held._replace(token=0))
        if (
            len(self.waiters) >= limits.LEASE_WAITERS
            or len(self.line(cmd.task_id)) >= limits.LEASE_WAITERS_EACH
        ):
            return full()
        deadline = self.time + cmd.wait_ms + limits.WAITER_SLACK_MS
        session = find(self.sessions, session_id=session_id)
        if session and session.deadline_ms < deadline:
            swap(self.sessions, session, session._replace(deadline_ms=deadline))
        self.waiters.append(
            Waiter(
                cmd.task_id, self.order(), cmd.agent_id, cmd.ttl_ms, session_id, number, deadline
            )
        )
        return WAITING

    def holds_enough(self, agent_id):
        return sum(x.holder == agent_id for x in self.leases) >= limits.LEASES_EACH

    def prolong(self, lease, ttl):
        longer = lease._replace(
            ttl_ms=ttl, expires_wall_ms=self.wall + ttl, deadline_ms=self.time + ttl, grant=None
        )
        return swap(self.leases, lease, longer)

    def guarded_lease(self, cmd):
        if self.living(cmd.agent_id) is None:
            return missing()
        lease = self.held(cmd.task_id)
        if lease is None:
            return missing()
        if (lease.holder, lease.token) != (cmd.agent_id, cmd.token):
            return refuse("PERMISSION_DENIED", "stale_token")
        return lease

    def renew(self, cmd):
        lease = self.guarded_lease(cmd)
        if isinstance(lease, Refused):
            return lease
        longer = self.prolong(lease, cmd.ttl_ms or lease.ttl_ms)
        self.emit("lease.renewed", cmd.task_id, longer)
        return longer

    def release(self, cmd):
        lease = self.guarded_lease(cmd)
        if isinstance(lease, Refused):
            return lease
        self.free(lease, "lease.released", "")
        return DONE

    def withdraw_wait(self, session_id, number):
        self.waiters = [w for w in self.waiters if (w.session_id, w.number) != (session_id, number)]
        lease = find(self.leases, grant=(session_id, number))
        if lease:
            self.free(lease, "lease.released", "unconfirmed")
