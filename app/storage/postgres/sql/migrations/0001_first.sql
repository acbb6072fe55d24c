-- Organisations, grants, connectors, requests and rate limits
-- depends:

-- migrate: apply

-- Whose data it is. An organisation may have a parent: an agency and its clients.
CREATE TABLE organizations (
    id INT PRIMARY KEY,
    name VARCHAR(255),
    plan VARCHAR(50) NOT NULL DEFAULT 'standard',
    parent_id INT REFERENCES organizations(id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- One authorisation at a provider. `generation` counts its credentials, `version` fences refreshes, `fingerprint` is a short
-- hash of the credential: connectors that are given the same one share the grant, and with it the user's quota.
CREATE TABLE grants (
    id UUID PRIMARY KEY,
    org_id INT NOT NULL REFERENCES organizations(id),
    provider VARCHAR(50) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    kind VARCHAR(50) NOT NULL,
    scopes TEXT[] NOT NULL DEFAULT '{}',
    fingerprint VARCHAR(64) NOT NULL,
    key_id VARCHAR(64) NOT NULL,
    ciphertext BYTEA NOT NULL,
    generation BIGINT NOT NULL DEFAULT 1,
    version BIGINT NOT NULL DEFAULT 1,
    refresh_started_at TIMESTAMPTZ,
    refreshed_at TIMESTAMPTZ,
    access_expires_at TIMESTAMPTZ,
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    UNIQUE (org_id, provider, subject)
);

CREATE INDEX idx_grants_fingerprint ON grants(org_id, provider, fingerprint);

-- `credentials` only points to the grant: {"grant_id": "grant_..."}; what is secret lies encrypted there.
CREATE TABLE connectors (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id INT REFERENCES organizations(id) ON DELETE CASCADE,
    type VARCHAR(50) NOT NULL,
    account_id VARCHAR(255),
    credentials JSONB,
    status VARCHAR(50) DEFAULT 'pending',
    metadata JSONB DEFAULT '{}',
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    last_sync_at TIMESTAMPTZ,
    grant_id UUID REFERENCES grants(id),
    time_zone VARCHAR(64) NOT NULL DEFAULT 'UTC',
    currency VARCHAR(3),
    deleted_at TIMESTAMPTZ
);

CREATE INDEX idx_connectors_org ON connectors(org_id);
CREATE INDEX idx_connectors_type ON connectors(type);
CREATE INDEX idx_connectors_grant ON connectors(grant_id);
CREATE UNIQUE INDEX idx_connectors_account
    ON connectors(org_id, type, account_id) NULLS NOT DISTINCT WHERE deleted_at IS NULL;

-- History of requests: a projection of what the planner decided. `revision` orders it.
CREATE TABLE connector_requests (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    connector_id UUID REFERENCES connectors(id),
    org_id INT REFERENCES organizations(id),
    request_type VARCHAR(100) NOT NULL,
    params JSONB NOT NULL,
    status VARCHAR(50) DEFAULT 'queued',
    priority INT DEFAULT 50,
    queue_position INT,
    batched_with UUID[],
    result JSONB,
    error TEXT,
    execution_time_ms INT,
    cost DECIMAL(10,4),
    created_at TIMESTAMPTZ DEFAULT NOW(),
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    connector_type VARCHAR(50),
    report_type VARCHAR(255),
    date_start DATE,
    date_end DATE,
    fields TEXT[],
    labels JSONB NOT NULL DEFAULT '{}',
    batch_id UUID,
    revision BIGINT NOT NULL DEFAULT 0,
    body_hash VARCHAR(64),
    waiting JSONB,
    progress INT NOT NULL DEFAULT 0,
    estimated_wait_s DOUBLE PRECISION,
    rate_limit JSONB,
    attempts INT NOT NULL DEFAULT 0,
    error_detail JSONB,
    cost_exact NUMERIC,
    deadline_at TIMESTAMPTZ,
    max_age_s INT,
    force BOOLEAN NOT NULL DEFAULT FALSE,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_requests_status ON connector_requests(status);
CREATE INDEX idx_requests_org ON connector_requests(org_id, created_at DESC, id);
CREATE INDEX idx_requests_connector ON connector_requests(connector_id, created_at DESC);

-- One row per bucket and closed window; the organisation is NULL for an application's bucket.
CREATE TABLE rate_limits (
    id SERIAL PRIMARY KEY,
    connector_type VARCHAR(50) NOT NULL,
    org_id INT REFERENCES organizations(id),
    endpoint VARCHAR(255),
    limit_value INT NOT NULL,
    current_count INT DEFAULT 0,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    UNIQUE NULLS NOT DISTINCT (connector_type, org_id, endpoint, window_start)
);

-- Tenants: every other role sees the rows of the organisation in `connector.org_id`, and none while it is not set. The
-- service owns the tables and is not bound by the policies.
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE connectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE connector_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_limits ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON organizations USING (id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);
CREATE POLICY tenant ON grants USING (org_id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);
CREATE POLICY tenant ON connectors USING (org_id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);
CREATE POLICY tenant ON connector_requests USING (org_id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);
CREATE POLICY tenant ON rate_limits USING (org_id = NULLIF(current_setting('connector.org_id', TRUE), '')::INT);

-- migrate: rollback

DROP TABLE rate_limits;
DROP TABLE connector_requests;
DROP TABLE connectors;
DROP TABLE grants;
DROP TABLE organizations;
