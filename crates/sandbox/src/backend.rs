//! One folder per isolation class; each starts a sandbox and answers the same trait.

pub mod jail; // namespaces, seccomp, Landlock, cgroups on the host's kernel

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use belljar_base::frame::Tell;
use belljar_base::{HasKind, Kind, Refusal};

use crate::life::LimitHit;
use crate::network::Doors;
use crate::spec::{Command, Spec};
use crate::template::Template;

/// An isolation class on this host.
pub trait Backend: Send + Sync {
    /// Starts a sandbox; on return it has proved from inside that it is closed.
    ///
    /// # Errors
    /// When the host cannot hold a wall, or a step of the set-up fails. Nothing is left behind.
    fn start(&self, spec: &Spec, template: &Template) -> Result<Box<dyn Enclosed>, StartError> {
        self.start_beside(spec, template, &mut || ())
    }

    /// As `start`, and calls `meanwhile` once while the sandbox is being made, so that the caller
    /// can do something slow at no cost. It is not called when the start fails before that.
    ///
    /// # Errors
    /// As `start`.
    fn start_beside(
        &self,
        spec: &Spec,
        template: &Template,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Box<dyn Enclosed>, StartError>;
}

/// A sandbox that runs. Dropping it ends it.
pub trait Enclosed: Send {
    /// Starts a command. What becomes of it is told by `next`.
    ///
    /// # Errors
    /// When the sandbox has ended.
    fn execute(&mut self, command: &Command) -> std::io::Result<Stdio>;

    /// Sends a signal to a command's process group.
    ///
    /// # Errors
    /// When the sandbox has ended.
    fn signal(&mut self, id: u32, signal: i32) -> std::io::Result<()>;

    /// The descriptor that becomes readable when `next` has something to say.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// What the guest says next, waiting at most `patience`; `None` when it says nothing by then.
    ///
    /// # Errors
    /// When the sandbox has ended or its guest sends what is no message.
    fn next(&mut self, patience: Duration) -> std::io::Result<Option<Tell>>;

    /// The terminal's master that came with the last `Started`, once.
    fn take_terminal(&mut self) -> Option<OwnedFd>;

    /// The layer that holds what was written to a branch, by the branch's position in the `Spec`.
    ///
    /// # Errors
    /// When there is no such branch.
    fn scratch(&self, branch: usize) -> std::io::Result<OwnedFd>;

    /// What became of a file that could be written, by its position in the `Spec`.
    ///
    /// # Errors
    /// When there is no such file, or the scratch layer cannot be read.
    fn left(&self, writable: usize) -> std::io::Result<Left>;

    /// The doors of the gate in a gated sandbox, once.
    fn doors(&mut self) -> Option<Doors>;

    /// The host's id of the sandbox's id 0, where ids are shifted.
    fn id_shift(&self) -> Option<u32>;

    /// Ends every process inside and waits until the kernel has; limits that were reached.
    ///
    /// # Errors
    /// When the kernel does not confirm that nothing runs any more.
    fn end(&mut self) -> std::io::Result<Vec<LimitHit>>;
}

/// What a run left of a [`Writable`](crate::Writable).
#[derive(Debug)]
pub struct Left {
    /// The directory of the scratch layer with what was made beside the file.
    pub beside: OwnedFd,
    /// Whether the file's name still led to the file of the host at the end. If not, what has its
    /// name in `beside` took its place, if anything has.
    pub in_place: bool,
}

/// The supervisor's ends of a command's streams; all absent when it has a terminal.
#[derive(Debug)]
pub struct Stdio {
    /// The command's id in this sandbox.
    pub id: u32,
    /// Where its input goes.
    pub stdin: Option<OwnedFd>,
    /// Where its output comes from.
    pub stdout: Option<OwnedFd>,
    /// Where its error output comes from.
    pub stderr: Option<OwnedFd>,
}

/// A sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host cannot hold a wall: the run is refused, never enclosed more weakly.
    #[error("the host cannot hold the wall `{wall}`: {refusal}")]
    Wall {
        /// The wall.
        wall: &'static str,
        /// Rule, reason, remedy.
        refusal: Refusal,
    },
    /// Something the caller named cannot be shown inside.
    #[error("cannot show `{path}` inside: {reason}")]
    Path {
        /// What was named.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A step of the set-up failed.
    #[error("cannot {step}")]
    Step {
        /// What was attempted.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The sandbox looked at itself from inside and found a wall open.
    #[error("the sandbox is not closed: {}", open.join(", "))]
    Open {
        /// The walls that do not hold.
        open: Vec<String>,
    },
}

impl HasKind for StartError {
    fn kind(&self) -> Kind {
        match self {
            Self::Wall { .. } | Self::Open { .. } => Kind::Denied,
            Self::Path { .. } => Kind::Invalid,
            Self::Step { source, .. } => match source.raw_os_error() {
                Some(libc::ENOSPC | libc::EAGAIN | libc::ENOMEM | libc::EMFILE) => Kind::Exhausted,
                Some(_) | None => Kind::Unavailable,
            },
        }
    }
}
