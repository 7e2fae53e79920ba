//! pgm's test kit: real PostgreSQL clusters, scripted peers, fault injection; and the journeys.
