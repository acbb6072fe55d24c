"""The table ``organizations``: whose data it is, and what their plan allows."""

from __future__ import annotations

from typing import Final

from app.storage.postgres.database import Database
from app.storage.postgres.queries import statements

PLANS: Final = ("standard", "premium")
_SQL: Final = statements("organizations")


async def put_organization(database: Database, org_id: int, name: str, plan: str) -> None:
    """Stores an organisation, or changes it. Connectors carry the plan: those added before keep the old one until they
    are added again. Raises ``ValueError`` for an unknown plan, ``StoreUnavailable`` when PostgreSQL is away."""
    if plan not in PLANS:
        raise ValueError(f"a plan is one of {', '.join(PLANS)}")
    await database.run(lambda c: c.execute(_SQL["put"], org_id, name, plan))
