//! Recovery: what to believe when the end of the log does not hold.
//!
//! A commit that was being written when its writer died, or the power went, was acknowledged to
//! nobody: it is cut off and reported. Anything else is damage, and is never cut.

use super::{CHECKPOINT, Log, read_up_to, segment_after};
use crate::error::{Fault, Place, Torn};
use crate::frame;
use crate::hint;
use crate::note::Checkpoint;

impl Log {
    /// Cuts off a frame that does not hold, if it is the end of a commit nobody was told of.
    pub(super) fn cut(&mut self, broken: Place) -> Result<(), Fault> {
        let place = self.position.place();
        let damaged = |what| {
            Err(Fault::Damaged {
                place: broken,
                what,
            })
        };
        let length = self
            .file
            .metadata()
            .map_err(Fault::io("read the log"))?
            .len();
        let mut rest = vec![0; usize::try_from(length.saturating_sub(place.offset)).unwrap_or(0)];
        read_up_to(&self.file, &mut rest, place.offset).map_err(Fault::io("read the log"))?;
        if has_later_frame(&rest, place.seq) || segment_after(&self.dir, place.segment) {
            return damaged("a frame does not hold, and others follow it");
        }
        if self.signed_size() > place.seq {
            return damaged("a frame does not hold, and the checkpoint is signed over it");
        }
        let hinted = hint::read(&self.dir).map_or(0, |hint| hint.position.seq());
        if hinted > place.seq {
            return damaged("a frame does not hold, and the hint says that it was written");
        }
        let cut = self.file.set_len(place.offset);
        let cut = cut.and_then(|()| self.file.sync_data());
        cut.map_err(Fault::io("cut a torn write off the log"))?;
        self.zeroed = place.offset;
        let torn = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let bytes = u64::try_from(torn).unwrap_or(u64::MAX);
        self.torn.push(Torn { place, bytes });
        Ok(())
    }

    /// After a power loss a torn write may have left bytes behind zeros.
    pub(super) fn check_rest(&mut self) -> Result<(), Fault> {
        let place = self.position.place();
        let length = self
            .file
            .metadata()
            .map_err(Fault::io("read the log"))?
            .len();
        let mut rest = vec![0; usize::try_from(length.saturating_sub(place.offset)).unwrap_or(0)];
        read_up_to(&self.file, &mut rest, place.offset).map_err(Fault::io("read the log"))?;
        if frame::is_zero(&rest) {
            return Ok(());
        }
        self.cut(place)
    }

    pub(super) fn check_against_checkpoint(&self) -> Result<(), Fault> {
        let note = std::fs::read_to_string(self.dir.join(CHECKPOINT));
        let note = note.map_err(Fault::io("read the checkpoint"))?;
        let found = self.position.seq();
        let Ok(signed) = Checkpoint::open(&note, self.signer.verifier()) else {
            let what = "the checkpoint is not signed by the ledger's key";
            return Err(Fault::Damaged {
                place: self.position.place(),
                what,
            });
        };
        if signed.size > found {
            return Err(Fault::Short {
                signed: signed.size,
                found,
            });
        }
        if signed.size == found && signed.root != self.position.frontier.root() {
            return Err(Fault::OtherHistory { size: found });
        }
        let hinted = hint::read(&self.dir).map_or(0, |hint| hint.position.seq());
        if hinted > found {
            return Err(Fault::Short {
                signed: hinted,
                found,
            });
        }
        Ok(())
    }

    pub(super) fn signed_size(&self) -> u64 {
        let note = std::fs::read_to_string(self.dir.join(CHECKPOINT)).unwrap_or_default();
        let signed = Checkpoint::open(&note, self.signer.verifier());
        signed.map_or(0, |checkpoint| checkpoint.size)
    }
}

/// Whether a frame that holds, of records after `seq`, begins anywhere behind the first byte.
pub(crate) fn has_later_frame(bytes: &[u8], seq: u64) -> bool {
    let starts = memchr::memmem::find_iter(bytes, &frame::MAGIC);
    for at in starts.filter(|at| *at > 0) {
        if first_of_frame(bytes.get(at..).unwrap_or_default()).is_some_and(|first| first > seq) {
            return true;
        }
    }
    false
}

/// The place of the first record of the frame that these bytes begin with, if they hold one.
pub(crate) fn first_of_frame(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk()?;
    let head = frame::Head::parse(head)?;
    let payload = rest.get(..usize::try_from(head.payload).ok()?)?;
    frame::check(&head, payload).is_ok().then_some(head.first)
}
