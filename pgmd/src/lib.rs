//! The daemon as a library: configuration, shared with the command line, and everything behind `pgmd`.
