//! branch (being built).
