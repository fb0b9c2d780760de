"""The whole application on real servers: Prometheus, Alertmanager, Redis, PostgreSQL."""
