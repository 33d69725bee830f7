//! The doors through which bytes that somebody else wrote come in, one function each for the fuzz
//! target of the same name. A door that does not hold panics; an answer, however harsh, is fine.
#![forbid(unsafe_code)]

use std::io;

#[path = "../doors/scratch.rs"]
mod scratch; // directories that are gone afterwards
#[path = "../doors/patch.rs"]
mod patch; // small changes to good bytes
#[path = "../doors/frame.rs"]
mod frame_door; // guest → supervisor
#[path = "../doors/sqlite_branch.rs"]
mod sqlite_branch_door; // what a run leaves where its database was
#[path = "../doors/change_set.rs"]
mod change_set_door; // a stored change set of files
#[path = "../doors/row_changes.rs"]
mod row_changes_door; // a stored change set of a database
#[path = "../doors/ledger.rs"]
mod ledger_door; // the ledger's files
#[path = "../doors/run_id_and_names.rs"]
mod run_id_and_names_door; // words that become ids and names
#[path = "../doors/client_hello.rs"]
mod client_hello_door; // the first words of TLS
#[path = "../doors/proxy_request.rs"]
mod proxy_request_door; // what a program says to a proxy
#[path = "../doors/dns.rs"]
mod dns_door; // what a sandbox asks its name server
#[path = "../doors/host.rs"]
mod host_door; // a host, as a sandbox writes it
#[path = "../doors/network_rules.rs"]
mod network_rules_door; // rules, as a person writes them
#[path = "../doors/request_path.rs"]
mod request_path_door; // the path of a request

/// Frames between the guest and the supervisor.
pub fn frame(bytes: &[u8]) {
    held(frame_door::enter(bytes));
}

/// A database, its write-ahead log and its rollback journal, as a run left them.
pub fn sqlite_branch(bytes: &[u8]) {
    held(sqlite_branch_door::enter(bytes));
}

/// The stored change set of a workspace.
pub fn change_set(bytes: &[u8]) {
    held(change_set_door::enter(bytes));
}

/// The stored change set of a database.
pub fn row_changes(bytes: &[u8]) {
    held(row_changes_door::enter(bytes));
}

/// The files of a ledger, or of an export.
pub fn ledger(bytes: &[u8]) {
    held(ledger_door::enter(bytes));
}

/// Words that become run ids and names.
pub fn run_id_and_names(bytes: &[u8]) {
    held(run_id_and_names_door::enter(bytes));
}

/// The first words of TLS.
pub fn client_hello(bytes: &[u8]) {
    held(client_hello_door::enter(bytes));
}

/// What a program says to a proxy.
pub fn proxy_request(bytes: &[u8]) {
    held(proxy_request_door::enter(bytes));
}

/// One message to a sandbox's name server.
pub fn dns(bytes: &[u8]) {
    held(dns_door::enter(bytes));
}

/// A host that a sandbox asks for.
pub fn host(bytes: &[u8]) {
    held(host_door::enter(bytes));
}

/// A rule for the network, or a file of them.
pub fn network_rules(bytes: &[u8]) {
    held(network_rules_door::enter(bytes));
}

/// The path of a request.
pub fn request_path(bytes: &[u8]) {
    held(request_path_door::enter(bytes));
}

fn held(entered: io::Result<()>) {
    assert!(entered.is_ok(), "the scratch directory: {entered:?}");
}
