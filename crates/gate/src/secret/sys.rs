//! Memory for values: locked against swapping, left out of core dumps, empty in a forked child,
//! wiped at the end. The gate's only unsafe calls.
#![expect(
    unsafe_code,
    reason = "no library with a safe wrapper locks memory, keeps it out of core dumps and wipes it in children"
)]

use std::ptr::{self, NonNull};
use std::{io, slice};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// Pages of its own, of which the first `used` bytes hold something.
pub(super) struct Locked {
    start: NonNull<u8>,
    mapped: usize,
    used: usize,
}

// SAFETY: the pages belong to this value alone; they are changed through `&mut` only.
unsafe impl Send for Locked {}
// SAFETY: a shared reference gives shared slices of plain bytes and nothing else.
unsafe impl Sync for Locked {}

impl Locked {
    /// Room for so many bytes, all zero, none of them used.
    pub(super) fn with_room(bytes: usize) -> io::Result<Self> {
        let mapped = bytes.max(1).next_multiple_of(rustix::param::page_size());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing else.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), mapped, protection, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let locked = Self {
            start,
            mapped,
            used: 0,
        };
        for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
            // SAFETY: the range is the mapping just made, and the advice leaves its bytes alone.
            unsafe { madvise(start.as_ptr().cast(), mapped, advice) }?;
        }
        // SAFETY: the range is the mapping just made.
        unsafe { mlock(start.as_ptr().cast(), mapped) }?;
        Ok(locked)
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `used` is never more than `mapped`, the mapping lives as long as `self`, and its
        // bytes are initialised: the kernel gives zeros.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.used) }
    }

    /// All of its room, used or not.
    pub(super) fn room(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `mapped` initialised bytes, and `&mut self` makes them ours alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.mapped) }
    }

    /// Says how much of the room is used.
    pub(super) fn set_used(&mut self, used: usize) {
        assert!(used <= self.mapped, "more is used than there is");
        self.used = used;
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.room().zeroize();
        // SAFETY: the mapping is ours, whole, and nothing borrows it any more. What fails leaves
        // wiped pages behind, which the end of the process frees.
        unsafe { munmap(self.start.as_ptr().cast(), self.mapped) }.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_keeps_it_in() {
        let mut locked = Locked::with_room(10).unwrap();
        locked.room()[..3].copy_from_slice(b"abc");
        locked.set_used(3);
        assert_eq!(locked.bytes(), b"abc");
        let place = format!("{:x}-", locked.start.as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (_, after) = maps.split_once(&place).unwrap();
        let flags = after
            .lines()
            .find(|line| line.starts_with("VmFlags:"))
            .unwrap();
        for flag in [" lo", " dd", " wf"] {
            assert!(flags.contains(flag), "{flags}");
        }
    }
}
