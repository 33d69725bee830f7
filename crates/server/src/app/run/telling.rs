//! What the ledger and the caller are told of a run.

use std::collections::BTreeMap;

use belljar_base::frame::End;
use belljar_base::{EXIT_FAILED, EXIT_LIMIT};
use belljar_branch::engine::files::ByteText;
use belljar_ledger::event::{Effect, Ending};
use belljar_ledger::{Event, Text};
use belljar_policy::egress::{self, Rule};
use belljar_policy::{Decision, Isolation};
use belljar_sandbox::{Cause, Ended, LimitHit, Limits};

use super::Underway;
use crate::app::facts::Changes;

impl Underway<'_> {
    pub(super) fn asked(&self) -> Event {
        let limits = &self.request.limits;
        let mut bounds = BTreeMap::from([
            ("disk_bytes".to_owned(), limits.disk_bytes),
            ("inodes".to_owned(), limits.inodes),
            ("memory_bytes".to_owned(), limits.memory_bytes),
            ("open_files".to_owned(), limits.open_files),
            ("output_bytes".to_owned(), limits.output_bytes),
            ("pids".to_owned(), limits.pids),
            ("wall_ms".to_owned(), millis(limits.wall)),
        ]);
        bounds.extend(limits.cpu_millis.map(|cpu| ("cpu_millis".to_owned(), cpu)));
        let asked = self.request.isolation.map_or("any", Isolation::as_str);
        let text = |path: &ByteText| Text::from(path.0.clone());
        let network = self.request.network.as_ref();
        let rules = network.into_iter().flat_map(|one| &one.rules.rules);
        let secrets = network.into_iter().flat_map(|one| &one.secrets);
        Event::RunAsked {
            command: self.command_text(),
            isolation: Text::from(asked),
            workspace: self.record.workspace.as_ref().map(text),
            databases: self
                .record
                .databases
                .iter()
                .map(|(n, p)| (n.clone(), text(p)))
                .collect(),
            network: rules.map(rule_text).collect(),
            secrets: secrets.map(|one| Text::from(one.name().as_str())).collect(),
            limits: bounds,
        }
    }

    pub(super) fn command_text(&self) -> Vec<Text> {
        self.request
            .command
            .iter()
            .map(|part| Text::from(part.as_os_str()))
            .collect()
    }

    /// The records of a run that ended.
    pub(super) fn endings(&self, ended: &Ended, changes: &Changes, duration_ms: u64) -> Vec<Event> {
        let mut events = vec![Event::CommandEnded {
            id: 1,
            end: ending(ended),
            duration_ms: millis(ended.duration),
            stdout_bytes: ended.written[0],
            stderr_bytes: ended.written[1],
        }];
        events.extend(ended.hits.iter().map(|hit| Event::LimitHit {
            limit: Text::from(hit.as_str()),
            bound: bound(*hit, &self.request.limits),
        }));
        if !changes.is_empty() {
            events.push(Event::ChangeSealed {
                digest: changes.digest(),
                files: changes.file_counts(),
                databases: changes.row_counts(),
            });
        }
        events.push(Event::RunEnded {
            end: ending(ended),
            duration_ms,
        });
        events
    }
}

fn rule_text(rule: &Rule) -> Text {
    Text::from(match rule.effect {
        egress::Effect::Allow => format!("allow {rule}"),
        egress::Effect::Deny => format!("deny {rule}"),
    })
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A decision, as the ledger has it.
pub(crate) fn decided(subject: &str, effect: Effect, decision: &Decision) -> Event {
    let (rule, reason, remedy) = match decision {
        Decision::Allow { rule, reason } => (rule, reason, None),
        Decision::Hold(refusal) | Decision::Deny(refusal) => (
            &refusal.rule,
            &refusal.reason,
            Some(Text::from(refusal.remedy.as_str())),
        ),
    };
    let text = |text: &str| Text::from(text);
    Event::Decision {
        subject: text(subject),
        effect,
        rule: text(rule),
        reason: text(reason),
        remedy,
    }
}

/// The command's own code; 124 when a limit ended it; 128 and the signal otherwise.
pub(super) fn exit_code(ended: &Ended) -> u8 {
    let of_signal = |signal: i32| u8::try_from(128 + signal.clamp(0, 127)).unwrap_or(EXIT_FAILED);
    match ended.cause {
        Cause::TimeOver => EXIT_LIMIT,
        Cause::Exited(End::Signal(9)) if ended.hits.contains(&LimitHit::Memory) => EXIT_LIMIT,
        Cause::Exited(End::Code(code)) => code,
        Cause::Exited(End::Signal(signal)) => of_signal(signal),
        Cause::Cancelled => of_signal(2),
        Cause::Lost if ended.hits.contains(&LimitHit::Memory) => EXIT_LIMIT,
        Cause::NotStarted | Cause::Lost => EXIT_FAILED,
    }
}

pub(super) fn ending(ended: &Ended) -> Ending {
    let limit = |hit: LimitHit| Ending::Limit(Text::from(hit.as_str()));
    match ended.cause {
        Cause::TimeOver => limit(LimitHit::Time),
        Cause::Lost if ended.hits.contains(&LimitHit::Memory) => limit(LimitHit::Memory),
        Cause::Exited(End::Signal(9)) if ended.hits.contains(&LimitHit::Memory) => {
            limit(LimitHit::Memory)
        }
        Cause::Exited(end) => end.into(),
        Cause::Cancelled => Ending::Stopped,
        Cause::NotStarted | Cause::Lost => Ending::Failed(Text::from("the sandbox died")),
    }
}

pub(super) fn bound(hit: LimitHit, limits: &Limits) -> Option<u64> {
    match hit {
        LimitHit::Cpu => limits.cpu_millis,
        LimitHit::Memory => Some(limits.memory_bytes),
        LimitHit::Pids => Some(limits.pids),
        LimitHit::Time => Some(millis(limits.wall)),
        LimitHit::Disk => Some(limits.disk_bytes),
        LimitHit::Inodes => Some(limits.inodes),
        LimitHit::Output => Some(limits.output_bytes),
    }
}
