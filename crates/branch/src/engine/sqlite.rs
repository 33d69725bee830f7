//! SQLite databases: branched by reflink with their write-ahead log, compared page by page, merged
//! and reverted row by row.

mod value; // one value, exactly
mod regular; // opens regular files, nothing else
mod alone; // one deed at a time on one database
mod clone; // branches a database while others write to it
mod wal; // what a write-ahead log commits
mod journal; // what a hot rollback journal puts back
mod image; // a database page by page, nothing written
mod btree; // trees, cells, records
mod rows; // the rows on some pages
mod catalog; // what a schema says
mod changed; // which pages differ
mod plan; // which tables and definitions differ
mod diff; // which rows may differ
mod compare; // which rows do
mod change_set; // what is kept
mod seal; // makes a change set of a branch
mod render; // what people and scripts read
mod conflict; // what stands in the way
mod statements; // the SQL of a merge
mod table_merge; // rows of one table made real
mod schema_merge; // definitions made real
mod foreign; // foreign keys, where rows changed
mod merge; // all of it, in one transaction
mod committed; // on which side of a commit a crash fell
mod deed; // merge and revert

pub use change_set::{
    ChangeSet, DatabaseChanges, LoadError, RowChange, Rows, SchemaAction, SchemaChange,
    SequenceChange, SettingChange, ShadowDigest, TableChanges,
};
pub use clone::{BranchError, Branched, Method, branch};
pub use conflict::RowConflict;
pub use deed::Sqlite;
pub use image::ImageError;
pub use merge::MergeError;
pub use render::Bounds;
pub use seal::{SealError, seal, seal_left};
pub use value::Value;
