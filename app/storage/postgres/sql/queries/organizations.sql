-- name: put
-- purpose: An organisation with its name and plan, new or changed.
INSERT INTO organizations (id, name, plan) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, plan = EXCLUDED.plan;
