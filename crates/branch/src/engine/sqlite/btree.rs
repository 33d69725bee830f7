//! Reads b-tree pages, cells and records. Every offset comes from a file that may be hostile, so
//! each is checked, chains and trees are bounded, and what contradicts itself is corrupt.
//! Layout: <https://sqlite.org/fileformat2.html#b_tree_pages>.

use super::image::{Encoding, Image, ImageError, be16, be32};
use super::value::Value;

/// SQLite's own bound on the depth of a tree.
const DEPTH_MAX: usize = 20;

/// What a page of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    IndexInterior,
    TableInterior,
    IndexLeaf,
    TableLeaf,
}

impl PageKind {
    pub(crate) const fn is_leaf(self) -> bool {
        matches!(self, Self::IndexLeaf | Self::TableLeaf)
    }

    const fn is_table(self) -> bool {
        matches!(self, Self::TableInterior | Self::TableLeaf)
    }
}

/// The parsed head of a b-tree page.
#[derive(Debug)]
pub(crate) struct PageHead {
    pub(crate) kind: PageKind,
    cells: usize,
    right_child: u32,
    /// Where the cell pointers begin.
    pointers: usize,
}

/// One cell: where its parts are in the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) rowid: i64,
    payload_bytes: usize,
    local_at: usize,
    local_bytes: usize,
    /// First overflow page, or 0.
    pub(crate) overflow: u32,
}

/// Parses the head of page `number`.
pub(crate) fn page_head(number: u32, page: &[u8]) -> Result<PageHead, ImageError> {
    let start = if number == 1 { 100 } else { 0 };
    let kind = match page.get(start) {
        Some(2) => PageKind::IndexInterior,
        Some(5) => PageKind::TableInterior,
        Some(10) => PageKind::IndexLeaf,
        Some(13) => PageKind::TableLeaf,
        _ => {
            return Err(ImageError::Corrupt(format!(
                "page {number} is no tree page"
            )));
        }
    };
    let cells = be16(page, start + 3).map_or(0, usize::from);
    let right_child = if kind.is_leaf() {
        0
    } else {
        be32(page, start + 8).unwrap_or(0)
    };
    let pointers = start + if kind.is_leaf() { 8 } else { 12 };
    if pointers + 2 * cells > page.len() {
        return Err(ImageError::Corrupt(format!(
            "page {number} has too many cells"
        )));
    }
    Ok(PageHead {
        kind,
        cells,
        right_child,
        pointers,
    })
}

impl PageHead {
    /// How many cells the page has.
    pub(crate) const fn cells(&self) -> usize {
        self.cells
    }

    fn cell_at(&self, page: &[u8], index: usize) -> Option<usize> {
        be16(page, self.pointers + 2 * index).map(usize::from)
    }

    /// The children of an interior page, in order.
    fn children(&self, number: u32, page: &[u8]) -> Result<Vec<u32>, ImageError> {
        let mut children = Vec::with_capacity(self.cells + 1);
        for index in 0..self.cells {
            let child = self.cell_at(page, index).and_then(|at| be32(page, at));
            children.push(child.ok_or_else(|| bad_cell(number))?);
        }
        children.push(self.right_child);
        Ok(children)
    }

    /// Cell `index` of a page whose cells carry rows.
    pub(crate) fn cell(
        &self,
        number: u32,
        page: &[u8],
        usable: usize,
        index: usize,
    ) -> Result<Cell, ImageError> {
        self.try_cell(page, usable, index)
            .ok_or_else(|| bad_cell(number))
    }

    fn try_cell(&self, page: &[u8], usable: usize, index: usize) -> Option<Cell> {
        let mut at = self.cell_at(page, index)?;
        if self.kind == PageKind::IndexInterior {
            at += 4;
        }
        let payload = varint(page, &mut at)?;
        let rowid = if self.kind.is_table() {
            varint(page, &mut at)?.cast_signed()
        } else {
            0
        };
        let payload_bytes = usize::try_from(payload)
            .ok()
            .filter(|bytes| *bytes <= 1 << 31)?;
        let max_local = if self.kind.is_table() {
            usable - 35
        } else {
            (usable - 12) * 64 / 255 - 23
        };
        let min_local = (usable - 12) * 32 / 255 - 23;
        let (local_bytes, overflow) = if payload_bytes <= max_local {
            (payload_bytes, 0)
        } else {
            let surplus = min_local + (payload_bytes - min_local) % (usable - 4);
            let local = if surplus <= max_local {
                surplus
            } else {
                min_local
            };
            (local, be32(page, at + local).filter(|first| *first != 0)?)
        };
        page.get(at..at + local_bytes)?;
        Some(Cell {
            rowid,
            payload_bytes,
            local_at: at,
            local_bytes,
            overflow,
        })
    }
}

