//! Stopped at every step.
