-- Pages of an organisation's requests, newest first
-- depends: 0001_first

-- migrate: apply

-- While these are built the history waits, and catches up afterwards; reading goes on. (CONCURRENTLY would wait for the
-- other processes that migrate, which wait for this one.)
CREATE INDEX idx_requests_asker ON connector_requests((params->>'org_id'), created_at, id);
CREATE INDEX idx_requests_asker_status ON connector_requests((params->>'org_id'), status, created_at, id);
CREATE INDEX idx_requests_asker_connector
    ON connector_requests((params->>'org_id'), (params->>'connector_id'), created_at, id);

-- migrate: rollback

DROP INDEX idx_requests_asker_connector;
DROP INDEX idx_requests_asker_status;
DROP INDEX idx_requests_asker;