fn bad_cell(number: u32) -> ImageError {
    ImageError::Corrupt(format!("page {number} has a cell out of bounds"))
}

impl Cell {
    /// Bytes of its payload that are in its page.
    pub(crate) const fn local_bytes(&self) -> usize {
        self.local_bytes
    }

    /// Puts the whole payload together; `visit` is told each overflow page and may refuse it.
    pub(crate) fn payload(
        &self,
        image: &Image,
        page: &[u8],
        scratch: &mut Vec<u8>,
        visit: &mut impl FnMut(u32) -> Result<(), ImageError>,
    ) -> Result<Vec<u8>, ImageError> {
        let local = page.get(self.local_at..self.local_at + self.local_bytes);
        let mut payload = local.unwrap_or_default().to_vec();
        self.overflow_pages(image, scratch, &mut |number, data| {
            visit(number)?;
            payload.extend_from_slice(data);
            Ok(())
        })?;
        Ok(payload)
    }

    /// Walks the overflow chain: each page's number and the part of it that is payload.
    pub(crate) fn overflow_pages(
        &self,
        image: &Image,
        scratch: &mut Vec<u8>,
        each: &mut impl FnMut(u32, &[u8]) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let usable = image.header().map_or(0, |header| header.usable);
        let mut left = self.payload_bytes - self.local_bytes;
        let mut next = self.overflow;
        while left > 0 {
            image.page(next, scratch)?;
            let take = left.min(usable.saturating_sub(4));
            let data = scratch.get(4..4 + take).unwrap_or_default();
            each(next, data)?;
            left -= data.len();
            next = be32(scratch, 0).unwrap_or(0);
        }
        Ok(())
    }
}

/// The pages of one tree.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Leaves, in key order.
    pub(crate) leaves: Vec<u32>,
    /// Interior pages, parents first.
    pub(crate) interior: Vec<u32>,
}

/// One bit per page.
#[derive(Debug)]
pub(crate) struct PageSet(Vec<u64>);

impl PageSet {
    pub(crate) fn new(pages: u32) -> Self {
        Self(vec![0; usize::try_from(pages / 64 + 1).unwrap_or(0)])
    }

    /// Adds a page; answers whether it was new.
    pub(crate) fn insert(&mut self, page: u32) -> bool {
        let word = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.0.get_mut(at));
        word.is_some_and(|word| {
            let bit = 1 << (page % 64);
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    pub(crate) fn remove(&mut self, page: u32) {
        if let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.0.get_mut(at))
        {
            *word &= !(1 << (page % 64));
        }
    }

    pub(crate) fn contains(&self, page: u32) -> bool {
        let word = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.0.get(at));
        word.is_some_and(|word| word & (1 << (page % 64)) != 0)
    }
}

/// Lists the pages of the tree at `root`, reading only its interior pages: all leaves are at one
/// depth, which the leftmost path shows. Every page is marked in `claimed`; one that is already
/// marked is in two places, which is corrupt.
pub(crate) fn tree(image: &Image, root: u32, claimed: &mut PageSet) -> Result<Tree, ImageError> {
    let depth = depth(image, root)?;
    let mut tree = Tree::default();
    let mut level = vec![root];
    let mut buffer = Vec::new();
    for _ in 1..depth {
        let mut below = Vec::new();
        image.prefetch(&level);
        for number in level {
            claim(claimed, number)?;
            image.page(number, &mut buffer)?;
            let head = page_head(number, &buffer)?;
            if head.kind.is_leaf() {
                return Err(ImageError::Corrupt(format!(
                    "page {number} is at a wrong depth"
                )));
            }
            below.extend(head.children(number, &buffer)?);
            tree.interior.push(number);
            if below.len() > usize::try_from(image.pages()).unwrap_or(usize::MAX) {
                return Err(ImageError::corrupt("a tree has more pages than the file"));
            }
        }
        level = below;
    }
    for leaf in &level {
        if *leaf == 0 || *leaf > image.pages() {
            return Err(ImageError::Corrupt(format!("page {leaf} does not exist")));
        }
        claim(claimed, *leaf)?;
    }
    tree.leaves = level;
    Ok(tree)
}

