//! The rules and routes of a gated network namespace, as the messages that make them. No program
//! outside of ours is needed for it.
//!
//! Every address leads to the loopback device, which is the only one: nothing can leave, whatever
//! the rules say. The rules lead what was meant to leave to the gate's doors, and count the rest.
//! Decision 0009 says why it is done by address translation, and what bounds its table.

use std::net::{Ipv4Addr, Ipv6Addr};

use belljar_base::bounds::{DOOR_CONNECTIONS_BURST_MAX, DOOR_CONNECTIONS_PER_SECOND_MAX};

use super::netlink::{APPEND, CREATE, Messages, attribute, nested, number, text};
use super::{ADDRESS, DNS_PORT, LED_DNS_PORT, TRANSPARENT_PORT};

/// The table's name.
pub(super) const TABLE: &str = "belljar";
/// The counters' names: of datagrams, of ICMP, of all else that went nowhere, and of what came
/// faster than the table of connections is allowed to grow.
pub(super) const COUNTERS: [&str; 4] = [UDP_COUNTER, ICMP_COUNTER, OTHER_COUNTER, RATE_COUNTER];
const UDP_COUNTER: &str = "udp";
const ICMP_COUNTER: &str = "icmp";
const OTHER_COUNTER: &str = "other";
const RATE_COUNTER: &str = "rate";

/// The chains, in the order in which a packet meets them.
const TRACK: &str = "track";
const LEAD: &str = "lead";
const CLOSE: &str = "close";

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
/// Before connections are tracked.
const PRIORITY_RAW: i32 = -300;
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

/// The table with its counters, chains and rules.
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
    for (name, kind, priority, policy) in [
        (TRACK, "filter", PRIORITY_RAW, ACCEPT),
        (LEAD, "nat", PRIORITY_NAT, ACCEPT),
        (CLOSE, "filter", PRIORITY_FILTER, DROP),
    ] {
        add(NEW_CHAIN, CREATE, &chain(name, kind, priority, policy));
    }
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

    // What is led to a door has its answers translated back.
    for door in [TRANSPARENT_PORT, LED_DNS_PORT] {
        add(TRACK, &[port(FROM, door), verdict(ACCEPT)]);
    }
    // The run's own servers stay its own, and cost no entry in the table of connections. Questions
    // for names go to the gate, whichever server they were meant for.
    add(
        TRACK,
        &[at_four(&Ipv4Addr::LOCALHOST.octets()), untracked()],
    );
    for kind in [UDP, TCP] {
        add(
            TRACK,
            &[protocol(kind), port(TO, DNS_PORT), verdict(ACCEPT)],
        );
    }
    for place in own() {
        add(TRACK, &[place, untracked()]);
    }
    add(TRACK, &[protocol(TCP), verdict(ACCEPT)]);
    for (kind, name) in [
        (UDP, UDP_COUNTER),
        (ICMP, ICMP_COUNTER),
        (ICMP6, ICMP_COUNTER),
    ] {
        add(TRACK, &[protocol(kind), count(name), verdict(DROP)]);
    }
    add(TRACK, &[count(OTHER_COUNTER), verdict(DROP)]);

    // Only the first packet of a connection comes here.
    add(LEAD, &[too_fast(), count(RATE_COUNTER), verdict(DROP)]);
    for kind in [UDP, TCP] {
        let question = [protocol(kind), port(TO, DNS_PORT)].concat();
        add(LEAD, &[question, redirect(LED_DNS_PORT)]);
    }
    add(LEAD, &[protocol(TCP), redirect(TRANSPARENT_PORT)]);

    // By now everything is meant for the sandbox itself, or answers a connection that was led to a
    // door, wherever it said that it comes from.
    for place in own() {
        add(CLOSE, &[place, verdict(ACCEPT)]);
    }
    add(CLOSE, &[known(), verdict(ACCEPT)]);
    add(CLOSE, &[count(OTHER_COUNTER), verdict(DROP)]);
    rules
}

/// The places that are the sandbox itself.
fn own() -> [Vec<Vec<u8>>; 3] {
    let six = [
        meta(META_FAMILY),
        equals(&[IP6]),
        load(NETWORK_HEADER, 24, 16),
        equals(&Ipv6Addr::LOCALHOST.octets()),
    ];
    [at_four(&[127]), at_four(&ADDRESS.octets()), six.to_vec()]
}

/// What is meant for an IPv4 address that begins with some bytes.
fn at_four(address: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::try_from(address.len()).unwrap_or(0);
    vec![
        meta(META_FAMILY),
        equals(&[IP4]),
        load(NETWORK_HEADER, 16, length),
        equals(address),
    ]
}

/// Where the ports stand in the header of TCP and UDP.
const FROM: u32 = 0;
const TO: u32 = 2;

fn port(place: u32, port: u16) -> Vec<Vec<u8>> {
    vec![
        load(TRANSPORT_HEADER, place, 2),
        equals(&port.to_be_bytes()),
    ]
}

/// Keeps a packet out of the table of connections.
fn untracked() -> Vec<Vec<u8>> {
    [vec![expression("notrack", &[])], verdict(ACCEPT)].concat()
}

/// New connections above their rate.
fn too_fast() -> Vec<Vec<u8>> {
    let data = [
        attribute(1, &DOOR_CONNECTIONS_PER_SECOND_MAX.to_be_bytes()),
        attribute(2, &1_u64.to_be_bytes()),
        number(3, DOOR_CONNECTIONS_BURST_MAX),
        // Packets; and what is over.
        number(4, 0),
        number(5, 1),
    ];
    vec![expression("limit", &data)]
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
