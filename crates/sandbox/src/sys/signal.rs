//! Ending a process, and hearing that we shall end ourselves.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use super::{checked, own};

/// Ends a process, by the descriptor that cannot mean another one.
pub(crate) fn kill(process: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is a pidfd; no siginfo is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    checked(answer)
        .map(drop)
        .map_err(io::Error::from_raw_os_error)
}

/// Blocks the signals that ask a program to end, and gives a descriptor that tells of them.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is valid for writes of one sigset_t.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGWINCH,
    ] {
        // SAFETY: `set` was initialised by sigemptyset.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: `set` is initialised; the old mask is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let raw = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    checked(i64::from(raw)).map_err(io::Error::from_raw_os_error)?;
    Ok(own(raw))
}

/// The signals that a descriptor of `signals` tells of.
pub(crate) fn take_signals(signals: &OwnedFd) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    // One `signalfd_siginfo` is 128 bytes and begins with the signal's number.
    let mut record = [0_u8; 128];
    loop {
        match rustix::io::read(signals, &mut record) {
            Ok(128) => {
                let number = record
                    .first_chunk::<4>()
                    .map_or(0, |four| u32::from_ne_bytes(*four));
                found.extend(i32::try_from(number));
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(found),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
