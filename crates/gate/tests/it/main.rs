//! The gate against real servers of the loopback, by way of sockets that stand for a sandbox's.

mod stage; // a gate, its ledger, and servers that pretend to be far away
mod proxies; // what programs that know of a proxy ask for
mod tunnels; // what passes, and for how long
