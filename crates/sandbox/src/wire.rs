//! Bytes and descriptors over the channel to a guest.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::sys::TREES_MAX;

/// The most descriptors that come at once: a layer and the gate's doors.
pub(crate) const RECEIVED_MAX: usize = 16;

/// Sends bytes; the descriptors go with the first of them.
pub(crate) fn send_with(
    channel: &OwnedFd,
    mut bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut descriptors = descriptors;
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TREES_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let slice = [io::IoSlice::new(bytes)];
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(channel, &slice, &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        descriptors = &[];
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives what is there; no bytes means the other end is closed.
pub(crate) fn receive(channel: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0_u8; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIVED_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slice = [io::IoSliceMut::new(&mut bytes)];
    let message = recvmsg(channel, &mut slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(message.bytes);
    Ok((bytes, descriptors))
}

/// Whether something can be read within a time.
pub(crate) fn readable(channel: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let mut watched = [PollFd::new(channel, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    match poll(&mut watched, Some(&patience)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
