//! A jail that runs: its birth from the parent's side, its channel, its end.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use belljar_base::bounds::{COMMAND_BYTES_MAX, READY_MILLIS_MAX};
use belljar_base::frame::{self, Ask, Execute, Tell, VERSION};

use super::cgroup::Group;
use super::plan::{Step, c};
use super::refusal;
use super::tree::{Trees, branch_layer};
use super::written::Written;
use crate::backend::{Enclosed, Left, StartError, Stdio};
use crate::host::Host;
use crate::life::LimitHit;
use crate::network::Doors;
use crate::spec::Command;
use crate::sys::{self, Born};
use crate::wire;

/// A jail, from its first process's birth to the kernel's word that nothing of it runs.
pub(super) struct Jailed {
    born: Born,
    channel: OwnedFd,
    group: Group,
    shift: Option<u32>,
    scratch: Option<OwnedFd>,
    doors: Option<Doors>,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    next_command: u32,
    hits: Option<Vec<LimitHit>>,
    written: Written,
}

/// How many ids of the host a shifted sandbox has.
const SHIFTED_IDS: u32 = 0x1_0000;

impl Jailed {
    pub(super) fn new(
        born: Born,
        channel: OwnedFd,
        group: Group,
        shift: Option<u32>,
        written: Written,
    ) -> Self {
        Self {
            born,
            channel,
            group,
            shift,
            scratch: None,
            doors: None,
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
            next_command: 0,
            hits: None,
            written,
        }
    }

    /// Gives the child its identity and its trees; does something else while the child performs
    /// its plan; waits until the guest has proved that the sandbox is closed.
    pub(super) fn complete(
        &mut self,
        host: &Host,
        trees: &Trees,
        steps: &[Step],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), StartError> {
        let step = |step| move |source| StartError::Step { step, source };
        self.map_ids(host)
            .map_err(|source| refusal::of_maps(source, host))?;
        let prepared = self.trees(trees)?;
        let borrowed: Vec<BorrowedFd<'_>> = prepared.iter().map(AsFd::as_fd).collect();
        wire::send_with(&self.channel, &[1], &borrowed).map_err(step("send the trees"))?;
        drop(prepared);
        meanwhile();
        self.await_done(steps)?;
        self.ready(steps)
    }

    /// Waits for the guest's word that the sandbox is closed.
    fn ready(&mut self, steps: &[Step]) -> Result<(), StartError> {
        let step = |source| StartError::Step {
            step: "hear from the guest",
            source,
        };
        let told = self.next(Duration::from_millis(READY_MILLIS_MAX));
        // A guest that could not be executed says so in the words of a plan.
        if word(self.bytes.get(..4)) == sys::EXECUTION {
            let errno = word(self.bytes.get(4..8)).cast_signed();
            let source = io::Error::from_raw_os_error(errno);
            return Err(refusal::of_step(sys::EXECUTION, source, steps));
        }
        match told {
            Ok(Some(Tell::Ready {
                version: VERSION,
                open,
            })) if open.is_empty() => Ok(()),
            Ok(Some(Tell::Ready { open, .. })) => Err(StartError::Open { open }),
            Ok(_) => Err(step(io::ErrorKind::TimedOut.into())),
            Err(source) => Err(step(source)),
        }
    }

    fn map_ids(&self, host: &Host) -> io::Result<()> {
        let process = format!("/proc/{}", self.born.pid);
        let (users, groups) = match self.shift {
            Some(first) => {
                let map = format!("0 {first} {SHIFTED_IDS}");
                (map.clone(), map)
            }
            None => {
                // An ordinary user may map itself alone, and only without the power over groups.
                fs::write(format!("{process}/setgroups"), "deny")?;
                (
                    format!("{0} {0} 1", host.user),
                    format!("{0} {0} 1", host.group),
                )
            }
        };
        fs::write(format!("{process}/gid_map"), groups)?;
        fs::write(format!("{process}/uid_map"), users)
    }

    /// The trees that show shifted ids, for the child to attach.
    fn trees(&self, trees: &Trees) -> Result<Vec<OwnedFd>, StartError> {
        if trees.sources.is_empty() {
            return Ok(Vec::new());
        }
        let namespace = format!("/proc/{}/ns/user", self.born.pid);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let namespace =
            rustix::fs::open(namespace, flags, rustix::fs::Mode::empty()).map_err(|source| {
                StartError::Step {
                    step: "open the user namespace",
                    source: source.into(),
                }
            })?;
        let shifted = trees.sources.iter().map(|tree| {
            let path = c(tree.path.as_os_str().as_bytes());
            sys::shifted_tree(&path, tree.recursive, tree.read_only, &namespace)
                .map_err(|source| refusal::of_tree(&tree.path, source))
        });
        shifted.collect()
    }

