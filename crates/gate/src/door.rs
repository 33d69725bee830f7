//! The door of one run: the sockets in its sandbox's network, and everybody who comes in by them.
//! Whose sandbox it is, is known by the socket; nobody is asked.

mod hall; // one connection, from the door to the way out
mod tls; // TLS whose greeting has been read
mod farewell; // last words
mod tasks; // counted, and ended together

use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use belljar_base::bounds::{EGRESS_CLOSE_MILLIS_MAX, EGRESS_OPEN_MAX};
use belljar_base::{AgentName, Clock, RunId};
use belljar_ledger::Ledger;
use belljar_policy::egress::Rules;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::authority::Authority;
use crate::dns::{Dns, Names};
use crate::gate::{Gate, GateError};
use crate::http::Context;
use crate::judge::{Attempt, Counts, Judge, Refused};
use crate::publish::{self, Dialer};
use crate::scribe::Scribe;
use crate::secret::{Injector, Secret};
use hall::{Hall, Way};
use tasks::Tasks;

/// Sockets that were made in a sandbox's network and handed out of it.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Listeners that every TCP connection is redirected to.
    pub transparent: Vec<OwnedFd>,
    /// Listeners for programs that ask a proxy.
    pub proxy: Vec<OwnedFd>,
    /// Sockets for queries of names over UDP.
    pub dns_udp: Vec<OwnedFd>,
    /// Listeners for queries of names over TCP.
    pub dns_tcp: Vec<OwnedFd>,
}

/// What a run's door is opened with.
pub struct Opening {
    /// The run.
    pub run: RunId,
    /// Who acts.
    pub agent: AgentName,
    /// The sandbox's sockets.
    pub sockets: Sockets,
    /// What may pass.
    pub rules: Rules,
    /// What is put into requests on the last hop.
    pub secrets: Vec<Secret>,
    /// The certificate authority that the sandbox trusts.
    pub authority: Authority,
    /// Where everything is written.
    pub ledger: Arc<Ledger>,
    /// Tells the time.
    pub clock: Arc<dyn Clock + Send + Sync>,
}

/// The way out of one run. Dropping it closes everything.
pub struct Door {
    hall: Arc<Hall>,
    tasks: Tasks,
    places: Arc<Semaphore>,
    _dns: Dns,
}

impl Gate {
    /// Opens the way out of a run.
    ///
    /// # Errors
    /// When a socket cannot be used, or the thread that writes cannot be started.
    pub fn open(&self, opening: Opening) -> Result<Door, GateError> {
        let Opening {
            run,
            agent,
            sockets,
            rules,
            secrets,
            authority,
            ledger,
            clock,
        } = opening;
        let scribe = Scribe::start(run, agent, ledger, clock).map_err(GateError::Threads)?;
        let judge = Arc::new(Judge::new(rules, scribe, Arc::clone(&self.resolver)));
        let injector = Injector::new(secrets).map_err(GateError::Secrets)?;
        let names = Arc::<Names>::default();
        let context = Context::new(
            Arc::clone(&judge),
            Arc::new(injector),
            Arc::clone(&self.trust),
            Arc::new(authority),
        );
        let dns = Dns::start(
            &self.handle,
            sockets.dns_udp,
            sockets.dns_tcp,
            Arc::clone(&judge),
            Arc::clone(&names),
        );
        let door = Door {
            hall: Arc::new(Hall {
                judge,
                names,
                context: Arc::new(context),
            }),
            tasks: Tasks::new(self.handle.clone()),
            places: Arc::new(Semaphore::new(EGRESS_OPEN_MAX)),
            _dns: dns.map_err(GateError::Sockets)?,
        };
        let _entered = self.handle.enter();
        let transparent = sockets.transparent.into_iter();
        let proxy = sockets.proxy.into_iter();
        let all = transparent
            .map(|socket| (socket, Way::Transparent))
            .chain(proxy.map(|socket| (socket, Way::Proxy)));
        for (socket, way) in all {
            let listener = listener(socket.into()).map_err(GateError::Sockets)?;
            door.listen(listener, way);
        }
        Ok(door)
    }
}

impl Door {
    /// The rules that hold now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.hall.judge.rules()
    }

    /// From the next request on these rules hold; tunnels that lose their right are cut.
    pub fn replace(&self, rules: Rules) {
        self.hall.judge.replace(rules);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.hall.judge.counts()
    }

    /// Leads connections of a listener of the host to a port inside the sandbox.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn publish(
        &self,
        port: u16,
        listener: StdListener,
        dialer: Dialer,
    ) -> Result<(), GateError> {
        let _entered = self.tasks.enter();
        let listener = self::listener(listener).map_err(GateError::Sockets)?;
        let (judge, places) = (Arc::clone(&self.hall.judge), Arc::clone(&self.places));
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            loop {
                let (stream, _peer) = next(&listener).await;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let (judge, dialer) = (Arc::clone(&judge), Arc::clone(&dialer));
                tasks.spawn(async move {
                    let _place = place;
                    if let Some(tunnel) = publish::join(&judge, port, stream, &dialer).await {
                        tunnel.run().await;
                    }
                });
            }
        });
        Ok(())
    }

    /// Closes everything, waits until it is over and written, and says what happened.
    #[must_use]
    pub fn close(self) -> Counts {
        self.tasks.close();
        let limit = Duration::from_millis(EGRESS_CLOSE_MILLIS_MAX);
        self.tasks.wait(limit);
        self.hall.judge.finish();
        self.hall.judge.counts()
    }

    fn listen(&self, listener: TcpListener, way: Way) {
        let (hall, tasks) = (Arc::clone(&self.hall), self.tasks.clone());
        let places = Arc::clone(&self.places);
        self.tasks.spawn(async move {
            loop {
                let (stream, _peer) = next(&listener).await;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    drop(stream);
                    crowded(&hall.judge).await;
                    continue;
                };
                let hall = Arc::clone(&hall);
                tasks.spawn(async move {
                    let _place = place;
                    // What judging needs is in a box, and gone while bytes pass.
                    let led = Box::pin(hall.enter(stream, way)).await;
                    drop(hall);
                    if let Some(tunnel) = led {
                        tunnel.run().await;
                    }
                });
            }
        });
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

fn listener(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The next connection. Where there is none to be had for want of files or memory, a little later.
async fn next(listener: &TcpListener) -> (tokio::net::TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(connection) => return connection,
            Err(_for_now) => sleep(PAUSE).await,
        }
    }
}

const PAUSE: Duration = Duration::from_millis(10);

async fn crowded(judge: &Judge) {
    let attempt = Attempt::to("tcp", "anybody".to_owned(), 0);
    let refused = Refused::quota("open connections");
    judge.refuse(attempt, refused).await;
}
