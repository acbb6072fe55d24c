-- name: project
-- purpose: One request as it is now; an older revision changes nothing. Unknown connectors and organisations stay NULL.
INSERT INTO connector_requests AS held (id, connector_id, org_id, request_type, params, status, priority, queue_position,
    batched_with, result, error, execution_time_ms, cost, created_at, started_at, completed_at, connector_type,
    report_type, date_start, date_end, fields, labels, batch_id, revision, body_hash, waiting, progress,
    estimated_wait_s, rate_limit, attempts, error_detail, cost_exact, deadline_at, max_age_s, force)
VALUES ($1, (SELECT id FROM connectors WHERE id = $2), (SELECT id FROM organizations WHERE id = $3), $4, $5, $6, $7,
    $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30,
    $31, $32, $33, $34, $35)
ON CONFLICT (id) DO UPDATE SET connector_id = EXCLUDED.connector_id, org_id = EXCLUDED.org_id,
    request_type = EXCLUDED.request_type, params = EXCLUDED.params, status = EXCLUDED.status,
    priority = EXCLUDED.priority, queue_position = EXCLUDED.queue_position, batched_with = EXCLUDED.batched_with,
    result = EXCLUDED.result, error = EXCLUDED.error, execution_time_ms = EXCLUDED.execution_time_ms,
    cost = EXCLUDED.cost, created_at = EXCLUDED.created_at, started_at = EXCLUDED.started_at,
    completed_at = EXCLUDED.completed_at, connector_type = EXCLUDED.connector_type, report_type = EXCLUDED.report_type,
    date_start = EXCLUDED.date_start, date_end = EXCLUDED.date_end, fields = EXCLUDED.fields, labels = EXCLUDED.labels,
    batch_id = EXCLUDED.batch_id, revision = EXCLUDED.revision, body_hash = EXCLUDED.body_hash,
    waiting = EXCLUDED.waiting, progress = EXCLUDED.progress, estimated_wait_s = EXCLUDED.estimated_wait_s,
    rate_limit = EXCLUDED.rate_limit, attempts = EXCLUDED.attempts, error_detail = EXCLUDED.error_detail,
    cost_exact = EXCLUDED.cost_exact, deadline_at = EXCLUDED.deadline_at, max_age_s = EXCLUDED.max_age_s,
    force = EXCLUDED.force, updated_at = NOW()
WHERE held.revision < EXCLUDED.revision;

-- name: find
-- purpose: One request.
SELECT * FROM connector_requests WHERE id = $1;

-- name: known_bodies
-- purpose: Which of these requests are known, with what body: a command older than the planner remembers is one of them or new.
SELECT id, body_hash FROM connector_requests WHERE id = ANY($1::uuid[]);

-- name: page
-- purpose: An organisation's requests before a place, newest first; by params, since the column is NULL for one that is not here.
SELECT * FROM connector_requests
WHERE params->>'org_id' = $1 AND (created_at, id) < ($2, $3)
ORDER BY created_at DESC, id DESC LIMIT $4;

-- name: page_of_status
-- purpose: The same of those in one state.
SELECT * FROM connector_requests
WHERE params->>'org_id' = $1 AND status = $5 AND (created_at, id) < ($2, $3)
ORDER BY created_at DESC, id DESC LIMIT $4;

-- name: page_of_connector
-- purpose: The same of those of one connector, in any state or one.
SELECT * FROM connector_requests
WHERE params->>'org_id' = $1 AND params->>'connector_id' = $5 AND ($6::TEXT IS NULL OR status = $6)
    AND (created_at, id) < ($2, $3)
ORDER BY created_at DESC, id DESC LIMIT $4;