    /// Waits for the child's word that its plan is done, and takes its scratch layer.
    fn await_done(&mut self, steps: &[Step]) -> Result<(), StartError> {
        let deadline = Instant::now() + Duration::from_millis(READY_MILLIS_MAX);
        while self.bytes.len() < 8 {
            let left = deadline.saturating_duration_since(Instant::now());
            let fed = self.feed(left).map_err(|source| StartError::Step {
                step: "set the sandbox up",
                source,
            })?;
            if !fed {
                let source = io::ErrorKind::TimedOut.into();
                return Err(StartError::Step {
                    step: "set the sandbox up",
                    source,
                });
            }
        }
        let (number, errno) = (word(self.bytes.get(..4)), word(self.bytes.get(4..8)));
        self.bytes.drain(..8);
        if number != sys::DONE {
            let source = io::Error::from_raw_os_error(errno.cast_signed());
            return Err(refusal::of_step(number, source, steps));
        }
        self.scratch = self.descriptors.pop_front();
        let doors: Vec<OwnedFd> = self.descriptors.drain(..).collect();
        if doors.is_empty() {
            return Ok(());
        }
        self.open_doors(doors)
    }

    /// Takes the sockets of a gated network.
    pub(super) fn open_doors(&mut self, sockets: Vec<OwnedFd>) -> Result<(), StartError> {
        let doors = Doors::of(sockets).map_err(|source| StartError::Step {
            step: "take the doors of the gate",
            source,
        })?;
        self.doors = Some(doors);
        Ok(())
    }

    /// Reads what has arrived; false when nothing did in time.
    fn feed(&mut self, patience: Duration) -> io::Result<bool> {
        if !wire::readable(&self.channel, patience)? {
            return Ok(false);
        }
        let (bytes, descriptors) = wire::receive(&self.channel)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend(bytes);
        self.descriptors.extend(descriptors);
        // Whoever sends more than is asked for would fill the supervisor's own table.
        if self.descriptors.len() > wire::RECEIVED_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(true)
    }

    fn ask(&self, ask: &Ask, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = frame::encode(ask).map_err(io::Error::other)?;
        wire::send_with(&self.channel, &frame, with)
    }
}

/// Refuses a command that is longer than any kernel takes.
fn bounded(execute: &Execute) -> io::Result<()> {
    let strings = execute.arguments.iter().chain(&execute.environment);
    let bytes: usize = strings.map(|string| string.len() + 1).sum();
    if bytes <= COMMAND_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "arguments and environment have {bytes} bytes, at most {COMMAND_BYTES_MAX} can be passed"
    );
    Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, text))
}

