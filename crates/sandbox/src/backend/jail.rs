//! The jail: namespaces of every kind, an own tree, no capabilities, a system-call filter,
//! Landlock and limits, on the host's kernel. For root and for ordinary users.

pub(crate) mod plan; // the set-up as data
mod tree; // which file systems, where
mod written; // files of the host that are written, and how far they may grow
mod landlock; // what may be done below which path
pub(crate) mod cgroup; // limits, by control groups
mod network; // what furnishes the network namespace
mod enclosed; // a jail that runs
mod refusal; // a failed step, in words a person can act on

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use belljar_base::RunId;
use belljar_base::bounds::SHOWN_PATHS_MAX;

use super::{Backend, Enclosed, StartError};
use crate::host::Host;
use crate::life::LimitHit;
use crate::network::Network;
use crate::network::pool::{Pool, Ready};
use crate::spec::Spec;
use crate::sys;
use crate::template::Template;
use cgroup::Group;
use network::Origin;
use plan::{Deed, Step, c};
use written::Written;

/// Jails on this host.
#[derive(Debug)]
pub struct Jail {
    host: Arc<Host>,
    networks: Option<Pool>,
}

impl Jail {
    /// Prepares to make jails.
    #[must_use]
    pub const fn new(host: Arc<Host>) -> Self {
        let networks = None;
        Self { host, networks }
    }

    /// Keeps so many gated networks ready, so that a start need not wait for one. For root; an
    /// ordinary user's sandboxes go on to make their own, because no process of theirs can enter a
    /// network before it is inside (decision 0009).
    ///
    /// # Errors
    /// When the kernel lets this process make none.
    pub fn with_networks(mut self, count: usize) -> io::Result<Self> {
        if self.host.shifts_ids() && count > 0 {
            self.networks = Some(Pool::start(count)?);
        }
        Ok(self)
    }

    fn ready_network(&self, network: Network) -> Option<Ready> {
        match network {
            Network::None => None,
            Network::Gated => self.networks.as_ref()?.take(),
        }
    }

    /// Removes what a dead supervisor left of a run: its control groups.
    ///
    /// # Errors
    /// When a group cannot be removed.
    pub fn reap(&self, run: RunId) -> io::Result<bool> {
        self.host.groups.reap(run)
    }
}

