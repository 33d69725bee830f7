//! Writes answers. Each fits a datagram of 512 bytes, echoes its question letter by letter, and says
//! in an Extended DNS Error (RFC 8914) why something was denied.

use std::net::IpAddr;

use belljar_base::bounds::{
    DNS_ABSENCE_SECONDS, DNS_ADDRESS_SECONDS, DNS_QUERY_BYTES_MAX, DNS_REASON_BYTES_MAX,
};
use belljar_policy::egress::HostName;
use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{PTR, SOA};
use hickory_proto::rr::{Name, RData, Record};

use super::question::Heard;

/// What is said of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    /// The name's address.
    Address(IpAddr),
    /// The address's name.
    Pointer(HostName),
    /// The name exists, and has nothing of this type.
    Empty,
    /// The name is denied, and why.
    Denied(String),
    /// There is no answer now, and why.
    Failed(String),
    /// The message was turned away.
    Refused(ResponseCode),
}

/// The option of EDNS that tells a reason.
const EXTENDED_ERROR: u16 = 15;
/// Other, for what has no code of its own.
const OTHER: u16 = 0;
/// Blocked, by whoever runs the server.
const BLOCKED: u16 = 15;
/// No name server: the zone that the answers about absence are from.
const ZONE: &str = "belljar.invalid.";

/// The answer in bytes; nothing if it cannot be written, which would be our own mistake.
pub(crate) fn write(heard: &Heard, saying: &Saying) -> Option<Vec<u8>> {
    let metadata = &heard.metadata;
    let mut message = Message::response(metadata.id, metadata.op_code);
    message.metadata = Metadata::response_from_request(metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code(saying);
    if let Some(query) = &heard.query {
        message.add_query(query.clone());
        if let Some(data) = data(saying) {
            let name = query.name.clone();
            message.add_answer(Record::from_rdata(name, DNS_ADDRESS_SECONDS, data));
        } else if is_absence(saying) {
            message.add_authority(absence());
        }
    }
    if let Some(dnssec_ok) = heard.edns {
        message.set_edns(edns(saying, dnssec_ok));
    }
    message.to_vec().ok()
}

fn code(saying: &Saying) -> ResponseCode {
    match saying {
        Saying::Address(_) | Saying::Pointer(_) | Saying::Empty => ResponseCode::NoError,
        Saying::Denied(_) => ResponseCode::NXDomain,
        Saying::Failed(_) => ResponseCode::ServFail,
        Saying::Refused(code) => *code,
    }
}

fn data(saying: &Saying) -> Option<RData> {
    match saying {
        Saying::Address(IpAddr::V4(address)) => Some(RData::A((*address).into())),
        Saying::Address(IpAddr::V6(address)) => Some(RData::AAAA((*address).into())),
        Saying::Pointer(name) => {
            let mut name = Name::from_ascii(name.as_str()).ok()?;
            name.set_fqdn(true);
            Some(RData::PTR(PTR(name)))
        }
        Saying::Empty | Saying::Denied(_) | Saying::Failed(_) | Saying::Refused(_) => None,
    }
}

fn is_absence(saying: &Saying) -> bool {
    matches!(code(saying), ResponseCode::NoError | ResponseCode::NXDomain)
}

/// The record that lets an absence be kept for a moment (RFC 2308). It is the root's, so that no
/// name below a denied one is taken for absent with it.
fn absence() -> Record {
    let zone = Name::from_ascii(ZONE).unwrap_or_default();
    let seconds = i32::try_from(DNS_ABSENCE_SECONDS).unwrap_or(0);
    let (refresh, retry, expire) = (seconds, seconds, seconds);
    let soa = SOA::new(
        zone.clone(),
        zone,
        1,
        refresh,
        retry,
        expire,
        DNS_ABSENCE_SECONDS,
    );
    Record::from_rdata(Name::root(), DNS_ABSENCE_SECONDS, RData::SOA(soa))
}

fn edns(saying: &Saying, dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(u16::try_from(DNS_QUERY_BYTES_MAX).unwrap_or(512));
    edns.set_dnssec_ok(dnssec_ok);
    let told = match saying {
        Saying::Denied(reason) => Some((BLOCKED, reason)),
        Saying::Failed(reason) => Some((OTHER, reason)),
        Saying::Address(_) | Saying::Pointer(_) | Saying::Empty | Saying::Refused(_) => None,
    };
    if let Some((code, reason)) = told {
        let mut option = code.to_be_bytes().to_vec();
        option.extend_from_slice(short(reason).as_bytes());
        edns.options_mut()
            .insert(EdnsOption::Unknown(EXTENDED_ERROR, option));
    }
    edns
}

/// The beginning of a reason, cut between characters.
fn short(reason: &str) -> &str {
    let end = reason.floor_char_boundary(DNS_REASON_BYTES_MAX);
    reason.get(..end).unwrap_or_default()
}
