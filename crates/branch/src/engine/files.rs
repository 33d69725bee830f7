//! Files (being built).
