//! The configuration file: reading it, checking it, and saying what is wrong with it.
