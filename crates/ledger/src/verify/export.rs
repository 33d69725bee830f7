//! Verifies an export in the tlog-tiles layout.

use std::fs;

use super::{Context, Finding, VerifyError, What, check_chain};
use crate::log::CHECKPOINT;
use crate::merkle::{Frontier, Hash};
use crate::tiles::{ENTRIES, Tile, Tiler, WIDTH, path};

pub(super) fn verify(context: &mut Context<'_>) -> Result<(), VerifyError> {
    let mut walk = Walk {
        tree: Frontier::default(),
        last: Hash::ZERO,
        tiler: Tiler::default(),
    };
    let signed = context
        .anchors
        .iter()
        .find(|anchor| anchor.name == CHECKPOINT);
    let Some(size) = signed.map(|anchor| anchor.size) else {
        // Without a checkpoint there is no telling which tiles should be there.
        return Ok(());
    };
    check_anchors(context, &walk.tree);
    let mut whole = true;
    while walk.tree.size() < size && whole {
        let index = walk.tree.size() / 256;
        let width = usize::try_from(size - walk.tree.size()).map_or(WIDTH, |rest| rest.min(WIDTH));
        whole = bundle(context, &mut walk, index, width);
    }
    if whole {
        for tile in walk.tiler.finish() {
            check_tile(context, &tile);
        }
        context.end(&walk.tree);
    } else {
        context.report.records = walk.tree.size();
        context.report.root = walk.tree.root();
    }
    Ok(())
}

struct Walk {
    tree: Frontier,
    last: Hash,
    tiler: Tiler,
}

/// Checks one bundle of records; whether the next one can be checked.
fn bundle(context: &mut Context<'_>, walk: &mut Walk, index: u64, width: usize) -> bool {
    let name = path(ENTRIES, index, width);
    let seq = walk.tree.size();
    let Ok(bytes) = fs::read(context.dir.join(&name)) else {
        let text = "the bundle of records is not there";
        context.found(Finding::new(What::Missing, name, text).at(0, seq));
        return false;
    };
    let stored = stored_leaves(context, index, width);
    let mut rest = bytes.as_slice();
    for nth in 0..width {
        let offset = u64::try_from(bytes.len() - rest.len()).unwrap_or(0);
        let seq = walk.tree.size();
        let found = |what, text: &str| Finding::new(what, name.clone(), text).at(offset, seq);
        let Some(record) = take_record(&mut rest) else {
            context.found(found(What::Altered, "the record does not hold"));
            return false;
        };
        let leaf = Hash::leaf(record);
        if stored.get(nth).is_some_and(|stored| *stored != leaf) {
            context.found(found(
                What::Altered,
                "the record is not the one in the tile",
            ));
            return false;
        }
        if let Some((what, text)) = check_chain(record, seq, &walk.last) {
            context.found(found(what, &text));
            return false;
        }
        walk.last = leaf;
        walk.tree.push(leaf);
        for tile in walk.tiler.push(leaf) {
            check_tile(context, &tile);
        }
        check_anchors(context, &walk.tree);
    }
    if !rest.is_empty() {
        let offset = u64::try_from(bytes.len() - rest.len()).unwrap_or(0);
        let text = "there are bytes behind the bundle's records";
        let finding = Finding::new(What::Altered, name, text);
        context.found(finding.at(offset, walk.tree.size()));
    }
    true
}

/// The leaf hashes that the tile beside a bundle has; none if it is missing, which is reported
/// when the tile itself is checked.
fn stored_leaves(context: &Context<'_>, index: u64, width: usize) -> Vec<Hash> {
    let bytes = fs::read(context.dir.join(path("0", index, width))).unwrap_or_default();
    let hashes = bytes
        .chunks_exact(32)
        .filter_map(|hash| hash.try_into().ok());
    hashes.map(Hash::from_bytes).collect()
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (record, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = after;
    Some(record)
}

fn check_tile(context: &mut Context<'_>, tile: &Tile) {
    let name = tile.path();
    let bytes = fs::read(context.dir.join(&name));
    let first = tile_start(tile);
    match bytes {
        Ok(bytes) if bytes == tile.to_bytes() => {}
        Ok(bytes) => {
            let expected = tile.to_bytes();
            let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
            let at = differs.unwrap_or_else(|| bytes.len().min(expected.len()));
            let at = u64::try_from(at).unwrap_or(0);
            let text = "the tile's hashes are not those of the records";
            context.found(Finding::new(What::Altered, name, text).at(at, first));
        }
        Err(_) => {
            let text = "the tile is not there";
            context.found(Finding::new(What::Missing, name, text).at(0, first));
        }
    }
}

/// The first record under a tile.
fn tile_start(tile: &Tile) -> u64 {
    let level = u32::try_from(tile.level)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    tile.index.saturating_mul(256_u64.saturating_pow(level))
}

fn check_anchors(context: &mut Context<'_>, tree: &Frontier) {
    let mut findings = Vec::new();
    for anchor in context
        .anchors
        .iter()
        .filter(|anchor| anchor.size == tree.size())
    {
        findings.extend(anchor.check(tree));
    }
    context.report.findings.append(&mut findings);
}
