//! Every bound of the program, in one place: unit and bound last in each name.

/// One frame between our programs, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Arguments and environment of one command, in bytes (the kernel's own limit is stack/4).
pub const COMMAND_BYTES_MAX: usize = 2 << 20;
/// One ledger record, in bytes: an entry of a tlog-tiles bundle has a 16-bit length.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// Records written by one group commit.
pub const COMMIT_RECORDS_MAX: usize = 4096;
/// Bytes written by one group commit.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Bytes after which the ledger begins a new segment, unless told otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Bytes of zeros a segment is extended by, so that most commits leave its size alone.
pub const SEGMENT_EXTEND_BYTES: usize = 256 << 10;
/// Entries in one change set, files or rows.
pub const CHANGE_ENTRIES_MAX: usize = 10_000_000;
/// Depth of a path below a workspace, in components.
pub const PATH_DEPTH_MAX: usize = 1024;
/// Output of a command kept in its run's record, in bytes per stream, unless `--limit output=`.
pub const OUTPUT_BYTES_DEFAULT: u64 = 64 << 20;
/// Processes and threads in one sandbox, unless `--limit pids=`.
pub const PIDS_DEFAULT: u64 = 4096;
/// Open files of one process, unless `--limit files=`.
pub const OPEN_FILES_DEFAULT: u64 = 65_536;
/// Wall time of a run in seconds, unless `--limit time=`.
pub const WALL_SECONDS_DEFAULT: u64 = 24 * 3600;
/// Bytes one run may write to its scratch layer, unless `--limit disk=`.
pub const DISK_BYTES_DEFAULT: u64 = 8 << 30;
/// Files and directories one run may create, unless `--limit inodes=`.
pub const INODES_DEFAULT: u64 = 2_000_000;
/// How long a sandbox may take to answer that it is closed, in milliseconds.
pub const READY_MILLIS_MAX: u64 = 10_000;
/// How long after a polite signal the sandbox is killed, in milliseconds.
pub const GRACE_MILLIS_MAX: u64 = 500;
/// Paths of the host that one sandbox can be shown: branches, `--read`, and branched databases.
pub const SHOWN_PATHS_MAX: usize = 128;
