//! A stored change set of a database: `changes.json` up to the first zero byte, `changes.rows`
//! after it. The digest of the rows is made right, as whoever can write both would.

use std::fs;
use std::io;

use belljar_branch::engine::sqlite::{Bounds, ChangeSet, DatabaseChanges};

use super::scratch;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let head = parts.next().unwrap_or_default();
    let rows = parts.next().unwrap_or_default();
    let directory = scratch::directory()?;
    let at = |name: &str| directory.path().join(name);
    fs::write(at("changes.rows"), rows)?;
    match serde_json::from_slice::<DatabaseChanges>(head) {
        Ok(mut changes) => {
            changes.rows_blake3 = blake3::hash(rows).to_hex().to_string();
            fs::write(at("changes.json"), serde_json::to_vec(&changes)?)?;
        }
        Err(_) => fs::write(at("changes.json"), head)?,
    }
    if let Ok(set) = ChangeSet::load(directory.path()) {
        look(&set);
    }
    Ok(())
}

/// Damage found on the way is an answer.
fn look(set: &ChangeSet) {
    assert!(set.changes.is_empty() || !set.changes.summary().is_empty());
    if let Ok(text) = set.text(Bounds::default()) {
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(acts), "{text:?}");
    }
    drop(set.json(Bounds::default()));
    for table in &set.changes.tables {
        let Ok(rows) = set.rows(table) else { continue };
        for row in rows.map_while(Result::ok) {
            let lengths = [&row.old, &row.new];
            let is_whole = |side: &Vec<_>| side.len() == table.columns.len();
            assert!(lengths.into_iter().flatten().all(is_whole));
        }
    }
}
