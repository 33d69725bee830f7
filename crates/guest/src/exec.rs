//! A command: start it, know how it ended.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use belljar_base::frame::{End, Execute, Tell};

use crate::channel::Channel;
use crate::sys::{self, Started};

/// The commands that run, by their process id inside.
#[derive(Default)]
pub(crate) struct Commands {
    running: BTreeMap<i32, u32>,
}

/// Why a command did not start.
struct Failure {
    step: &'static str,
    errno: i32,
}

impl Commands {
    /// Starts a command and tells the supervisor how that went.
    pub(crate) fn start(&mut self, execute: &Execute, channel: &mut Channel) {
        let id = execute.id;
        let told = match self.launch(execute, channel) {
            Ok(master) => channel.tell(&Tell::Started { id }, master.as_ref()),
            Err(Failure { step, errno }) => channel.tell(
                &Tell::Failed {
                    id,
                    step: step.to_owned(),
                    errno,
                },
                None,
            ),
        };
        // A supervisor that cannot be told is gone; the next read of the channel ends us.
        drop(told);
    }

    fn launch(
        &mut self,
        execute: &Execute,
        channel: &mut Channel,
    ) -> Result<Option<OwnedFd>, Failure> {
        // First of all, so that a command that fails leaves no descriptors to the next one.
        let (stdio, master) = match execute.terminal {
            Some((rows, columns)) => {
                let (slaves, master) = sys::open_terminal(rows, columns)
                    .map_err(|error| failure("open a terminal", &error))?;
                (slaves, Some(master))
            }
            None => {
                let missing = || Failure {
                    step: "take descriptors",
                    errno: libc::EBADF,
                };
                (channel.take_three().ok_or_else(missing)?, None)
            }
        };
        let arguments = strings(&execute.arguments)?;
        let environment = strings(&execute.environment)?;
        let directory = string(&execute.directory)?;
        let program = programs(&arguments, &environment);
        let started = sys::start(&Started {
            programs: &program,
            arguments: &arguments,
            environment: &environment,
            directory: &directory,
            stdio: &stdio,
            terminal: master.is_some(),
        });
        let (process, step_errno) = started.map_err(|error| failure("fork", &error))?;
        if let Some((step, errno)) = step_errno {
            return Err(Failure { step, errno });
        }
        self.running.insert(process, execute.id);
        Ok(master)
    }

    /// Sends a signal to the process group of a command.
    pub(crate) fn signal(&self, id: u32, signal: i32) {
        for (process, _) in self.running.iter().filter(|(_, command)| **command == id) {
            sys::signal_group(*process, signal);
        }
    }

    /// Reaps every dead child, ours or adopted, and tells of the commands among them.
    pub(crate) fn reap(&mut self, children: &OwnedFd, channel: &mut Channel) -> io::Result<()> {
        sys::drain(children);
        while let Some((process, status)) = sys::reap_one() {
            let Some(id) = self.running.remove(&process) else {
                continue;
            };
            let end = if libc::WIFSIGNALED(status) {
                End::Signal(libc::WTERMSIG(status))
            } else {
                End::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
            };
            channel.tell(&Tell::Exited { id, end }, None)?;
        }
        Ok(())
    }
}

fn failure(step: &'static str, error: &io::Error) -> Failure {
    Failure {
        step,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn string(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_nul| Failure {
        step: "read the command",
        errno: libc::EINVAL,
    })
}

fn strings(all: &[Vec<u8>]) -> Result<Vec<CString>, Failure> {
    all.iter().map(|bytes| string(bytes)).collect()
}

/// The paths to try for a program, as `execvp` does: as written if it has a slash, else along
/// `PATH` of the command's own environment.
fn programs(arguments: &[CString], environment: &[CString]) -> Vec<CString> {
    let Some(program) = arguments.first() else {
        return Vec::new();
    };
    if program.as_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let path = environment
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    let folders = path
        .split(|byte| *byte == b':')
        .filter(|folder| !folder.is_empty());
    let joined = folders.map(|folder| [folder, b"/", program.as_bytes()].concat());
    joined.filter_map(|path| CString::new(path).ok()).collect()
}
