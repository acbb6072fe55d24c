-- The ledger: who pays for each call
-- depends: 0001_first

-- migrate: apply

-- One row for each request that a call was made for, with its share of that call; one without a request where the call is
-- the organisation's alone. So a sum of `calls` is exact under any condition, and over all rows it is the number of calls.
-- No foreign keys: a call was made whatever this database knows of its request or its organisation.
CREATE TABLE usage (
    ask_id TEXT NOT NULL,
    request_id UUID,
    org_id INT NOT NULL,
    connector_id UUID NOT NULL,
    connector_type VARCHAR(50) NOT NULL,
    batch_id UUID,
    charge VARCHAR(50) NOT NULL,
    buckets TEXT[] NOT NULL DEFAULT '{}',
    priority INT NOT NULL,
    labels JSONB NOT NULL DEFAULT '{}',
    calls NUMERIC(18,6) NOT NULL,
    outcome VARCHAR(50) NOT NULL,
    granted_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    UNIQUE NULLS NOT DISTINCT (ask_id, request_id)
);

CREATE INDEX idx_usage_org ON usage(org_id, granted_at);

ALTER TABLE usage ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON usage USING (org_id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);

-- migrate: rollback

DROP TABLE usage;
