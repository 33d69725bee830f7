//! Gated network namespaces that are kept ready: a sandbox starts without waiting for one.
//!
//! A thread makes each in its own place and goes back. What it makes belongs to the supervisor's
//! own user namespace, so that whoever is root inside a sandbox is nobody to it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::parts::{Part, parts, settings};
use crate::sys;

/// How long the thread waits after the kernel refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Some namespaces, and the thread that makes them.
#[derive(Debug)]
pub(crate) struct Pool {
    shelf: Arc<Shelf>,
    thread: Option<JoinHandle<()>>,
}

/// A namespace with its sockets.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) namespace: OwnedFd,
    pub(crate) sockets: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Shelf {
    wanted: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Ready>,
    over: bool,
}

impl Pool {
    /// Makes one at once, so that a refusal is heard, and the others from then on.
    pub(crate) fn start(wanted: usize) -> io::Result<Self> {
        let shelf = Arc::new(Shelf {
            wanted,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (told, heard) = std::sync::mpsc::channel();
        let keeper = Arc::clone(&shelf);
        let thread = Builder::new().name("networks".to_owned()).spawn(move || {
            let home = sys::network_here();
            let first = home.as_ref().map_err(again).and_then(make);
            // Nobody who hears means that the start was given up.
            if told.send(first.as_ref().map(drop).map_err(again)).is_err() {
                return;
            }
            if let (Ok(home), Ok(first)) = (home, first) {
                keeper.put(first);
                keeper.fill(&home);
            }
        })?;
        heard.recv().map_err(io::Error::other)??;
        let thread = Some(thread);
        Ok(Self { shelf, thread })
    }

    /// One of them, if one is ready. Another is made in its place from `refill` on.
    pub(crate) fn take(&self) -> Option<Ready> {
        self.shelf.state().ready.pop()
    }

    /// Makes what is missing. Not while a sandbox starts: both would wait for each other.
    pub(crate) fn refill(&self) {
        self.shelf.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shelf.state().over = true;
        self.shelf.changed.notify_one();
        if let Some(Err(_panic)) = self.thread.take().map(JoinHandle::join) {}
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, ready: Ready) {
        self.state().ready.push(ready);
    }

    /// Makes what is missing until the pool is over.
    fn fill(&self, home: &OwnedFd) {
        loop {
            let full = |state: &mut State| !state.over && state.ready.len() >= self.wanted;
            let state = self.changed.wait_while(self.state(), full);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            if state.over {
                return;
            }
            drop(state);
            match make(home) {
                Ok(ready) => self.put(ready),
                // Sandboxes make their own meanwhile.
                Err(_refused) => {
                    let over = |state: &mut State| !state.over;
                    let waited = self.changed.wait_timeout_while(self.state(), PAUSE, over);
                    drop(waited);
                }
            }
        }
    }
}

/// Makes a namespace. This thread is in it meanwhile, and at home when it is done; a thread that
/// cannot go home is of no more use.
fn make(home: &OwnedFd) -> io::Result<Ready> {
    let namespace = sys::new_network()?;
    let all: Vec<Part> = parts().into_iter().chain(settings("")).collect();
    let sockets = sys::furnish_all(&all);
    sys::enter_network(home)?;
    let sockets = sockets?;
    Ok(Ready { namespace, sockets })
}

fn again(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::fs::fstat;

    use super::super::Doors;
    use super::*;

    #[test]
    fn what_is_taken_is_made_anew_elsewhere() {
        let here = || fstat(sys::network_here().unwrap()).unwrap().st_ino;
        let home = here();
        let pool = match Pool::start(2) {
            Ok(pool) => pool,
            Err(refused) => {
                assert_ne!(rustix::process::geteuid().as_raw(), 0, "{refused}");
                println!("an ordinary user keeps no networks ready: {refused}");
                return;
            }
        };
        let begin = Instant::now();
        let mut seen = vec![home];
        while seen.len() < 6 {
            assert!(begin.elapsed() < Duration::from_secs(20));
            pool.refill();
            let Some(ready) = pool.take() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let number = fstat(&ready.namespace).unwrap().st_ino;
            assert!(!seen.contains(&number));
            seen.push(number);
            let doors = Doors::of(ready.sockets).unwrap();
            let within = sys::namespace_of(&doors.proxy[0]).unwrap();
            assert_eq!(fstat(&within).unwrap().st_ino, number);
            assert_eq!(doors.counters.read().unwrap(), Default::default());
        }
        drop(pool);
        assert_eq!(here(), home);
    }

    #[test]
    fn a_kernel_without_ipv6_has_the_other_doors() {
        let made = std::thread::spawn(|| {
            let _namespace = sys::new_network()?;
            for of in ["all", "default", "lo"] {
                let path = format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6");
                std::fs::write(path, "1")?;
            }
            Doors::of(sys::furnish_all(&parts())?)
        });
        match made.join().unwrap() {
            Ok(doors) => {
                assert_eq!((doors.transparent.len(), doors.dns_udp.len()), (1, 2));
                assert_eq!(doors.counters.read().unwrap(), Default::default());
            }
            Err(refused) => {
                assert_ne!(rustix::process::geteuid().as_raw(), 0, "{refused}");
                println!("an ordinary user's thread has no network of its own: {refused}");
            }
        }
    }
}
