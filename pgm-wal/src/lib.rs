//! PostgreSQL write-ahead log: receiving, spooling, archiving, reading.
