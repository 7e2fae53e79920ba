//! Where pgm's bytes rest: storage engines, compression, frames and packs.