impl Backend for Jail {
    fn start_beside(
        &self,
        spec: &Spec,
        template: &Template,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Box<dyn Enclosed>, StartError> {
        let started = self.start_with(self.ready_network(spec.network), spec, template, meanwhile);
        if let Some(networks) = &self.networks {
            networks.refill();
        }
        started
    }
}

impl Jail {
    fn start_with(
        &self,
        ready: Option<Ready>,
        spec: &Spec,
        template: &Template,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Box<dyn Enclosed>, StartError> {
        let step = |step| move |source| StartError::Step { step, source };
        bounded(spec)?;
        let mut steps = Vec::with_capacity(160);
        let written = Written::of(spec)?;
        let origin = ready
            .as_ref()
            .map_or(Origin::Own(spec.network), |_| Origin::Ready);
        let trees = compose(spec, template, &self.host, &written, origin, &mut steps);
        let group = Group::make(&self.host.groups, spec.id, &spec.limits)
            .map_err(step("make the control groups"))?;
        let guest = template.guest().map_err(step("open the guest's program"))?;
        let (ours, theirs) = channel().map_err(step("open a channel to the guest"))?;
        let entrances = group.entrances().map_err(step("open the control groups"))?;
        let inheritance = sys::Inheritance {
            entrances: &entrances,
            steps: &steps,
            trees: trees.sources.len(),
            channel: &theirs,
            guest: &guest,
        };
        let birthplace = group.birthplace().map_err(step("open the control group"))?;
        let network = ready.as_ref().map(|ready| &ready.namespace);
        let born = sys::clone_into_jail(&inheritance, birthplace.as_ref(), network)
            .map_err(|source| refusal::of_clone(source, &self.host))?;
        drop(theirs);
        drop(entrances);
        let shift = shift_of(&self.host, spec.id);
        let mut jail = enclosed::Jailed::new(born, ours, group, shift, written);
        if let Err(error) = jail.complete(&self.host, &trees, &steps, meanwhile) {
            let mut hits = jail.end().unwrap_or_default();
            // Without control groups nobody counts: the guest finds no room for its own stack.
            let counted = self.host.groups.version().is_some();
            let little = spec.limits.memory_bytes < GUEST_BYTES_MIN;
            hits.extend((little && !counted).then_some(LimitHit::Memory));
            return Err(refusal::by_limits(error, &hits));
        }
        if let Some(ready) = ready {
            jail.open_doors(ready.sockets)?;
        }
        Ok(Box::new(jail))
    }
}

/// Address space below which the guest may not even start, where each process is held by itself.
const GUEST_BYTES_MIN: u64 = 32 << 20;

/// Refuses more paths than a plan has room for.
fn bounded(spec: &Spec) -> Result<(), StartError> {
    let named = spec.branches.iter().map(|branch| &branch.directory);
    let named = named.chain(&spec.reads);
    let named = named.chain(spec.shows.iter().map(|shown| &shown.source));
    let mut named = named.chain(spec.writes.iter().map(|writable| &writable.source));
    named.nth(SHOWN_PATHS_MAX).map_or(Ok(()), |path| {
        Err(StartError::Path {
            path: path.display().to_string(),
            reason: format!("at most {SHOWN_PATHS_MAX} paths can be shown"),
        })
    })
}

/// The whole plan of a jail, in kernel order.
fn compose(
    spec: &Spec,
    template: &Template,
    host: &Host,
    written: &Written,
    origin: Origin,
    steps: &mut Vec<Step>,
) -> tree::Trees {
    let (user, group) = if host.shifts_ids() {
        (0, 0)
    } else {
        (host.user, host.group)
    };
    steps.push(Step::new("user namespace", Deed::Identity { user, group }));
    steps.push(Step::new("cgroup namespace", Deed::CgroupNamespace));
    network::steps(origin, steps);
    steps.push(Step::new("mount namespace", Deed::Private));
    let trees = tree::build(spec, template, host, origin, steps);
    // The tree's last step is Landlock; what still needs capabilities comes before it.
    let landlock = steps.pop();
    steps.push(Step::new(
        "uts namespace",
        Deed::HostName { name: c("belljar") },
    ));
    let limits = &spec.limits;
    for (resource, value) in [
        (libc::RLIMIT_NOFILE, limits.open_files),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
    ] {
        steps.push(Step::new("limits", Deed::Limit { resource, value }));
    }
    if host.groups.version().is_none() {
        for (resource, value) in [
            (libc::RLIMIT_NPROC, limits.pids),
            (libc::RLIMIT_AS, limits.memory_bytes),
        ] {
            steps.push(Step::new("limits", Deed::Limit { resource, value }));
        }
    }
    // Without control groups nothing counts what a process keeps in files in memory, so that each
    // is bounded alone; a little above the scratch layer's size, which answers ENOSPC first.
    let alone = host.groups.version().is_none();
    let alone = alone.then(|| limits.disk_bytes.saturating_add(written::SLACK_BYTES));
    if let Some(value) = written.bytes_max().or(alone) {
        let resource = libc::RLIMIT_FSIZE;
        steps.push(Step::new("disk limit", Deed::Limit { resource, value }));
    }
    steps.push(Step::new("session", Deed::Session));
    steps.push(Step::new("capabilities", Deed::DropCapabilities));
    steps.push(Step::new("no-new-privileges", Deed::NoNewPrivileges));
    steps.extend(landlock);
    let in_place = written.bytes_max().map(|_| true);
    for in_place in in_place.into_iter().chain([false]) {
        steps.push(Step::new("seccomp", Deed::Filter { in_place }));
    }
    trees
}

/// The first of the 65,536 host ids that a run's ids are shifted to. Different runs get different
/// ranges as far as the numbers reach, so that not even a leak between two could be used.
fn shift_of(host: &Host, run: RunId) -> Option<u32> {
    const FIRST: u32 = 0x7000_0000;
    const RANGES: u32 = 0x6fff;
    host.shifts_ids().then(|| {
        let text = run.to_string();
        let sum = text.bytes().fold(0_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        FIRST + (sum % RANGES) * 0x1_0000
    })
}

fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?)
}
