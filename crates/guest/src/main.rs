//! The first process inside a sandbox: it proves that the sandbox is closed, starts commands,
//! reaps, forwards signals, and tells how commands end. It is static, holds no secret and has no
//! power of its own: it is enclosed by the same walls as what it starts.
//!
//! **Invariant:** depends on `base` alone (held by `cargo xtask tidy`).

mod boot; // what is done once, before the first command
mod probe; // a probe that must fail does fail
mod channel; // frames and descriptors to and from the supervisor
mod exec; // a command: start it, know how it ended
mod sys; // every unsafe call

use std::process::ExitCode;

use belljar_base::frame::{Ask, Tell, VERSION};

use crate::channel::{Channel, Received};
use crate::exec::Commands;

fn main() -> ExitCode {
    let children = boot::settle();
    let mut channel = Channel::inherited();
    let open = probe::open_walls();
    if channel
        .tell(
            &Tell::Ready {
                version: VERSION,
                open,
            },
            None,
        )
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let mut commands = Commands::default();
    loop {
        let Ok(ready) = sys::wait_readable(channel.descriptor(), &children) else {
            return ExitCode::FAILURE;
        };
        if ready.child && commands.reap(&children, &mut channel).is_err() {
            return ExitCode::FAILURE;
        }
        if ready.channel {
            match channel.receive() {
                Ok(Received::Asks(asks)) => asks.into_iter().for_each(|ask| match ask {
                    Ask::Execute(execute) => commands.start(&execute, &mut channel),
                    Ask::Signal { id, signal } => commands.signal(id, signal),
                }),
                // The supervisor is gone: end, and the kernel ends every process inside.
                Ok(Received::Closed) | Err(_) => return ExitCode::SUCCESS,
            }
        }
    }
}
