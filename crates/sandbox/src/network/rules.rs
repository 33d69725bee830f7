//! The rules and routes of a gated network namespace, as the messages that make them. No program
//! outside of ours is needed for it.
//!
//! Every address leads to the loopback device, which is the only one: nothing can leave, whatever
//! the rules say. The rules lead what was meant to leave to the gate's doors, and count the rest.

use std::net::Ipv6Addr;

use super::netlink::{APPEND, CREATE, Messages, attribute, nested, number, text};
use super::{ADDRESS, DNS_PORT, TRANSPARENT_PORT};

/// The table's name.
pub(super) const TABLE: &str = "belljar";
/// The counters' names: of datagrams, of ICMP, of all else that went nowhere.
pub(super) const COUNTERS: [&str; 3] = ["udp", "icmp", "other"];

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
pub(super) const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
pub(super) const GET_OBJECT: u16 = SUBSYSTEM << 8 | 19;

/// `NFPROTO_INET`: IPv4 and IPv6 alike.
const INET: u8 = 1;
/// `NF_INET_LOCAL_OUT`.
const HOOK_OUTPUT: u32 = 3;
const PRIORITY_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// `NFT_OBJECT_COUNTER`.
pub(super) const OBJECT_COUNTER: u32 = 1;
/// The one register that the rules use.
const REGISTER: u32 = 1;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `ESTABLISHED | RELATED` of a connection's state.
const KNOWN: u32 = 2 | 4;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const IP4: u8 = 2;
const IP6: u8 = 10;

/// The table with its counters, the chain that leads to the doors and the chain that drops.
pub(crate) fn table() -> Messages {
    let mut batch = Messages::default();
    batch.mark(BATCH_BEGIN, &[0, 0, 0, 10]);
    let mut add = |kind: u16, flags: u16, attributes: &[Vec<u8>]| {
        batch.ask(kind, flags, &body(INET, attributes));
    };
    add(NEW_TABLE, CREATE, &[text(1, TABLE)]);
    for name in COUNTERS {
        let counter = [
            text(1, TABLE),
            text(2, name),
            number(3, OBJECT_COUNTER),
            nested(4, &[]),
        ];
        add(NEW_OBJECT, CREATE, &counter);
    }
    add(
        NEW_CHAIN,
        CREATE,
        &chain("doors", "nat", PRIORITY_NAT, ACCEPT),
    );
    add(
        NEW_CHAIN,
        CREATE,
        &chain("nowhere", "filter", PRIORITY_FILTER, DROP),
    );
    for (chain, expressions) in rules() {
        let rule = [text(1, TABLE), text(2, chain), nested(4, &expressions)];
        add(NEW_RULE, APPEND, &rule);
    }
    batch.mark(BATCH_END, &[0, 0, 0, 10]);
    batch
}

/// `nfgenmsg`, then attributes.
pub(super) fn body(family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    [&[family, 0, 0, 0][..], &attributes.concat()].concat()
}

fn chain(name: &str, kind: &str, priority: i32, policy: u32) -> Vec<Vec<u8>> {
    let hook = [
        number(1, HOOK_OUTPUT),
        attribute(2, &priority.to_be_bytes()),
    ];
    vec![
        text(1, TABLE),
        text(3, name),
        nested(4, &hook),
        number(5, policy),
        text(7, kind),
    ]
}

/// Every rule in order, with its chain.
fn rules() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut rules = Vec::new();
    let mut add = |chain, parts: &[Vec<Vec<u8>>]| rules.push((chain, parts.concat()));
    // Questions for names go to the gate, whichever server they were meant for.
    for kind in [UDP, TCP] {
        let port = [
            load(TRANSPORT_HEADER, 2, 2),
            equals(&DNS_PORT.to_be_bytes()),
        ];
        add("doors", &[protocol(kind), port.into(), redirect(DNS_PORT)]);
    }
    // The run's own servers stay its own; what else opens a connection is led to the door.
    for place in own() {
        add("doors", &[place, verdict(ACCEPT)]);
    }
    add("doors", &[protocol(TCP), redirect(TRANSPARENT_PORT)]);

    // A connection that was led to a door has its answers, wherever it said that it comes from.
    add("nowhere", &[known(), verdict(ACCEPT)]);
    for place in own() {
        add("nowhere", &[place, verdict(ACCEPT)]);
    }
    let [udp, icmp, other] = COUNTERS;
    for (kind, name) in [(UDP, udp), (ICMP, icmp), (ICMP6, icmp)] {
        add("nowhere", &[protocol(kind), count(name), verdict(DROP)]);
    }
    add("nowhere", &[count(other), verdict(DROP)]);
    rules
}

