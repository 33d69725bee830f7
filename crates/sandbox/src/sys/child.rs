//! The child's life between the clone and the guest's first instruction. It allocates nothing,
//! because another thread of the parent may have held a lock when it was copied.

use std::iter;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::birth::Inheritance;
use super::deeds::perform;
use super::{TREES_MAX, checked, errno};
use crate::backend::jail::plan::{DOORS, DOORS_MAX, PROGRAM};

/// The guest finds its channel at this number.
const CHANNEL: RawFd = 3;
/// The trees that the parent sends are held from this number on.
pub(super) const TREES: RawFd = 512;
/// The scratch layer is held at this number until it has been sent.
pub(super) const SCRATCH: RawFd = 255;
/// The most trees a plan may need.
/// What the child says when its plan is done; anything else is the number of the failed step.
pub(crate) const DONE: u32 = u32::MAX;
/// The step number of the entrance into the control groups.
pub(crate) const ENTRANCE: u32 = u32::MAX - 2;
/// The step number of the guest's execution itself.
pub(crate) const EXECUTION: u32 = u32::MAX - 1;

/// The child's whole life before the guest.
pub(super) fn child(inheritance: &Inheritance<'_>) -> ! {
    let entered = enter(inheritance.entrances);
    place(
        inheritance.channel.as_raw_fd(),
        inheritance.guest.as_raw_fd(),
    );
    // Nothing of the parent's is kept: not the parent's own end of the channel, which would hide
    // its death from the child, nor what a thread of it opened without close-on-exec.
    // SAFETY: close_range takes integers; the child uses no descriptor above `PROGRAM` yet.
    unsafe { libc::syscall(libc::SYS_close_range, PROGRAM + 1, u32::MAX, 0) };
    raise_descriptor_limit();
    if let Err(errno) = entered {
        report(ENTRANCE, errno);
        exit(1);
    }
    // The parent writes the id maps, then sends the trees; silence means that it died.
    if !await_trees(inheritance.trees) {
        exit(1);
    }
    for (number, step) in (0_u32..).zip(inheritance.steps) {
        if let Err(errno) = perform(&step.deed) {
            report(number, errno);
            exit(1);
        }
    }
    // The parent's death closes the channel; the guest then ends, and the kernel ends every
    // process of its namespace. A death signal would fire when the starting thread ends.
    standard_streams();
    hand_over();
    let name = c"belljar-guest";
    let arguments = [name.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: the program is an open descriptor, both vectors end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            PROGRAM,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    report(EXECUTION, errno());
    exit(1)
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit takes an integer and runs nothing of the parent's.
    unsafe { libc::_exit(code) }
}

/// Enters control groups of version 1. A thread that moves itself spares the kernel a lock over
/// every thread of the machine, which costs milliseconds.
fn enter(entrances: &[OwnedFd]) -> Result<(), i32> {
    entrances.iter().try_for_each(|tasks| {
        // SAFETY: the bytes are a literal of the length given.
        let written = unsafe { libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        checked(i64::try_from(written).unwrap_or(-1)).map(drop)
    })
}

/// Puts the channel and the guest's program at their numbers, whatever numbers they had.
fn place(channel: RawFd, program: RawFd) {
    // SAFETY: both are numbers; F_DUPFD gives the first free one above those that are wanted.
    let channel = unsafe { libc::fcntl(channel, libc::F_DUPFD, PROGRAM + 1) };
    // SAFETY: as above.
    let program = unsafe { libc::fcntl(program, libc::F_DUPFD, PROGRAM + 1) };
    // SAFETY: both are numbers; the copy stays open at an execution.
    unsafe { libc::dup2(channel, CHANNEL) };
    // SAFETY: as above.
    unsafe { libc::dup3(program, PROGRAM, libc::O_CLOEXEC) };
}

/// The plan's numbers reach to `TREES` and above, whatever soft limit the parent has.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for one write.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is a valid struct; where it is refused the plan fails and says so.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Ends the standard streams that came from the parent: the guest has none.
fn standard_streams() {
    // SAFETY: the path is a C literal.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for number in 0..3 {
        // SAFETY: both are numbers; a failure leaves a stream that the next lines cannot use.
        unsafe { libc::dup2(null, number) };
    }
}

/// Tells the parent which step failed, or that all is done.
fn report(step: u32, errno: i32) {
    let mut bytes = [0_u8; 8];
    let (front, back) = bytes.split_at_mut(4);
    front.copy_from_slice(&step.to_le_bytes());
    back.copy_from_slice(&errno.to_le_bytes());
    // SAFETY: the buffer is valid for eight bytes.
    unsafe { libc::send(CHANNEL, bytes.as_ptr().cast(), 8, libc::MSG_NOSIGNAL) };
}

/// A control message of some descriptors, aligned as the kernel wants it.
#[repr(align(8))]
struct Control([u8; 16 + 4 * TREES_MAX]);

/// Receives the trees, placing them at `TREES` and after; one byte comes even without any.
fn await_trees(expected: usize) -> bool {
    let mut received = 0;
    loop {
        let mut byte = 0_u8;
        let mut vector = libc::iovec {
            iov_base: ptr::from_mut(&mut byte).cast(),
            iov_len: 1,
        };
        let mut control = Control([0; 16 + 4 * TREES_MAX]);
        // SAFETY: msghdr is plain integers and pointers, for which zero means absent.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        // SAFETY: all pointers in the message are valid for their lengths.
        let count = unsafe { libc::recvmsg(CHANNEL, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if count != 1 {
            return false;
        }
        // Eight bytes of length, four of level, four of type, then the descriptors.
        let descriptors = message.msg_controllen.saturating_sub(16) / 4;
        for chunk in control
            .0
            .get(16..)
            .unwrap_or_default()
            .chunks_exact(4)
            .take(descriptors)
        {
            let raw = chunk
                .first_chunk::<4>()
                .map_or(-1, |bytes| RawFd::from_ne_bytes(*bytes));
            // SAFETY: both are numbers; the copy closes on exec.
            unsafe { libc::dup3(raw, TREES + received, libc::O_CLOEXEC) };
            // SAFETY: the descriptor was just received and is used nowhere else.
            unsafe { libc::close(raw) };
            received += 1;
        }
        if usize::try_from(received).is_ok_and(|count| count >= expected) {
            return true;
        }
    }
}

/// Sends the scratch layer, and the gate's doors where there are some, with the word that the plan
/// is done.
fn hand_over() {
    let mut bytes = [0_u8; 8];
    bytes.split_at_mut(4).0.copy_from_slice(&DONE.to_le_bytes());
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let mut control = Control([0; 16 + 4 * TREES_MAX]);
    let mut count = 0_usize;
    let places = control.0.get_mut(16..).unwrap_or_default();
    let numbers = iter::once(SCRATCH).chain(DOORS..DOORS + DOORS_MAX);
    for (place, number) in places
        .chunks_exact_mut(4)
        .zip(numbers.filter(|one| open(*one)))
    {
        place.copy_from_slice(&number.to_ne_bytes());
        count += 1;
    }
    // SAFETY: msghdr is plain integers and pointers, for which zero means absent.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = (16 + 4 * count).next_multiple_of(8);
    let header = libc::cmsghdr {
        cmsg_len: 16 + 4 * count,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: the buffer is aligned and longer than the header.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    // SAFETY: all pointers in the message are valid for their lengths.
    unsafe { libc::sendmsg(CHANNEL, &raw const message, libc::MSG_NOSIGNAL) };
}

/// Whether a descriptor is open: everything of the parent's was closed, so that it is the plan's.
fn open(number: RawFd) -> bool {
    // SAFETY: fcntl takes integers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}
