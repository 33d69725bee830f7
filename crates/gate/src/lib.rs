//! The one guarded way out of a sandbox. Judges what wants to leave, writes it, then passes it;
//! what it cannot judge it closes.

pub mod secret; // what a sandbox never holds: values, and where they belong
mod gate; // one per process: threads, resolver, trust
mod judge; // the one place that decides and writes
mod scribe; // the thread that makes records durable
mod resolve; // names to addresses, asked once
pub mod dns; // the name server of a sandbox
pub mod hello; // the first words of TLS
pub mod proxy; // what programs that know of a proxy say
mod sniff; // what a client speaks, by its first bytes
mod tunnel; // bytes that pass unread, without a buffer while idle
mod http; // requests that can be read
mod door; // one per run: whoever knocks is heard, judged, and led on
mod publish; // the way in, to published ports
mod dial; // connects to checked addresses only
mod authority; // the run's own certificates
mod trust; // whom the gate believes on the far side
mod bundle; // whom programs inside believe

pub use authority::Authority;
pub use bundle::{java_store, pem_bundle};
pub use door::{Door, Opening, Sockets};
pub use gate::{Gate, GateError, Settings};
pub use judge::Counts;
pub use publish::Dialer;

#[cfg(test)]
#[path = "../tests/it/support/dns.rs"]
mod name_server; // answers as a test says
