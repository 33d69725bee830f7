//! What a sandbox sent that went nowhere.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::netlink::{Answer, DUMP, Messages, answer, find, number, text};
use super::rules::{COUNTERS, GET_OBJECT, NEW_OBJECT, OBJECT_COUNTER, TABLE, body};

/// Counts of packets that went nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Datagrams that were no question for a name.
    pub udp: u64,
    /// ICMP of either version.
    pub icmp: u64,
    /// Everything else.
    pub other: u64,
    /// New connections above the rate at which they are led to the gate; programs try again.
    pub rate: u64,
}

/// Reads the counters of one sandbox, also after its end.
#[derive(Debug)]
pub struct Counters {
    /// Opened in the sandbox's network namespace, by a process with power over it. The kernel also
    /// asks for the power of whoever sends: a supervisor has it, a run never.
    socket: Mutex<OwnedFd>,
}

impl Counters {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        let socket = Mutex::new(socket);
        Self { socket }
    }

    /// What went nowhere until now.
    ///
    /// # Errors
    /// When the kernel does not answer or not with these counters.
    pub fn read(&self) -> io::Result<Dropped> {
        let wanted = [text(1, TABLE), number(3, OBJECT_COUNTER)];
        let mut ask = Messages::default();
        ask.ask(GET_OBJECT, DUMP, &body(1, &wanted));
        let mut found = [None; COUNTERS.len()];
        let mut buffer = vec![0; 16 << 10];
        let flags = RecvFlags::DONTWAIT;
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left of an answer that was given up is not taken for the next one.
        while recv(&*socket, &mut *buffer, flags).is_ok() {}
        send(&*socket, &ask.bytes, SendFlags::empty())?;
        loop {
            // The kernel answers while it is asked: what is not there yet will not come.
            let (count, _) = recv(&*socket, &mut *buffer, flags)?;
            if !take(buffer.get(..count).unwrap_or_default(), &mut found)? {
                break;
            }
        }
        let [Some(udp), Some(icmp), Some(other), Some(rate)] = found else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(Dropped {
            udp,
            icmp,
            other,
            rate,
        })
    }
}

/// Takes the counters of one answer; whether more will come.
fn take(mut bytes: &[u8], found: &mut [Option<u64>; COUNTERS.len()]) -> io::Result<bool> {
    while let Some((told, rest)) = answer(bytes) {
        bytes = rest;
        match told {
            Answer::Done => return Ok(false),
            Answer::Told(errno) => return Err(io::Error::from_raw_os_error(errno)),
            Answer::Message(NEW_OBJECT, body) => {
                let attributes = body.get(4..).unwrap_or_default();
                let packets = find(attributes, 4).and_then(|data| find(data, 2));
                let packets = packets.and_then(|bytes| bytes.first_chunk::<8>());
                let name = find(attributes, 2).and_then(|name| name.strip_suffix(b"\0"));
                for (place, wanted) in found.iter_mut().zip(COUNTERS) {
                    if name == Some(wanted.as_bytes()) {
                        *place = packets.map(|bytes| u64::from_be_bytes(*bytes));
                    }
                }
            }
            Answer::Message(..) => {}
        }
    }
    Ok(true)
}
