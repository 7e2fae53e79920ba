//! PostgreSQL backups: repository, catalog, manifest, backup, restore.
