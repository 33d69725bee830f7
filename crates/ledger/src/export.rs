//! Export in the tlog-tiles layout, so that existing tools can check the ledger.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{ExportError, Fault, ReadError};
use crate::frame;
use crate::ledger::{Ledger, VERIFIER_KEY};
use crate::log::CHECKPOINT;
use crate::merkle::Frontier;
use crate::read::Frames;
use crate::tiles::{ENTRIES, Tile, Tiler, WIDTH, path};

impl Ledger {
    /// Writes all records to `to` as tlog-tiles: `checkpoint`, `key.pub`, `tile/<level>/…` and
    /// `tile/entries/…`. An earlier export there is brought up to date. Answers how many records.
    ///
    /// # Errors
    /// When the ledger cannot be read or is damaged, or a file cannot be written.
    pub fn export(&self, to: &Path) -> Result<u64, ExportError> {
        let mut frames = Frames::open(self, 0)?;
        let mut frontier = Frontier::default();
        let mut tiler = Tiler::default();
        let (mut bundle, mut bundled) = (Vec::new(), 0_u64);
        while let Some((_, leaves)) = frames.next_frame()? {
            for (entry, leaf) in frame::entries(frames.payload()).zip(leaves) {
                let length = u16::try_from(entry.record.len()).unwrap_or(u16::MAX);
                bundle.extend_from_slice(&length.to_be_bytes());
                bundle.extend_from_slice(entry.record);
                frontier.push(leaf);
                for tile in tiler.push(leaf) {
                    write_tile(to, &tile)?;
                }
                if frontier.size().is_multiple_of(256) {
                    write(&to.join(path(ENTRIES, bundled, WIDTH)), &bundle)?;
                    bundle.clear();
                    bundled += 1;
                }
            }
        }
        let rest = usize::try_from(frontier.size() % 256).unwrap_or(0);
        if rest > 0 {
            write(&to.join(path(ENTRIES, bundled, rest)), &bundle)?;
        }
        for tile in tiler.finish() {
            write_tile(to, &tile)?;
        }
        let (size, root) = frames.tree();
        if (size, root) != (frontier.size(), frontier.root()) {
            let fault = Fault::OtherHistory { size };
            return Err(ExportError::Read(ReadError(fault)));
        }
        let note = self.group.log().signer().sign(size, root);
        write(
            &to.join(VERIFIER_KEY),
            format!("{}\n", self.key()).as_bytes(),
        )?;
        // Last, and at once: it speaks for files that are there already.
        let new = to.join("checkpoint.new");
        write(&new, note.as_bytes())?;
        let path = to.join(CHECKPOINT);
        fs::rename(&new, &path).map_err(failed(&path))?;
        Ok(size)
    }
}

fn write_tile(to: &Path, tile: &Tile) -> Result<(), ExportError> {
    write(&to.join(tile.path()), &tile.to_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    match fs::write(path, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            fs::create_dir_all(parent).map_err(failed(parent))?;
            fs::write(path, bytes).map_err(failed(path))
        }
        other => other.map_err(failed(path)),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |error| ExportError::Write {
        path,
        source: Arc::new(error),
    }
}
