"""The audit trail: what it says, whether it holds, where shifts are, and evidence of it."""
