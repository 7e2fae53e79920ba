//! Giving a backup back.
