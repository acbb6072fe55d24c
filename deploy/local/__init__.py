"""The servers Connector Service needs (Kafka, PostgreSQL, Redis), started and stopped on this machine.

``Stack.start(folder)`` is the way in from Python, ``python -m deploy.local`` the one from a shell.
"""

from __future__ import annotations

from deploy.local.stack import Endpoints, Stack, StackError

__all__ = ["Endpoints", "Stack", "StackError"]
