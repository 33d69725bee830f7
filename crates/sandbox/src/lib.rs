//! Sandboxes. Starts one from a specification, holds its limits, runs commands in it, and leaves
//! nothing behind. It never decides whether something may run, and never reads what a run wrote.
//!
//! **Invariant:** the only room with mounts and namespaces; unsafe code is in `sys.rs` alone (held
//! by `cargo xtask tidy`).

mod spec; // what a sandbox is asked to be
mod host; // what this machine can enforce
mod template; // what a sandbox starts from
mod life; // the states of a run, as a pure machine
mod attend; // the loop that carries a command's input and output and holds its limits
pub mod backend; // one folder per isolation class; all answer the same trait
pub mod network; // what a sandbox reaches, and the doors through which
mod wire; // bytes and descriptors over the channel to a guest
mod sys; // every unsafe call

pub use attend::{Attendance, Ended, Stream, attend, signals};
pub use backend::{Backend, Enclosed, StartError};
pub use host::{Finding, Host, Limiter};
pub use life::{Cause, LimitHit};
pub use spec::{Branch, Command, Limits, Shown, Spec, Writable};
pub use template::{Template, TemplateError};
