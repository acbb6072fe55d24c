"""The planner's own decisions over a workload in simulated time: no broker, no provider, no waiting."""