/// A number as the child sends it.
fn word(bytes: Option<&[u8]>) -> u32 {
    let four = bytes.and_then(|bytes| bytes.first_chunk::<4>());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

impl Enclosed for Jailed {
    fn execute(&mut self, command: &Command) -> io::Result<Stdio> {
        self.next_command += 1;
        let id = self.next_command;
        let bytes = |text: &std::ffi::OsStr| text.as_bytes().to_vec();
        let environment = command
            .environment
            .iter()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let execute = Execute {
            id,
            arguments: command
                .arguments
                .iter()
                .map(|argument| bytes(argument))
                .collect(),
            environment: environment.collect(),
            directory: bytes(command.directory.as_os_str()),
            terminal: command.terminal,
        };
        bounded(&execute)?;
        if command.terminal.is_some() {
            self.ask(&Ask::Execute(execute), &[])?;
            return Ok(Stdio {
                id,
                stdin: None,
                stdout: None,
                stderr: None,
            });
        }
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (input_theirs, input) = pipe()?;
        let (output, output_theirs) = pipe()?;
        let (error, error_theirs) = pipe()?;
        if let Some(first) = self.shift {
            // `/dev/stdout` opens the pipe anew: it belongs to who is root inside.
            let (user, group) = (
                rustix::fs::Uid::from_raw(first),
                rustix::fs::Gid::from_raw(first),
            );
            for theirs in [&input_theirs, &output_theirs, &error_theirs] {
                rustix::fs::fchown(theirs, Some(user), Some(group))?;
            }
        }
        let theirs = [
            input_theirs.as_fd(),
            output_theirs.as_fd(),
            error_theirs.as_fd(),
        ];
        self.ask(&Ask::Execute(execute), &theirs)?;
        Ok(Stdio {
            id,
            stdin: Some(input),
            stdout: Some(output),
            stderr: Some(error),
        })
    }

    fn signal(&mut self, id: u32, signal: i32) -> io::Result<()> {
        self.ask(&Ask::Signal { id, signal }, &[])
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    fn next(&mut self, patience: Duration) -> io::Result<Option<Tell>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(tell) = frame::take(&mut self.bytes).map_err(io::Error::other)? {
                return Ok(Some(tell));
            }
            if !self.feed(deadline.saturating_duration_since(Instant::now()))? {
                return Ok(None);
            }
        }
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn scratch(&self, branch: usize) -> io::Result<OwnedFd> {
        let scratch = self.scratch.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC;
        let path = format!("u/{}", branch_layer(branch));
        Ok(rustix::fs::openat(
            scratch,
            path,
            flags,
            rustix::fs::Mode::empty(),
        )?)
    }

    fn left(&self, writable: usize) -> io::Result<Left> {
        let scratch = self.scratch.as_ref().ok_or(io::ErrorKind::NotFound)?;
        self.written.left(scratch, writable)
    }

    fn doors(&mut self) -> Option<Doors> {
        self.doors.take()
    }

    fn id_shift(&self) -> Option<u32> {
        self.shift
    }

    fn end(&mut self) -> io::Result<Vec<LimitHit>> {
        if let Some(hits) = &self.hits {
            return Ok(hits.clone());
        }
        // The end of the first process is the end of its namespace: the kernel ends the rest.
        match sys::kill(&self.born.pidfd) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let options = rustix::process::WaitIdOptions::EXITED;
        let id = rustix::process::WaitId::PidFd(self.born.pidfd.as_fd());
        match rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), options)) {
            // A process that ignores its dead children has the kernel reap them.
            Ok(_) | Err(rustix::io::Errno::CHILD) => {}
            Err(error) => return Err(error.into()),
        }
        let mut hits = self.group.hits();
        if let Some(room) = self.scratch.as_ref().map(rustix::fs::fstatvfs) {
            let room = room?;
            let full = room.f_bfree == 0 || self.written.is_full();
            hits.extend(full.then_some(LimitHit::Disk));
            hits.extend((room.f_ffree == 0).then_some(LimitHit::Inodes));
        }
        self.hits = Some(hits.clone());
        self.group.remove()?;
        Ok(hits)
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        // What cannot be ended now is reaped by the next command, by the run's id.
        if self.end().is_err() {}
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Program;

    use super::super::cgroup::Groups;
    use super::*;
    use crate::spec::Limits;

    /// A jail whose guest is this test.
    fn lying(bytes: &[u8]) -> (io::Result<Option<Tell>>, Jailed) {
        lying_with(bytes, 0)
    }

    /// The same, with descriptors that nobody asked for.
    fn lying_with(bytes: &[u8], descriptors: usize) -> (io::Result<Option<Tell>>, Jailed) {
        let mut jail = told(bytes, descriptors);
        (jail.next(Duration::from_secs(5)), jail)
    }

    /// A jail whose guest has said this and is gone.
    fn told(bytes: &[u8], descriptors: usize) -> Jailed {
        #[expect(clippy::zombie_processes, reason = "the end of the jail waits for it")]
        let process = Program::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = process.id().cast_signed();
        let raw = rustix::process::Pid::from_raw(pid).unwrap();
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()).unwrap();
        let run = belljar_base::RunId::new(belljar_base::Timestamp::from_nanos(1), 1);
        let group = Group::make(&Groups::None, run, &Limits::defaults(1 << 30)).unwrap();
        let (ours, theirs) = super::super::channel().unwrap();
        let jail = Jailed::new(Born { pid, pidfd }, ours, group, None, Written::default());
        wire::send_with(&theirs, bytes, &[]).unwrap();
        for _each in 0..descriptors {
            wire::send_with(&theirs, &[0], &[theirs.as_fd()]).unwrap();
        }
        drop(theirs);
        jail
    }

    /// What a guest found open ends the sandbox, and so does one that speaks another version.
    #[test]
    fn a_guest_that_found_a_wall_open_is_believed() {
        let ready = |version, open: &[&str]| {
            let open = open.iter().map(|wall| (*wall).to_owned()).collect();
            let word = frame::encode(&Tell::Ready { version, open }).unwrap();
            let mut jail = told(&word, 0);
            let answer = jail.ready(&[]);
            jail.end().unwrap();
            answer
        };
        assert!(ready(VERSION, &[]).is_ok());
        let open = ready(VERSION, &["mounts"]).unwrap_err();
        assert!(
            matches!(&open, StartError::Open { open } if open == &["mounts"]),
            "{open}"
        );
        assert!(ready(VERSION + 1, &[]).is_err());
    }

    #[test]
    fn escape_lying_guest() {
        let huge = u32::MAX.to_le_bytes();
        let nonsense = [3, 0, 0, 0, 99, 99, 99];
        let half = [200, 0, 0, 0, 1];
        for bytes in [&huge[..], &nonsense[..], &half[..], b""] {
            let (told, mut jail) = lying(bytes);
            assert!(told.is_err(), "{bytes:?} gave {told:?}");
            jail.end().unwrap();
        }
        let (told, _jail) = lying_with(&[200, 0, 0, 0], 3 * wire::RECEIVED_MAX);
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let well = frame::encode(&Tell::Started { id: 7 }).unwrap();
        let (told, _jail) = lying(&well);
        assert_eq!(told.unwrap(), Some(Tell::Started { id: 7 }));
    }
}
