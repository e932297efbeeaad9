"""PostgreSQL: clusters, connections, and the SQL that leads from one state to another."""
