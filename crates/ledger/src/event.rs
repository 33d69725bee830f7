//! What can be recorded. Each event has a dotted name that scripts may rely on.
//!
//! Adding an event, or an optional field to one, keeps old records readable; a reader that does not
//! know an event gets it as [`Event::Unknown`].

use std::collections::BTreeMap;

use belljar_base::{DatabaseName, Refusal, frame};
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::merkle::Hash;

/// One thing that was asked, decided, done or found. No fractions; sizes in bytes, times in
/// milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Event {
    /// Somebody asked for a run.
    #[serde(rename = "run.asked")]
    RunAsked {
        /// The program and its arguments.
        command: Vec<Text>,
        /// The isolation class asked for.
        isolation: Text,
        /// The directory to branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<Text>,
        /// The databases to branch: name → where the source is.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        databases: BTreeMap<DatabaseName, Text>,
        /// What it may reach and what not, each rule as it was written.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        network: Vec<Text>,
        /// The names of the secrets that it may use.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<Text>,
        /// Limits by name, unit last: `memory_bytes`, `pids`, `wall_seconds`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        limits: BTreeMap<String, u64>,
    },
    /// Policy decided.
    #[serde(rename = "decision")]
    Decision {
        /// What it was about: `run`, `merge`, `network example.com`.
        subject: Text,
        /// What was decided.
        effect: Effect,
        /// The rule that decided.
        rule: Text,
        /// Why it applies.
        reason: Text,
        /// What would lift a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<Text>,
    },
    /// The run begins: it is being enclosed. Nothing starts in it before it is proved closed.
    #[serde(rename = "run.started")]
    RunStarted {
        /// The isolation class it really has.
        isolation: Text,
    },
    /// A command is about to start in the sandbox.
    #[serde(rename = "command.started")]
    CommandStarted {
        /// Unique within the run.
        id: u32,
        /// The program and its arguments.
        command: Vec<Text>,
    },
    /// A command has ended.
    #[serde(rename = "command.ended")]
    CommandEnded {
        /// Which.
        id: u32,
        /// How.
        end: Ending,
        /// How long it ran.
        duration_ms: u64,
        /// What it wrote to standard output, kept or not.
        stdout_bytes: u64,
        /// What it wrote to standard error, kept or not.
        stderr_bytes: u64,
    },
    /// A limit was reached.
    #[serde(rename = "limit.hit")]
    LimitHit {
        /// Its name, as in `run.asked`.
        limit: Text,
        /// Its value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bound: Option<u64>,
    },
    /// This host cannot hold a wall that the run needs, or policy refused it.
    #[serde(rename = "wall.refused")]
    WallRefused {
        /// The wall or rule.
        wall: Text,
        /// Why.
        reason: Text,
        /// What to do.
        remedy: Text,
    },
    /// The run is over and cleaned up.
    #[serde(rename = "run.ended")]
    RunEnded {
        /// How.
        end: Ending,
        /// From asking to clean-up.
        duration_ms: u64,
    },
    /// What the run did is complete and will not change any more.
    #[serde(rename = "change.sealed")]
    ChangeSealed {
        /// The change set.
        digest: Hash,
        /// How many files changed.
        files: FileCounts,
        /// How many rows changed, per database.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        databases: BTreeMap<DatabaseName, RowCounts>,
    },
    /// A merge begins; its inverse is stored.
    #[serde(rename = "merge.started")]
    MergeStarted {
        /// The change set.
        digest: Hash,
    },
    /// A merge is done: the changes are real.
    #[serde(rename = "merge.finished")]
    MergeFinished {
        /// The change set.
        digest: Hash,
    },
    /// A merge was refused and nothing was touched.
    #[serde(rename = "merge.refused")]
    MergeRefused {
        /// Paths and rows that changed underneath.
        conflicts: Vec<Text>,
    },
    /// A revert begins.
    #[serde(rename = "revert.started")]
    RevertStarted {
        /// The change set whose merge is undone.
        digest: Hash,
    },
    /// A revert is done.
    #[serde(rename = "revert.finished")]
    RevertFinished {
        /// The change set whose merge is undone.
        digest: Hash,
    },
    /// A revert was refused and nothing was touched.
    #[serde(rename = "revert.refused")]
    RevertRefused {
        /// Paths and rows that changed since.
        conflicts: Vec<Text>,
    },
    /// A change set was thrown away.
    #[serde(rename = "discarded")]
    Discarded {},
    /// What an interrupted program had left was finished, undone or cleaned up.
    #[serde(rename = "recovered")]
    Recovered {
        /// What.
        what: Text,
    },
    /// Something wanted to leave the sandbox, and what was decided.
    #[serde(rename = "network.asked")]
    NetworkAsked(Box<NetworkAsked>),
    /// What was allowed to leave is over.
    #[serde(rename = "network.ended")]
    NetworkEnded {
        /// Which attempt.
        id: u64,
        /// Bytes that left.
        up_bytes: u64,
        /// Bytes that came back.
        down_bytes: u64,
        /// From the decision to the end.
        duration_ms: u64,
        /// The answer's HTTP status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why it ended: `closed`, `quota`, `rules changed`, ….
        end: Text,
    },
    /// Packets and attempts that went nowhere and have no record of their own.
    #[serde(rename = "network.dropped")]
    NetworkDropped {
        /// How many, by what they were: `udp`, `icmp`, `other`, `rate`.
        counts: BTreeMap<String, u64>,
    },
    /// A person let something through for this run.
    #[serde(rename = "network.granted")]
    NetworkGranted {
        /// The rule.
        rule: Text,
    },
    /// Somebody asked to keep a secret, or another value of it.
    #[serde(rename = "secret.kept")]
    SecretKept {
        /// The secret's name.
        name: Text,
        /// The hosts that may get it.
        hosts: Vec<Text>,
    },
    /// Somebody asked to forget a secret.
    #[serde(rename = "secret.forgotten")]
    SecretForgotten {
        /// The secret's name.
        name: Text,
    },
    /// A secret's placeholder was on its way to a host it does not belong to.
    #[serde(rename = "secret.misused")]
    SecretMisused {
        /// The secret's name.
        name: Text,
        /// Where the placeholder was going.
        host: Text,
    },
    /// A database was registered.
    #[serde(rename = "source.added")]
    SourceAdded {
        /// Its name.
        name: DatabaseName,
        /// Where it is.
        source: Text,
    },
    /// A database is no longer registered.
    #[serde(rename = "source.removed")]
    SourceRemoved {
        /// Its name.
        name: DatabaseName,
    },
    /// A database was branched.
    #[serde(rename = "branch.created")]
    BranchCreated {
        /// The branch's name in its run.
        name: DatabaseName,
        /// What was branched.
        source: Text,
        /// How.
        method: Method,
        /// The size of the source.
        bytes: u64,
    },
    /// Written by another version of this program. Can be read, shown and verified, not appended.
    #[serde(untagged)]
    Unknown(serde_json::Map<String, serde_json::Value>),
}

