//! Reads one message of a sandbox: one question of class IN, or it is turned away. What is read
//! here never leaves; it is only compared.

use std::net::Ipv4Addr;

use belljar_policy::egress::HostName;
use hickory_proto::op::{Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// What a message turned out to be.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Nothing that could be answered: no header, or an answer itself.
    Nothing,
    /// Turned away with this code; the question is told again where it was understood.
    Refused(Heard, ResponseCode),
    /// A question.
    Asked(Heard, Subject),
}

/// What of a message comes back in its answer.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The header's first half.
    pub(crate) metadata: Metadata,
    /// The question, letter by letter as it was asked.
    pub(crate) query: Option<Query>,
    /// Whether EDNS was spoken, and if so whether it asked for DNSSEC records.
    pub(crate) edns: Option<bool>,
}

/// What a question is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A name that somebody has to judge.
    Name(HostName),
    /// Something a host offers (`_https._tcp.example.com`), which is judged as the host is.
    Service(HostName),
    /// The sandbox itself.
    Localhost,
    /// Which name an address stands for; no address where it cannot be one of ours.
    Reverse(Option<Ipv4Addr>, String),
    /// No host has such a name; it is as it was written, with what cannot be shown escaped.
    NoHost(String),
}

/// EDNS has one version so far.
const EDNS_VERSION: u8 = 0;
/// Bytes of type and class behind a question's name.
const TYPE_AND_CLASS_BYTES: usize = 4;

/// Reads a message.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else {
        return Reading::Nothing;
    };
    if header.metadata.message_type != MessageType::Query {
        return Reading::Nothing;
    }
    let mut heard = Heard {
        metadata: header.metadata,
        query: None,
        edns: None,
    };
    if header.metadata.op_code != OpCode::Query {
        return Reading::Refused(heard, ResponseCode::NotImp);
    }
    match body(&header, &mut decoder, &mut heard) {
        Ok(subject) => Reading::Asked(heard, subject),
        Err(code) => Reading::Refused(heard, code),
    }
}

fn body(
    header: &Header,
    decoder: &mut BinDecoder<'_>,
    heard: &mut Heard,
) -> Result<Subject, ResponseCode> {
    let counts = header.counts;
    let one_question = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0;
    if !one_question || counts.additionals > 1 || header.metadata.truncation {
        return Err(ResponseCode::FormErr);
    }
    let query = question(decoder)?;
    let asked = (query.name.clone(), query.query_type, query.query_class);
    heard.query = Some(query);
    if counts.additionals == 1 {
        let (version, dnssec_ok) = edns(decoder)?;
        heard.edns = Some(dnssec_ok);
        if version != EDNS_VERSION {
            return Err(ResponseCode::BADVERS);
        }
    }
    if !decoder.is_empty() {
        return Err(ResponseCode::FormErr);
    }
    let (name, query_type, query_class) = asked;
    if query_class != DNSClass::IN || is_transfer(query_type) || name.is_root() {
        return Err(ResponseCode::Refused);
    }
    Ok(subject(&name))
}

/// The question, whose name is written out: a pointer could only lead into the header.
fn question(decoder: &mut BinDecoder<'_>) -> Result<Query, ResponseCode> {
    let malformed = |_unread| ResponseCode::FormErr;
    let begin = decoder.index();
    let query = Query::read(decoder).map_err(malformed)?;
    let labels: usize = query.name.iter().map(|label| label.len() + 1).sum();
    if decoder.index() != begin + labels + 1 + TYPE_AND_CLASS_BYTES {
        return Err(ResponseCode::FormErr);
    }
    Ok(query)
}

/// The one record that may follow the question: the version of EDNS, and whether DNSSEC records are
/// wanted.
fn edns(decoder: &mut BinDecoder<'_>) -> Result<(u8, bool), ResponseCode> {
    let malformed = |_unread| ResponseCode::FormErr;
    let at_root = decoder.peek().map(|byte| byte.unverified(/* compared */)) == Some(0);
    let (others, edns, signature) =
        Message::read_records(decoder, 1, true, OpCode::Query).map_err(malformed)?;
    match edns {
        Some(edns) if at_root && others.is_empty() && signature.is_none() => {
            Ok((edns.version(), edns.flags().dnssec_ok))
        }
        _ => Err(ResponseCode::FormErr),
    }
}

fn is_transfer(query_type: RecordType) -> bool {
    matches!(query_type, RecordType::AXFR | RecordType::IXFR)
}

fn subject(name: &Name) -> Subject {
    let written = || name.to_ascii().trim_end_matches('.').to_owned();
    let service = name.iter().take_while(|label| label.starts_with(b"_"));
    let service = service.count();
    let Some(text) = text(name.iter().skip(service)) else {
        return Subject::NoHost(written());
    };
    let subject: fn(HostName) -> Subject = match service {
        0 if text == "localhost" || text.ends_with(".localhost") => return Subject::Localhost,
        0 if text.ends_with(".arpa") && is_reverse(&text) => {
            return Subject::Reverse(reversed(&text), text);
        }
        0 => Subject::Name,
        _ => Subject::Service,
    };
    match text.parse::<HostName>() {
        // A name that its canonical form changes more than in case is in doubt.
        Ok(host) if host.as_str() == text => subject(host),
        Ok(_) | Err(_) => Subject::NoHost(written()),
    }
}

fn is_reverse(text: &str) -> bool {
    text.ends_with(".in-addr.arpa") || text.ends_with(".ip6.arpa")
}

fn reversed(text: &str) -> Option<Ipv4Addr> {
    let backwards = text.strip_suffix(".in-addr.arpa")?;
    let forwards: Vec<_> = backwards.rsplit('.').collect();
    forwards.join(".").parse().ok()
}

/// The labels in lower case with dots between, if they are made of what host names are made of.
fn text<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut text = String::new();
    for label in labels {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            if !byte.is_ascii_alphanumeric() && *byte != b'-' {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(text)
}
