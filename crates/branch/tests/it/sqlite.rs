//! Databases (being built).