/// What policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may happen.
    Allow,
    /// It waits for approval.
    Hold,
    /// It must not happen.
    Deny,
}

/// How a command or a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
    /// This limit ended it.
    Limit(Text),
    /// It could not be carried out; why.
    Failed(Text),
    /// Somebody stopped it.
    Stopped,
}

/// How a branch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Sharing blocks with the source.
    Reflink,
    /// A copy of every byte.
    Copy,
}

/// How many files a change set touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// New.
    pub added: u64,
    /// Changed in content, mode or attributes.
    pub modified: u64,
    /// Gone.
    pub deleted: u64,
}

/// How many rows a change set touches in one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// New.
    pub inserted: u64,
    /// Changed.
    pub updated: u64,
    /// Gone.
    pub deleted: u64,
    /// Statements that change the schema.
    pub schema: u64,
}

/// An attempt to leave a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAsked {
    /// Unique within the run.
    pub id: u64,
    /// What wanted to travel: `dns`, `http`, `https`, `ws`, `wss`, `tcp`.
    pub scheme: Text,
    /// To whom, in canonical form.
    pub host: Text,
    /// On which port.
    pub port: u16,
    /// The address that is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
    /// The HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// The path, without its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// What was decided.
    pub effect: Effect,
    /// The rule that decided.
    pub rule: Text,
    /// Why it applies.
    pub reason: Text,
    /// It passed only because rules are observed and not enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// The names of the secrets that went with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Text>,
}

impl Event {
    /// The dotted name, as written.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::RunAsked { .. } => "run.asked",
            Self::Decision { .. } => "decision",
            Self::RunStarted { .. } => "run.started",
            Self::CommandStarted { .. } => "command.started",
            Self::CommandEnded { .. } => "command.ended",
            Self::LimitHit { .. } => "limit.hit",
            Self::WallRefused { .. } => "wall.refused",
            Self::RunEnded { .. } => "run.ended",
            Self::ChangeSealed { .. } => "change.sealed",
            Self::MergeStarted { .. } => "merge.started",
            Self::MergeFinished { .. } => "merge.finished",
            Self::MergeRefused { .. } => "merge.refused",
            Self::RevertStarted { .. } => "revert.started",
            Self::RevertFinished { .. } => "revert.finished",
            Self::RevertRefused { .. } => "revert.refused",
            Self::Discarded {} => "discarded",
            Self::Recovered { .. } => "recovered",
            Self::NetworkAsked(_) => "network.asked",
            Self::NetworkEnded { .. } => "network.ended",
            Self::NetworkDropped { .. } => "network.dropped",
            Self::NetworkGranted { .. } => "network.granted",
            Self::SecretKept { .. } => "secret.kept",
            Self::SecretForgotten { .. } => "secret.forgotten",
            Self::SecretMisused { .. } => "secret.misused",
            Self::SourceAdded { .. } => "source.added",
            Self::SourceRemoved { .. } => "source.removed",
            Self::BranchCreated { .. } => "branch.created",
            Self::Unknown(fields) => fields
                .get("event")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("unknown"),
        }
    }
}

impl From<&Refusal> for Event {
    fn from(refusal: &Refusal) -> Self {
        Self::WallRefused {
            wall: Text::from(refusal.rule.as_str()),
            reason: Text::from(refusal.reason.as_str()),
            remedy: Text::from(refusal.remedy.as_str()),
        }
    }
}

impl From<frame::End> for Ending {
    fn from(end: frame::End) -> Self {
        match end {
            frame::End::Code(code) => Self::Code(code),
            frame::End::Signal(signal) => Self::Signal(signal),
        }
    }
}
