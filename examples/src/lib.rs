//! Programs that embed pgm's libraries, and the quickstart.
