//! One engine per kind of thing that is branched; all answer the same questions.

pub mod files; // a directory
pub mod sqlite; // a SQLite database
