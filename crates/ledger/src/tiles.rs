//! The tlog-tiles layout (C2SP): where tiles are, how a tree is cut into them.

use std::path::PathBuf;

use crate::merkle::{self, Hash};

/// Hashes in a full tile, records in a full bundle.
pub(crate) const WIDTH: usize = 256;

/// Where a tile is: `tile/0/x001/x234/067`, with `.p/5` behind it for one of 5 hashes.
pub(crate) fn path(level: &str, index: u64, width: usize) -> PathBuf {
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    let mut text = format!("tile/{level}");
    for group in groups.iter().rev() {
        text.push('/');
        text.push_str(group);
    }
    if width < WIDTH {
        text.push_str(&format!(".p/{width}"));
    }
    PathBuf::from(text)
}

/// The level at which the records themselves are.
pub(crate) const ENTRIES: &str = "entries";

/// One tile of hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) level: usize,
    pub(crate) index: u64,
    pub(crate) hashes: Vec<Hash>,
}

impl Tile {
    pub(crate) fn path(&self) -> PathBuf {
        path(&self.level.to_string(), self.index, self.hashes.len())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.hashes.iter().flat_map(Hash::as_bytes);
        bytes.copied().collect()
    }
}

/// Cuts a growing tree into tiles.
#[derive(Debug, Default)]
pub(crate) struct Tiler {
    /// Per level: the number of full tiles so far, and the hashes of the one being filled.
    levels: Vec<(u64, Vec<Hash>)>,
}

impl Tiler {
    /// Adds a leaf; answers the tiles that are full now.
    pub(crate) fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        let mut full = Vec::new();
        let (mut level, mut hash) = (0, leaf);
        loop {
            if self.levels.len() == level {
                self.levels.push((0, Vec::with_capacity(WIDTH)));
            }
            let Some((index, hashes)) = self.levels.get_mut(level) else {
                return full;
            };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                return full;
            }
            hash = merkle::root(hashes);
            let (hashes, index_of_tile) = (std::mem::take(hashes), *index);
            *index += 1;
            full.push(Tile {
                level,
                index: index_of_tile,
                hashes,
            });
            level += 1;
        }
    }

    /// The partial tiles that remain.
    pub(crate) fn finish(self) -> Vec<Tile> {
        let levels = self.levels.into_iter().enumerate();
        let partial = levels.filter(|(_, (_, hashes))| !hashes.is_empty());
        let tile = |(level, (index, hashes))| Tile {
            level,
            index,
            hashes,
        };
        partial.map(tile).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let check = |level, index, width, text: &str| {
            assert_eq!(path(level, index, width), PathBuf::from(text));
        };
        check("0", 0, 256, "tile/0/000");
        check("2", 1_234_067, 256, "tile/2/x001/x234/067");
        check("0", 1000, 112, "tile/0/x001/000.p/112");
        check(ENTRIES, 5, 1, "tile/entries/005.p/1");
    }

    #[test]
    fn seventy_thousand_leaves_as_in_the_specification() {
        let mut tiler = Tiler::default();
        let mut full = [0; 3];
        for n in 0..70_000_u32 {
            for tile in tiler.push(Hash::of(&n.to_le_bytes())) {
                full[tile.level] += 1;
            }
        }
        assert_eq!(full, [273, 1, 0]);
        let rest = tiler.finish();
        let partial: Vec<_> = rest
            .iter()
            .map(|tile| (tile.level, tile.hashes.len()))
            .collect();
        assert_eq!(partial, [(0, 112), (1, 17), (2, 1)]);
    }
}
