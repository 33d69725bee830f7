//! What the child gives up: capabilities, limits, paths, system calls. Allocates nothing.

use std::ffi::CString;
use std::ptr;

use super::checked;

/// Compiled from `filter/jail.json` by the build script.
static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jail.bpf"));
/// Compiled from `filter/in-place.json`.
static IN_PLACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/in-place.bpf"));

/// Sets a limit, soft and hard, never above the one that is inherited: a hard limit can only sink.
pub(super) fn limit(resource: u32, value: u64) -> Result<(), i32> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for one write.
    checked(i64::from(unsafe {
        libc::getrlimit(resource, &raw mut limit)
    }))?;
    limit.rlim_max = limit.rlim_max.min(value);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is a valid struct.
    checked(i64::from(unsafe {
        libc::setrlimit(resource, &raw const limit)
    }))
    .map(drop)
}

/// `capset(2)`'s header and data, version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

pub(super) fn drop_capabilities() -> Result<(), i32> {
    // Root inside is a name, not a power: an executed program gains nothing from user id 0.
    let bits = 0b10_1111; // NOROOT, NO_SETUID_FIXUP, each with its lock, and KEEP_CAPS locked off
    // SAFETY: PR_SET_SECUREBITS takes integers.
    checked(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0)
    }))?;
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes integers; EINVAL marks the end of the known ones.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if answer != 0 {
            break;
        }
    }
    let header = CapabilityHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [0_u32; 6];
    // SAFETY: the header and two sets of three words are what version 3 reads.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    checked(answer).map(drop)
}

/// `landlock_ruleset_attr`, version 6.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    rights: u64,
    parent: i32,
}

pub(super) fn landlock(handled: u64, scoped: u64, rules: &[(CString, u64)]) -> Result<(), i32> {
    let attributes = Ruleset {
        files: handled,
        network: 0,
        scoped,
    };
    // Older kernels know a shorter struct; its tail is then zero and may be left out.
    let size = if scoped == 0 { 8 } else { size_of::<Ruleset>() };
    // SAFETY: the struct is valid for the size given.
    let ruleset = checked(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size,
            0,
        )
    })?;
    for (path, rights) in rules {
        // SAFETY: the path is a C string.
        let parent = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        if parent < 0 {
            // A template without that directory needs no rule for it.
            continue;
        }
        let beneath = Beneath {
            rights: *rights,
            parent,
        };
        // SAFETY: the struct is valid; 1 is LANDLOCK_RULE_PATH_BENEATH.
        let added = checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset,
                1,
                &raw const beneath,
                0,
            )
        });
        // SAFETY: the descriptor was just opened and is used nowhere else.
        unsafe { libc::close(parent) };
        added?;
    }
    // SAFETY: the ruleset is an open descriptor; no flags.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(drop)
}

pub(super) fn filter(in_place: bool) -> Result<(), i32> {
    let instructions = if in_place { IN_PLACE } else { FILTER };
    let count = u16::try_from(instructions.len() / size_of::<libc::sock_filter>());
    let program = libc::sock_fprog {
        len: count.unwrap_or(0),
        filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the program's bytes were laid out as sock_filter by the build script; the kernel
    // copies them and tolerates any alignment.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) };
    checked(answer).map(drop)
}

/// The version of Landlock that the kernel offers; 0 if none.
pub(crate) fn landlock_abi() -> u32 {
    // SAFETY: no struct and no size, with the version flag.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<Ruleset>(),
            0,
            1,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}
