//! Directories that an ordinary user's sandbox can write below. The host's system directories
//! belong to root, whom such a sandbox does not know; a layer of empty directories of the same
//! names, owned by the user, lies on top, so that `pip install` into the system tree works and
//! vanishes. It is shallow, because there are tens of thousands of directories: whole where
//! packages are installed, a few levels deep elsewhere. What lies deeper is seen and not written.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Directories that hold too many others and nothing that programs write.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc",
    "/usr/share/zoneinfo",
    "/usr/src",
    "/usr/share/man",
];

/// Levels that are copied everywhere: `/usr/share/name/part` is four.
const LEVELS: usize = 4;
/// Where packages are installed, by the beginning of the path: copied whole.
const WHOLE: [&str; 3] = ["/usr/local", "/usr/lib/python3", "/usr/lib/node_modules"];

/// Whether the directories in `folder` are copied too.
fn goes_on(folder: &Path) -> bool {
    let whole = WHOLE
        .iter()
        .any(|start| folder.as_os_str().as_bytes().starts_with(start.as_bytes()));
    // The root counts as a component.
    whole || folder.components().count() <= LEVELS
}

/// Copies the directories, not the files, below `path`.
pub(super) fn copy(path: &str, into: &Path) -> io::Result<()> {
    let mut waiting = vec![Path::new(path).to_path_buf()];
    while let Some(folder) = waiting.pop() {
        let inside = into.join(folder.strip_prefix("/").unwrap_or(&folder));
        fs::create_dir_all(&inside)?;
        let mode = fs::metadata(&folder)?.permissions().mode() & 0o777 | 0o700;
        fs::set_permissions(&inside, fs::Permissions::from_mode(mode))?;
        // A directory that cannot be listed stays as it is below: seen, and not written.
        let Ok(entries) = fs::read_dir(&folder) else {
            fs::remove_dir(&inside)?;
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let left_out = LEFT_OUT.iter().any(|left| entry.path() == Path::new(left));
            if entry.file_type()?.is_dir() && !left_out && goes_on(&folder) {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}
