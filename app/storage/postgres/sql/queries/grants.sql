-- name: read
-- purpose: One grant of an organisation, with the age of the refresh that somebody has begun.
SELECT id, org_id, provider, subject, kind, scopes, key_id, ciphertext, generation, version, status, access_expires_at,
    EXTRACT(EPOCH FROM clock_timestamp() - refresh_started_at)::DOUBLE PRECISION AS refresh_age_s
FROM grants WHERE id = $1 AND org_id = $2;

-- name: claim
-- purpose: The right to refresh: for one process, until it ends or the lease is over.
UPDATE grants SET refresh_started_at = clock_timestamp()
WHERE id = $1 AND org_id = $2 AND version = $3 AND status = 'active'
    AND (refresh_started_at IS NULL OR refresh_started_at <= clock_timestamp() - make_interval(secs => $4))
RETURNING refresh_started_at;

-- name: finish
-- purpose: A refresh that worked, with the new credentials where the provider sent some.
UPDATE grants SET version = version + 1, refresh_started_at = NULL, refreshed_at = NOW(), access_expires_at = $5,
    key_id = COALESCE($6, key_id), ciphertext = COALESCE($7, ciphertext), fingerprint = COALESCE($8, fingerprint),
    updated_at = NOW()
WHERE id = $1 AND org_id = $2 AND version = $3 AND refresh_started_at = $4
RETURNING version;

-- name: release
-- purpose: A refresh that did not work: the next one may begin.
UPDATE grants SET refresh_started_at = NULL
WHERE id = $1 AND org_id = $2 AND version = $3 AND refresh_started_at = $4;

-- name: refuse
-- purpose: The provider refuses the credentials for good.
UPDATE grants SET status = $5, version = version + 1, refresh_started_at = NULL, updated_at = NOW()
WHERE id = $1 AND org_id = $2 AND version = $3 AND refresh_started_at = $4
RETURNING id;

-- name: stop_connectors
-- purpose: The connectors of a refused grant take its status.
UPDATE connectors SET status = $2, updated_at = NOW() WHERE grant_id = $1 AND deleted_at IS NULL;

-- name: under_other_keys
-- purpose: A page of grants that are not encrypted with the given key.
SELECT id, org_id, key_id, ciphertext FROM grants
WHERE key_id <> $1 AND status <> 'replaced' AND id > $2 ORDER BY id LIMIT $3;

-- name: reseal
-- purpose: The same credentials under another key, unless they have changed meanwhile.
UPDATE grants SET key_id = $3, ciphertext = $4, updated_at = NOW() WHERE id = $1 AND ciphertext = $2 RETURNING id;
