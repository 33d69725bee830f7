//! The gate against real servers of the loopback, by way of sockets that stand for a sandbox's.

#[cfg(test)]
mod support; // servers, clients and an open door
#[cfg(test)]
mod requests; // requests of HTTP through the proxy's socket
#[cfg(test)]
mod fronting; // a request for another host than its connection is for
#[cfg(test)]
mod malformed; // what can be read in two ways
#[cfg(test)]
mod limits; // quotas and bounds of time
#[cfg(test)]
mod secrets; // values on the last hop, masks on the way back
#[cfg(test)]
mod websockets; // connections that become something else
#[cfg(test)]
mod stage; // a gate, its ledger, and servers that pretend to be far away
#[cfg(test)]
mod proxies; // what programs that know of a proxy ask for
#[cfg(test)]
mod tunnels; // what passes, and for how long
#[cfg(test)]
mod names; // what is asked for, and where names lead
#[cfg(test)]
mod seeds; // what the fuzz targets begin with
