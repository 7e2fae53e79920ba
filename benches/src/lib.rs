//! pgm's benchmarks: WAL throughput first.
