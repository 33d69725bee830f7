//! Streams the rows on a list of pages, as stored.

use super::btree::{self, PageKind, page_head};
use super::image::{Image, ImageError};

/// One stored row.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) rowid: i64,
    pub(crate) payload: Vec<u8>,
}

/// The rows on some pages of one tree.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    image: &'a Image,
    usable: usize,
    pages: std::slice::Iter<'a, u32>,
    /// Pages of the tree carry rowids, which then must ascend.
    by_rowid: bool,
    page: Vec<u8>,
    at: Option<(u32, btree::PageHead, usize)>,
    last: Option<i64>,
    scratch: Vec<u8>,
    /// Overflow pages that may still be read: no page is in two rows.
    budget: u64,
    /// Bytes of the page that may still be payload: no byte is in two rows.
    room: usize,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(image: &'a Image, pages: &'a [u32], by_rowid: bool) -> Self {
        Self {
            image,
            usable: image.header().map_or(0, |header| header.usable),
            pages: pages.iter(),
            by_rowid,
            page: Vec::new(),
            at: None,
            last: None,
            scratch: Vec::new(),
            budget: u64::from(image.pages()),
            room: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Stored>, ImageError> {
        loop {
            if let Some((number, head, index)) = &mut self.at
                && *index < head.cells()
            {
                let cell = head.cell(*number, &self.page, self.usable, *index)?;
                *index += 1;
                let room = self.room.checked_sub(cell.local_bytes());
                self.room = room.ok_or_else(|| ImageError::corrupt("rows overlap"))?;
                let budget = &mut self.budget;
                let mut spend = |_| match budget.checked_sub(1) {
                    Some(left) => {
                        *budget = left;
                        Ok(())
                    }
                    None => Err(ImageError::corrupt("rows share overflow pages")),
                };
                let payload =
                    cell.payload(self.image, &self.page, &mut self.scratch, &mut spend)?;
                if self.by_rowid && self.last.is_some_and(|last| last >= cell.rowid) {
                    return Err(ImageError::corrupt("rows are out of order"));
                }
                self.last = Some(cell.rowid);
                return Ok(Some(Stored {
                    rowid: cell.rowid,
                    payload,
                }));
            }
            let Some(number) = self.pages.next() else {
                return Ok(None);
            };
            self.image.page(*number, &mut self.page)?;
            let head = page_head(*number, &self.page)?;
            let fits = match head.kind {
                PageKind::TableLeaf => self.by_rowid,
                PageKind::IndexLeaf | PageKind::IndexInterior => !self.by_rowid,
                PageKind::TableInterior => false,
            };
            if !fits {
                return Err(ImageError::Corrupt(format!(
                    "page {number} is in the wrong tree"
                )));
            }
            self.at = Some((*number, head, 0));
            self.room = self.page.len();
        }
    }
}
