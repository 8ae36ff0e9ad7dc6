"""AgentKeeper: coordination infrastructure for AI agents."""