fn depth(image: &Image, root: u32) -> Result<usize, ImageError> {
    let mut buffer = Vec::new();
    let mut number = root;
    for depth in 1..=DEPTH_MAX {
        image.page(number, &mut buffer)?;
        let head = page_head(number, &buffer)?;
        if head.kind.is_leaf() {
            return Ok(depth);
        }
        number = head
            .children(number, &buffer)?
            .first()
            .copied()
            .unwrap_or(0);
    }
    Err(ImageError::corrupt("a tree is too deep"))
}

fn claim(claimed: &mut PageSet, page: u32) -> Result<(), ImageError> {
    if claimed.insert(page) {
        Ok(())
    } else {
        Err(ImageError::Corrupt(format!("page {page} is in two places")))
    }
}

/// SQLite's variable-length integer at `at`, which moves past it.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0_u64;
    for _ in 0..8 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    let byte = *bytes.get(*at)?;
    *at += 1;
    Some(number << 8 | u64::from(byte))
}

/// Decodes a record into its stored values; text becomes UTF-8.
pub(crate) fn record(payload: &[u8], encoding: Encoding) -> Result<Vec<Value>, ImageError> {
    let corrupt = || ImageError::corrupt("a row's record is malformed");
    let mut at = 0;
    let header = varint(payload, &mut at).and_then(|bytes| usize::try_from(bytes).ok());
    let header = header
        .filter(|end| *end <= payload.len())
        .ok_or_else(corrupt)?;
    let mut body = header;
    let mut row = Vec::new();
    while at < header {
        let kind = varint(payload, &mut at).ok_or_else(corrupt)?;
        if at > header {
            return Err(corrupt());
        }
        let bytes = serial_bytes(kind).ok_or_else(corrupt)?;
        let end = body.checked_add(bytes).ok_or_else(corrupt)?;
        let data = payload.get(body..end).ok_or_else(corrupt)?;
        row.push(serial_value(kind, data, encoding)?);
        body = end;
    }
    Ok(row)
}

fn serial_bytes(kind: u64) -> Option<usize> {
    Some(match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).ok()?,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    })
}

fn serial_value(kind: u64, data: &[u8], encoding: Encoding) -> Result<Value, ImageError> {
    Ok(match kind {
        0 => Value::Null,
        7 => {
            let bits = u64::from_be_bytes(data.try_into().unwrap_or_default());
            let real = f64::from_bits(bits);
            // SQLite reads a stored NaN as NULL.
            if real.is_nan() {
                Value::Null
            } else {
                Value::Real(real)
            }
        }
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        1..=6 => {
            let negative = data.first().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1_i64 } else { 0 };
            Value::Integer(
                data.iter()
                    .fold(start, |sum, byte| sum << 8 | i64::from(*byte)),
            )
        }
        _ if kind.is_multiple_of(2) => Value::Blob(data.to_vec()),
        _ => Value::Text(text(data, encoding)?),
    })
}

/// Text as SQLite would hand it out in UTF-8.
fn text(data: &[u8], encoding: Encoding) -> Result<Vec<u8>, ImageError> {
    let unit = |pair: &[u8]| {
        let pair = <[u8; 2]>::try_from(pair).unwrap_or_default();
        if encoding == Encoding::Utf16Le {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        }
    };
    if encoding == Encoding::Utf8 {
        return Ok(data.to_vec());
    }
    let units = data.chunks_exact(2).map(unit);
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if data.len().is_multiple_of(2) => Ok(text.into_bytes()),
        Ok(_) | Err(_) => Err(ImageError::Unsupported(
            "it has text that is not valid UTF-16, which cannot be carried over exactly".into(),
        )),
    }
}
