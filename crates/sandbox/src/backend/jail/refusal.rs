//! A failed step, in words a person can act on: which wall, why, and what lifts it.

use std::io;
use std::path::Path;

use belljar_base::Refusal;

use super::plan::Step;
use crate::backend::StartError;
use crate::host::{self, Host};
use crate::life::LimitHit;
use crate::sys;

/// The clone itself failed.
pub(super) fn of_clone(source: io::Error, host: &Host) -> StartError {
    let known = host::namespace_refusal(host.shifts_ids());
    match (known, source.raw_os_error()) {
        (Some(refusal), _) => StartError::Wall {
            wall: "user namespace",
            refusal,
        },
        (None, Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)) => {
            let refusal = Refusal::new(
                "host.namespaces",
                format!("the kernel refuses new namespaces ({source})"),
                "inside a container, allow clone3 and user namespaces (for example \
                 --security-opt seccomp=unconfined), or run on the host itself",
            );
            StartError::Wall {
                wall: "user namespace",
                refusal,
            }
        }
        (None, Some(libc::ENOSPC | libc::EUSERS)) => {
            let refusal = Refusal::new(
                "host.namespaces",
                "the bound of namespaces on this host is reached",
                "raise user.max_user_namespaces and its siblings, or end other sandboxes",
            );
            StartError::Wall {
                wall: "user namespace",
                refusal,
            }
        }
        (None, _) => StartError::Step {
            step: "clone into new namespaces",
            source,
        },
    }
}

/// The id maps could not be written.
pub(super) fn of_maps(source: io::Error, host: &Host) -> StartError {
    if source.raw_os_error() != Some(libc::EPERM) {
        return StartError::Step {
            step: "map the ids",
            source,
        };
    }
    let refusal = host::namespace_refusal(host.shifts_ids()).unwrap_or_else(|| {
        Refusal::new(
            "host.id-maps",
            "the kernel refuses to map ids for a new user namespace",
            "inside a container, run as an ordinary user, or give it CAP_SETUID and CAP_SETGID",
        )
    });
    StartError::Wall {
        wall: "user namespace",
        refusal,
    }
}

/// A tree of the host could not be made to show shifted ids.
pub(super) fn of_tree(path: &Path, source: io::Error) -> StartError {
    let path = path.display().to_string();
    let reason = match source.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "its file system cannot shift ids; run belljar as the ordinary user who owns it"
                .to_owned()
        }
        Some(libc::EPERM) => "the kernel does not let this process shift its ids".to_owned(),
        Some(libc::ENOENT) => "it does not exist".to_owned(),
        Some(_) | None => source.to_string(),
    };
    StartError::Path { path, reason }
}

/// The set-up failed, and limits were reached meanwhile: those are the cause.
pub(super) fn by_limits(error: StartError, hits: &[LimitHit]) -> StartError {
    let step = match error {
        StartError::Step { .. } if hits.contains(&LimitHit::Memory) => {
            "start within the memory limit"
        }
        StartError::Step { .. } if hits.contains(&LimitHit::Pids) => {
            "start within the process limit"
        }
        StartError::Wall { .. }
        | StartError::Path { .. }
        | StartError::Step { .. }
        | StartError::Open { .. } => return error,
    };
    StartError::Step {
        step,
        source: io::Error::from_raw_os_error(libc::ENOMEM),
    }
}

/// A step of the child's plan failed.
pub(super) fn of_step(number: u32, source: io::Error, steps: &[Step]) -> StartError {
    let step = |step| move |source| StartError::Step { step, source };
    match number {
        sys::ENTRANCE => return step("enter the control groups")(source),
        sys::EXECUTION => return of_execution(source),
        _ => {}
    }
    let step = usize::try_from(number)
        .ok()
        .and_then(|number| steps.get(number));
    let Some(step) = step else {
        return StartError::Step {
            step: "set the sandbox up",
            source,
        };
    };
    if let (Some(path), "workspace" | "path") = (&step.about, step.wall) {
        let below = host::mount_below(path);
        let reason = match below {
            Some(point) => format!(
                "the file system mounted at `{}` inside it would be hidden; name a directory \
                 without mounts below it",
                point.display()
            ),
            None => source.to_string(),
        };
        return StartError::Path {
            path: path.display().to_string(),
            reason,
        };
    }
    of_wall(step.wall, &source)
}

/// A wall that this host does not hold.
fn of_wall(wall: &'static str, source: &io::Error) -> StartError {
    let (reason, remedy) = match (wall, source.raw_os_error()) {
        ("proc", Some(libc::EPERM)) => (
            "a fresh /proc is refused because parts of the present one are covered".to_owned(),
            "inside a container, start it with an uncovered /proc (for example \
             --security-opt systempaths=unconfined), or run on the host itself",
        ),
        ("root", Some(libc::EINVAL | libc::EPERM)) => (
            format!("the kernel refuses an overlay here ({source})"),
            "use Linux 6.6 or newer, outside of containers whose root is itself an overlay",
        ),
        ("landlock", _) => (
            format!("Landlock refuses ({source})"),
            "boot with `landlock` in the `lsm=` list (Linux 5.13 or newer)",
        ),
        ("seccomp", _) => (
            format!("the system-call filter is refused ({source})"),
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        (
            "network namespace",
            Some(libc::ENOENT | libc::EINVAL | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP),
        ) => (
            format!("the kernel cannot lead connections to the gate ({source})"),
            "load nf_tables with nft_chain_nat, nft_redir, nft_ct and nft_limit (modprobe), or use \
             a kernel that has them",
        ),
        _ => (
            format!("{source}"),
            "run `belljar doctor` for what this host can enforce",
        ),
    };
    let refusal = Refusal::new(format!("host.{}", wall.replace(' ', "-")), reason, remedy);
    StartError::Wall { wall, refusal }
}

/// The guest's program lies in the state directory.
fn of_execution(source: io::Error) -> StartError {
    if source.raw_os_error() != Some(libc::EACCES) {
        let step = "execute the guest";
        return StartError::Step { step, source };
    }
    let refusal = Refusal::new(
        "host.guest",
        "the file system of the state directory lets nothing be executed (noexec)",
        "set BELLJAR_STATE to a directory on another file system",
    );
    let wall = "guest";
    StartError::Wall { wall, refusal }
}
