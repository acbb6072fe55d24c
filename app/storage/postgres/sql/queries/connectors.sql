-- name: find
-- purpose: What the planner must know of one connector, deleted or not.
SELECT c.id, c.org_id, c.type, c.account_id, c.grant_id, g.subject, c.status, c.time_zone, c.currency, o.plan,
    c.metadata ->> 'manager_id' AS manager_id, c.deleted_at IS NOT NULL AS deleted
FROM connectors c JOIN organizations o ON o.id = c.org_id LEFT JOIN grants g ON g.id = c.grant_id
WHERE c.id = $1;

-- name: list_for
-- purpose: An organisation's connectors, oldest first.
SELECT c.id, c.org_id, c.type, c.account_id, c.grant_id, g.subject, c.status, c.time_zone, c.currency, o.plan,
    c.metadata ->> 'manager_id' AS manager_id, FALSE AS deleted
FROM connectors c JOIN organizations o ON o.id = c.org_id LEFT JOIN grants g ON g.id = c.grant_id
WHERE c.org_id = $1 AND c.deleted_at IS NULL
ORDER BY c.created_at, c.id;

-- name: page
-- purpose: All connectors in order of id, a page at a time, for a worker's first replica.
SELECT c.id, c.org_id, c.type, c.account_id, c.grant_id, g.subject, c.status, c.time_zone, c.currency, o.plan,
    c.metadata ->> 'manager_id' AS manager_id, c.deleted_at IS NOT NULL AS deleted
FROM connectors c JOIN organizations o ON o.id = c.org_id LEFT JOIN grants g ON g.id = c.grant_id
WHERE c.id > $1
ORDER BY c.id LIMIT $2;

-- name: of_grant
-- purpose: The connectors that use a grant.
SELECT c.id, c.org_id, c.type, c.account_id, c.grant_id, g.subject, c.status, c.time_zone, c.currency, o.plan,
    c.metadata ->> 'manager_id' AS manager_id, FALSE AS deleted
FROM connectors c JOIN organizations o ON o.id = c.org_id LEFT JOIN grants g ON g.id = c.grant_id
WHERE c.grant_id = $1 AND c.deleted_at IS NULL
ORDER BY c.created_at, c.id;

-- name: set_status
-- purpose: A new status for one connector.
UPDATE connectors SET status = $2, updated_at = NOW() WHERE id = $1 AND deleted_at IS NULL;

-- name: delete
-- purpose: Deletes a connector softly: its history stays.
UPDATE connectors SET deleted_at = NOW(), updated_at = NOW() WHERE id = $1 AND org_id = $2 AND deleted_at IS NULL;

-- name: create_organization
-- purpose: The organisation, if it is not there.
INSERT INTO organizations (id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: organization_exists
-- purpose: Whether an organisation is there.
SELECT EXISTS (SELECT FROM organizations WHERE id = $1);

-- name: lock_organization
-- purpose: One change of an organisation's connectors at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(1, $1);

-- name: grant_for
-- purpose: The grant that given credentials belong to: of the subject, else of the same credential, else this account's own.
SELECT g.id, g.subject
FROM grants g
LEFT JOIN connectors c ON c.grant_id = g.id AND c.org_id = $1 AND c.type = $5 AND c.account_id = $6
    AND c.deleted_at IS NULL
WHERE g.org_id = $1 AND g.provider = $2 AND CASE WHEN $3::TEXT IS NOT NULL THEN g.subject = $3
    ELSE g.fingerprint = $4 OR g.subject = $4 OR (c.id IS NOT NULL AND NOT EXISTS (
        SELECT FROM connectors other WHERE other.grant_id = g.id AND other.id <> c.id AND other.deleted_at IS NULL))
    END
ORDER BY g.fingerprint = $4 DESC, g.subject = $4 DESC LIMIT 1;

-- name: put_grant
-- purpose: A new grant, or new credentials for one: whoever refreshes it now has lost.
INSERT INTO grants (id, org_id, provider, subject, kind, scopes, fingerprint, key_id, ciphertext)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind, scopes = EXCLUDED.scopes, fingerprint = EXCLUDED.fingerprint,
    key_id = EXCLUDED.key_id, ciphertext = EXCLUDED.ciphertext, generation = grants.generation + 1,
    version = grants.version + 1, refresh_started_at = NULL, access_expires_at = NULL, status = 'active',
    updated_at = NOW();

-- name: put_connector
-- purpose: The connector of an account, with its grant and the way it is reached; a paused one stays paused.
INSERT INTO connectors (org_id, type, account_id, grant_id, credentials, status, time_zone, currency, metadata)
VALUES ($1, $2, $3, $4, $5, 'connected', $6, $7, jsonb_strip_nulls(jsonb_build_object('manager_id', $8::TEXT)))
ON CONFLICT (org_id, type, account_id) WHERE deleted_at IS NULL
DO UPDATE SET grant_id = EXCLUDED.grant_id, credentials = EXCLUDED.credentials, time_zone = EXCLUDED.time_zone,
    currency = COALESCE(EXCLUDED.currency, connectors.currency), updated_at = NOW(),
    metadata = COALESCE(connectors.metadata, '{}') - 'manager_id' || EXCLUDED.metadata,
    status = CASE WHEN connectors.status = 'paused' THEN 'paused' ELSE 'connected' END
RETURNING id;

-- name: revive
-- purpose: Connectors that waited for new credentials of their grant go on.
UPDATE connectors SET status = 'connected', updated_at = NOW()
WHERE grant_id = $1 AND deleted_at IS NULL AND status IN ('revoked', 'reauthorise', 'error');

-- name: grant_of_account
-- purpose: The grant an account is connected with now.
SELECT grant_id FROM connectors WHERE org_id = $1 AND type = $2 AND account_id = $3 AND deleted_at IS NULL;

-- name: wipe_unused
-- purpose: No credential is kept that no connector uses any more.
UPDATE grants SET status = 'replaced', ciphertext = '', generation = generation + 1, version = version + 1,
    refresh_started_at = NULL, updated_at = NOW()
WHERE id = $1 AND NOT EXISTS (
    SELECT FROM connectors WHERE connectors.grant_id = grants.id AND connectors.deleted_at IS NULL);
