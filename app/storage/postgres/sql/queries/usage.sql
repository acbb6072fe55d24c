-- name: add
-- purpose: One request's share of a call. What is written of a call never changes, so a repeated row is the same row.
INSERT INTO usage (ask_id, request_id, org_id, connector_id, connector_type, batch_id, charge, buckets, priority, labels,
    calls, outcome, granted_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (ask_id, request_id) DO NOTHING;

-- name: count_window
-- purpose: A bucket's closed window. A count that knew less of it (a planner begun from older rows) changes nothing.
INSERT INTO rate_limits AS held (connector_type, org_id, endpoint, limit_value, current_count, window_start, window_end)
VALUES ($1, (SELECT id FROM organizations WHERE id = $2), $3, $4, $5, $6, $7)
ON CONFLICT (connector_type, org_id, endpoint, window_start) DO UPDATE SET current_count = EXCLUDED.current_count
WHERE held.current_count < EXCLUDED.current_count;

-- name: totals
-- purpose: Calls granted in [$2, $3) of one organisation or all (NULL), by one of its dimensions; $5 names the label, days are UTC's.
SELECT
    CASE $4::TEXT
        WHEN 'organisation' THEN org_id::TEXT
        WHEN 'connector' THEN connector_id::TEXT
        WHEN 'connector_type' THEN connector_type
        WHEN 'priority' THEN priority::TEXT
        WHEN 'label' THEN labels->>$5::TEXT
        WHEN 'day' THEN TO_CHAR(granted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
    END AS name,
    SUM(calls) AS calls,
    COALESCE(SUM(calls) FILTER (WHERE outcome = 'unknown'), 0) AS unknown
FROM usage
WHERE ($1::INT IS NULL OR org_id = $1) AND granted_at >= $2 AND granted_at < $3
GROUP BY 1 ORDER BY 1 NULLS LAST;