/// The places that are the sandbox itself.
fn own() -> [Vec<Vec<u8>>; 3] {
    let family = |family| [meta(META_FAMILY), equals(&[family])];
    let at = |of: u8, offset, address: &[u8]| {
        let length = u32::try_from(address.len()).unwrap_or(0);
        let place = [load(NETWORK_HEADER, offset, length), equals(address)];
        [family(of), place].concat()
    };
    [
        at(IP4, 16, &[127]),
        at(IP4, 16, &ADDRESS.octets()),
        at(IP6, 24, &Ipv6Addr::LOCALHOST.octets()),
    ]
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)])
}

fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, key)])
}

fn load(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let data = [
        number(1, REGISTER),
        number(2, base),
        number(3, offset),
        number(4, length),
    ];
    expression("payload", &data)
}

fn equals(value: &[u8]) -> Vec<u8> {
    let data = [
        number(1, REGISTER),
        number(2, 0),
        nested(3, &[attribute(1, value)]),
    ];
    expression("cmp", &data)
}

fn protocol(number: u8) -> Vec<Vec<u8>> {
    vec![meta(META_PROTOCOL), equals(&[number])]
}

/// Packets of a connection that is known already.
fn known() -> Vec<Vec<u8>> {
    let zero = nested(5, &[attribute(1, &[0; 4])]);
    let mask = nested(4, &[attribute(1, &KNOWN.to_ne_bytes())]);
    let state = expression("ct", &[number(2, 0), number(1, REGISTER)]);
    let bits = [
        number(1, REGISTER),
        number(2, REGISTER),
        number(3, 4),
        mask,
        zero,
    ];
    let differs = [
        number(1, REGISTER),
        number(2, 1),
        nested(3, &[attribute(1, &[0; 4])]),
    ];
    vec![
        state,
        expression("bitwise", &bits),
        expression("cmp", &differs),
    ]
}

fn redirect(port: u16) -> Vec<Vec<u8>> {
    let value = nested(2, &[attribute(1, &port.to_be_bytes())]);
    vec![
        expression("immediate", &[number(1, REGISTER), value]),
        expression("redir", &[number(1, REGISTER)]),
    ]
}

fn verdict(code: u32) -> Vec<Vec<u8>> {
    let value = nested(2, &[nested(2, &[number(1, code)])]);
    vec![expression("immediate", &[number(1, 0), value])]
}

fn count(name: &str) -> Vec<Vec<u8>> {
    let data = [number(1, OBJECT_COUNTER), text(2, name)];
    vec![expression("objref", &data)]
}

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// The loopback device has this number in every network namespace.
const LOOPBACK: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The loopback device up, with an address that is not loopback (programs ask for no IPv4 address
/// of a name where the machine has none itself), and every IPv4 address led to it.
pub(crate) fn routes() -> Messages {
    let mut messages = Messages::default();
    let up = 1_u32.to_ne_bytes();
    let link = [&[0; 4][..], &LOOPBACK.to_ne_bytes(), &up, &up].concat();
    messages.ask(NEW_LINK, 0, &link);
    let address = ADDRESS.octets();
    let body = [
        &[AF_INET, 32, 0, 0][..],
        &LOOPBACK.to_ne_bytes(),
        &attribute(2, &address),
        &attribute(1, &address),
    ];
    messages.ask(NEW_ADDRESS, CREATE, &body.concat());
    everything(AF_INET, &attribute(7, &address), &mut messages);
    messages
}

/// Every IPv6 address led to the loopback device.
pub(crate) fn routes6() -> Messages {
    let mut messages = Messages::default();
    everything(AF_INET6, &[], &mut messages);
    messages
}

fn everything(family: u8, source: &[u8], messages: &mut Messages) {
    // Table `local`, made by an administrator, scope of this host, type local.
    let header = [family, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0];
    let device = attribute(4, &LOOPBACK.to_ne_bytes());
    messages.ask(NEW_ROUTE, CREATE, &[&header[..], &device, source].concat());
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::netlink::{Answer, answer};
    use super::*;

    #[test]
    fn the_batch_is_whole() {
        let batch = table();
        let mut rest = &batch.bytes[..];
        let mut kinds = Vec::new();
        while let Some((Answer::Message(kind, _), left)) = answer(rest) {
            kinds.push(kind);
            rest = left;
        }
        assert!(rest.is_empty());
        assert_eq!(kinds.first(), Some(&BATCH_BEGIN));
        assert_eq!(kinds.last(), Some(&BATCH_END));
        assert_eq!(kinds.len(), batch.answers as usize + 2);
    }

    #[test]
    fn the_address_is_nobody_elses() {
        // RFC 7335: for a host where IPv4 leads nowhere by itself. The gate's own synthetic
        // addresses are others.
        assert_eq!(ADDRESS, Ipv4Addr::new(192, 0, 0, 2));
    }
}
