"""Keeps an agent alive."""

from __future__ import annotations

import asyncio
import logging

from agentkeeper import errors
from agentkeeper.client.core import Core

DEFAULT_TTL_SECONDS = 30  # what the daemon takes when asked for 0

logger = logging.getLogger("agentkeeper")


def heartbeat_interval_s(ttl: int) -> int:
    """How often an agent of this ttl (seconds) heartbeats."""
    return max(1, (ttl or DEFAULT_TTL_SECONDS) // 2)


async def keep_alive(core: Core, agent_id: str, interval_s: float) -> None:
    """Send a heartbeat every `interval_s` until cancelled or the agent is DEAD."""
    loop = asyncio.get_running_loop()
    due = loop.time() + interval_s
    while True:
        await asyncio.sleep(due - loop.time())
        due = max(due, loop.time()) + interval_s
        try:
            await core.heartbeat(agent_id, interval_s)
        except errors.NotFound:
            logger.warning("agent %s is dead to the cluster: its heartbeats end", agent_id)
            return
        except errors.AgentKeeperError as error:
            # The agent lives on if a later one arrives in time.
            logger.warning("heartbeat of agent %s failed: %s", agent_id, error)
        except Exception:
            # Whatever it is, the agent must not die of it.
            logger.exception("heartbeat of agent %s failed", agent_id)
