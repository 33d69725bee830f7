//! A gate, servers and clients, all on loopback.

pub(crate) mod client; // a client that says exactly what it is told
#[expect(dead_code, reason = "the unit tests of the crate use the rest of it")]
pub(crate) mod dns; // a name server that does as it is told
pub(crate) mod raw; // a server of HTTP/1 that takes nothing for granted
pub(crate) mod web; // a server in TLS, of HTTP/1 and HTTP/2
pub(crate) mod world; // a gate with a door
