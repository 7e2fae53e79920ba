//! The pgm daemon.

fn main() {}
