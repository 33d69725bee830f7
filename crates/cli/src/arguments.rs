//! What can be asked for. Names are a contract: scripts use them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use belljar_base::{AgentName, DatabaseName};
use belljar_policy::Isolation;
use belljar_sandbox::Limits;
use belljar_server::RunName;
use belljar_server::app::network::Publish;
use clap::{Args, Parser, Subcommand};

use crate::commands::secret::SecretAsk;

/// Every run is a dry run until it is merged.
#[derive(Debug, Parser)]
#[command(name = "belljar", version, about, long_about = None, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Enclose a command: what it does to its workspace and databases waits for `merge`
    Run(Box<RunAsk>),
    /// Show what a run did
    Diff(DiffAsk),
    /// Make a run's changes real, all or nothing
    Merge(MergeAsk),
    /// Take a merge back
    Revert(DeedAsk),
    /// Throw a run's changes away
    Discard(DeedAsk),
    /// Let a run that is under way reach a host, from its next request on
    Allow(AllowAsk),
    /// List the runs
    Runs(RunsAsk),
    /// Keep secrets for runs, which get placeholders
    Secret(SecretAsk),
    /// Read, verify and export the ledger
    Audit(AuditAsk),
    /// Show what this host can enforce, and how to get the rest
    Doctor(DoctorAsk),
    /// Replay incidents that really happened, contained
    Demo(DemoAsk),
    /// Misbehave inside a sandbox of `demo`
    #[command(hide = true)]
    DemoActor(DemoActorAsk),
}

