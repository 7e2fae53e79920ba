//! The pgm command line.

fn main() {}
