//! Files: what a run did to its workspace as a change set, shown, merged and taken back.

mod text; // paths and bytes, and their lossless text form
mod tree; // the only place that touches a tree
mod content; // the bytes of files: compared, hashed, packed
mod node; // one file, directory, link or pipe
mod change; // the change set, and how it is kept on disk
mod renames; // deleted and added files with the same bytes
mod seal_error; // why a change set could not be made
mod id_shift; // ids inside a sandbox and outside
mod budget; // how much of the host a change set may take
mod seal; // upper directory → change set
mod diff; // a change set shown, structured
mod render; // a change set shown, as lines
mod review; // a change set against the workspace as it is now
mod plan; // the steps of a merge
mod prepare; // the inverse stored, the new files staged
mod apply; // renames there and back
mod merge; // the engine

pub use change::{Change, FileChanges, FileEntry, LoadError, Skipped, Summary};
pub use content::Content;
pub use diff::{DiffBody, FileDiff, Hunk, Line, Side};
pub use id_shift::IdShift;
pub use merge::{FilesEngine, FilesOptions};
pub use node::{Identity, Node};
pub use render::{LineStyle, StyledLine};
pub use seal::{SealRequest, seal};
pub use seal_error::SealError;
pub(crate) use seal_error::kind_of;
pub use text::{ByteText, RelativePath, TextError, visible};
pub use tree::{FileTime, NodeKind};