#[derive(Debug, Args)]
pub(crate) struct RunAsk {
    /// Who acts
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) agent: AgentName,
    /// The isolation class: isolate, jail, gvisor or microvm [default: the host's strongest]
    #[arg(long, value_name = "CLASS")]
    pub(crate) isolation: Option<Isolation>,
    /// A directory to work on, copy-on-write, at its own path
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// A SQLite database to branch; inside, NAME_URL and NAME_PATH say where it is
    #[arg(long = "db", value_name = "NAME=FILE", value_parser = database)]
    pub(crate) databases: Vec<(DatabaseName, PathBuf)>,
    /// A file or directory that can be read inside
    #[arg(long = "read", value_name = "PATH")]
    pub(crate) reads: Vec<PathBuf>,
    /// A variable to pass on, or to set
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) environment: Vec<OsString>,
    /// Limits: cpu=1.5, memory=2G, pids=512, time=10m, disk=4G, inodes=100000, output=16M, files=1024
    #[arg(long = "limit", value_name = "NAME=VALUE,…", value_delimiter = ',')]
    pub(crate) limits: Vec<String>,
    #[command(flatten)]
    pub(crate) network: NetworkAsk,
    /// End with one JSON object on the last line
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct NetworkAsk {
    /// A host it may reach; nothing else leaves [for example api.example.com:443/v1]
    #[arg(long = "allow", value_name = "HOST[:PORT][/PATH]")]
    pub(crate) allow: Vec<String>,
    /// A host it may not reach, whatever else allows it
    #[arg(long = "deny", value_name = "HOST[:PORT][/PATH]")]
    pub(crate) deny: Vec<String>,
    /// A secret it may use: inside is a placeholder, the value goes in on the way out
    #[arg(long = "secret", value_name = "NAME")]
    pub(crate) secrets: Vec<String>,
    /// A port of a server inside that this host's loopback reaches, at the same port or another
    #[arg(long = "publish", value_name = "PORT[:HOSTPORT]", value_parser = publish)]
    pub(crate) publish: Vec<Publish>,
    /// A file with rules, quotas, name servers and certificates to trust
    #[arg(long = "network", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AllowAsk {
    /// The run: its id, the beginning of it, or `last`
    pub(crate) run: RunName,
    /// What it may reach
    #[arg(value_name = "HOST[:PORT][/PATH]")]
    pub(crate) rule: String,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffAsk {
    /// The run: its id, the beginning of it, or `last`
    pub(crate) run: RunName,
    /// Only these paths and what is below them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The summary alone
    #[arg(long)]
    pub(crate) stat: bool,
    /// Everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MergeAsk {
    /// The run: its id, the beginning of it, or `last`
    pub(crate) run: RunName,
    /// Let files get set-user-id bits, set-group-id bits and capabilities
    #[arg(long)]
    pub(crate) allow_privileged: bool,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeedAsk {
    /// The run: its id, the beginning of it, or `last`
    pub(crate) run: RunName,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsAsk {
    /// The list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorAsk {
    /// The findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoAsk {
    /// The incident; all of them if none is named
    pub(crate) incident: Option<String>,
    /// The incidents that can be replayed
    #[arg(long)]
    pub(crate) list: bool,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoActorAsk {
    /// What to do
    pub(crate) name: String,
    /// A word to be found by on the command line
    pub(crate) marker: String,
}

#[derive(Debug, Args)]
pub(crate) struct AuditAsk {
    #[command(subcommand)]
    pub(crate) what: AuditWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditWhat {
    /// The last records
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u64,
        /// One JSON object per record
        #[arg(long)]
        json: bool,
    },
    /// Every record of a run
    Show {
        /// The run: its id, the beginning of it, or `last`
        run: RunName,
        /// Only what it tried to reach, an attempt a line
        #[arg(long)]
        network: bool,
        /// One JSON object per record
        #[arg(long)]
        json: bool,
    },
    /// Recompute every hash, and say what is wrong and where
    Verify {
        /// A signed checkpoint that was kept elsewhere
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// The result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the ledger in the tlog-tiles layout, for other verifiers
    Export {
        /// The directory to write
        to: PathBuf,
        /// The result as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Ask {
    /// Whether the answer is for a script, a failure as well.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Run(ask) => ask.json,
            Self::Diff(ask) => ask.json,
            Self::Merge(ask) => ask.json,
            Self::Revert(ask) | Self::Discard(ask) => ask.json,
            Self::Allow(ask) => ask.json,
            Self::Runs(ask) => ask.json,
            Self::Secret(ask) => ask.wants_json(),
            Self::Doctor(ask) => ask.json,
            Self::Demo(ask) => ask.json,
            Self::DemoActor(_) => false,
            // A verdict on the ledger is an answer, not a failure to give one.
            Self::Audit(ask) => match ask.what {
                AuditWhat::Verify { .. } => false,
                AuditWhat::Tail { json, .. }
                | AuditWhat::Show { json, .. }
                | AuditWhat::Export { json, .. } => json,
            },
        }
    }
}

fn database(text: &str) -> Result<(DatabaseName, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or_else(|| "write NAME=FILE, for example shop=./shop.db".to_owned())?;
    let name = name
        .parse()
        .map_err(|error: belljar_base::NameError| error.to_string())?;
    if path.is_empty() {
        return Err("write NAME=FILE, for example shop=./shop.db".to_owned());
    }
    Ok((name, PathBuf::from(path)))
}

fn publish(text: &str) -> Result<Publish, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (inside, host) = text.split_once(':').unwrap_or((text, text));
    match (port(inside), port(host)) {
        (Some(inside), Some(host)) => Ok(Publish { inside, host }),
        _ => Err("write PORT or PORT:HOSTPORT, for example 8080 or 80:8080".to_owned()),
    }
}

/// Sets the limits that are named on top of the defaults.
pub(crate) fn limits(asked: &[String], mut limits: Limits) -> Result<Limits, String> {
    for one in asked {
        let (name, value) = one.split_once('=').ok_or_else(|| {
            format!("`{one}` is not a limit; write NAME=VALUE, for example memory=2G")
        })?;
        match name {
            "cpu" => limits.cpu_millis = Some(thousandths(value)?),
            "memory" => limits.memory_bytes = bytes(value)?,
            "pids" => limits.pids = count(value)?,
            "time" => limits.wall = time(value)?,
            "disk" => limits.disk_bytes = bytes(value)?,
            "inodes" => limits.inodes = count(value)?,
            "output" => limits.output_bytes = bytes(value)?,
            "files" => limits.open_files = open_files(value)?,
            other => {
                return Err(format!(
                    "`{other}` is not a limit; the limits are cpu, memory, pids, time, disk, \
                     inodes, output and files"
                ));
            }
        }
    }
    Ok(limits)
}

fn count(text: &str) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("`{text}` is not a count above zero"))
}

/// Fewer open files than this, and the sandbox itself cannot be closed.
const OPEN_FILES_MIN: u64 = 16;

fn open_files(text: &str) -> Result<u64, String> {
    count(text).and_then(|number| match number {
        0..OPEN_FILES_MIN => Err(format!("{number} open files are too few; the least is 16")),
        _ => Ok(number),
    })
}

fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let upper = upper.strip_suffix('B').unwrap_or(&upper);
    let upper = upper.strip_suffix('I').unwrap_or(upper);
    let (digits, shift) = [('K', 10), ('M', 20), ('G', 30), ('T', 40)]
        .into_iter()
        .find_map(|(unit, shift)| Some((upper.strip_suffix(unit)?, shift)))
        .unwrap_or((upper, 0));
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= i64::MAX.unsigned_abs())
        .ok_or_else(|| format!("`{text}` is not a size; write for example 512M or 4G"))
}

fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit_ms) = [
        ("ms", 1_u64),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ]
    .into_iter()
    .find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)))
    .unwrap_or((text, 1000));
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(unit_ms))
        .filter(|ms| *ms <= 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a time; write for example 30s, 10m or 2h"))
}

fn thousandths(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is not a number of CPUs; write for example 1.5");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit())
    };
    if !digits(whole) || !digits(part) {
        return Err(refuse());
    }
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    let number = whole.parse::<u64>().ok().zip(part.parse::<u64>().ok());
    // The kernel's quota has a floor of one hundredth of a CPU.
    number
        .map(|(whole, part)| whole * 1000 + part)
        .filter(|n| *n >= 10)
        .ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    fn check(text: &str, expected: &expect_test::Expect) {
        let asked: Vec<String> = text.split(',').map(str::to_owned).collect();
        let shown = match limits(&asked, Limits::defaults(1 << 30)) {
            Ok(limits) => format!(
                "cpu {:?} memory {} pids {} time {:?} disk {} inodes {} output {} files {}",
                limits.cpu_millis,
                limits.memory_bytes,
                limits.pids,
                limits.wall,
                limits.disk_bytes,
                limits.inodes,
                limits.output_bytes,
                limits.open_files
            ),
            Err(error) => error,
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn limits_are_read() {
        check(
            "cpu=1.5,memory=2G,pids=512,time=10m,disk=4GiB,inodes=1000,output=16m,files=64",
            &expect![[
                r"cpu Some(1500) memory 2147483648 pids 512 time 600s disk 4294967296 inodes 1000 output 16777216 files 64"
            ]],
        );
        check(
            "memory=lots",
            &expect![["`lots` is not a size; write for example 512M or 4G"]],
        );
        check(
            "memory=0",
            &expect![["`0` is not a size; write for example 512M or 4G"]],
        );
        check(
            "memory=99999999999T",
            &expect![["`99999999999T` is not a size; write for example 512M or 4G"]],
        );
        check(
            "cpu=.5",
            &expect![["`.5` is not a number of CPUs; write for example 1.5"]],
        );
        check(
            "cpu=0",
            &expect![["`0` is not a number of CPUs; write for example 1.5"]],
        );
        check(
            "time=-1",
            &expect![["`-1` is not a time; write for example 30s, 10m or 2h"]],
        );
        check(
            "ram=1G",
            &expect![[
                "`ram` is not a limit; the limits are cpu, memory, pids, time, disk, inodes, output and files"
            ]],
        );
        check(
            "memory",
            &expect![["`memory` is not a limit; write NAME=VALUE, for example memory=2G"]],
        );
    }
}
