//! The rules of a file, in TOML (docs/formats/network-rules.md). Reading the file is the caller's.

mod node; // a value of the text, with the line it stands on
mod table; // a rule as a table

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use belljar_base::bounds::{EGRESS_FILE_BYTES_MAX, EGRESS_FILE_ENTRIES_MAX, EGRESS_RULES_MAX};
use belljar_base::{AgentName, HasKind, Kind};
use toml::de::DeTable;

use super::host::{Host, HostName};
use super::rule::{Effect, Mode, Quota, Rule, RuleError, Rules};
use node::{Node, line_of};

/// What a file of rules says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesFile {
    /// Who is asked for addresses; empty means the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Names whose address is fixed.
    pub hosts: Vec<(HostName, IpAddr)>,
    /// Files of certificates that are trusted beside the system's, as they were written.
    pub roots: Vec<String>,
    everyone: Section,
    agents: BTreeMap<AgentName, Section>,
}

/// What holds for everyone, or for one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section {
    mode: Option<Mode>,
    rules: Vec<Rule>,
    quota: Quota,
    host_quota: Quota,
}

/// The text is no file of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is longer than the bound.
    #[error("the rules are longer than {EGRESS_FILE_BYTES_MAX} bytes")]
    Long,
    /// It is not TOML.
    #[error("line {line} is not TOML: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// In the words of the parser.
        message: String,
    },
    /// Nothing has this name here.
    #[error("line {line}: `{key}` is not known here; {remedy}")]
    Unknown {
        /// From 1.
        line: usize,
        /// As it was written.
        key: String,
        /// The nearest that is known, or all that are.
        remedy: String,
    },
    /// A value of another sort is wanted.
    #[error("line {line}: `{key}` must be {wanted}")]
    Value {
        /// From 1.
        line: usize,
        /// What it is the value of.
        key: String,
        /// What it must be.
        wanted: String,
    },
    /// A host or an address is none.
    #[error("line {line}: {error}")]
    Rule {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: RuleError,
    },
    /// There are too many of something.
    #[error("line {line}: there are more than {most} of `{key}`")]
    Many {
        /// From 1.
        line: usize,
        /// Of what.
        key: String,
        /// The bound.
        most: usize,
    },
}

impl HasKind for FileError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const SECTION: &[&str] = &["mode", "allow", "deny", "quota", "host_quota"];
const FILE: &[&str] = &[
    "mode",
    "allow",
    "deny",
    "quota",
    "host_quota",
    "resolver",
    "trust",
    "agent",
];
const DNS_PORT: u16 = 53;

impl RulesFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When the text is not TOML, or says something that is not known or not possible.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        if text.len() > EGRESS_FILE_BYTES_MAX {
            return Err(FileError::Long);
        }
        let table = DeTable::parse(text).map_err(|error| FileError::Syntax {
            line: line_of(text, error.span().unwrap_or_default().start),
            message: error.message().to_owned(),
        })?;
        let root = Node::root(text, table.get_ref());
        let mut file = Self::default();
        for field in root.fields(FILE)? {
            match field.key() {
                "resolver" => file.resolver(&field)?,
                "trust" => file.trust(&field)?,
                "agent" => file.agents(&field)?,
                _ => file.everyone.read(&field)?,
            }
        }
        let all = |own: &Section| file.everyone.rules.len() + own.rules.len();
        if file.agents.values().any(|own| all(own) > EGRESS_RULES_MAX) {
            return Err(root.too_many(EGRESS_RULES_MAX));
        }
        Ok(file)
    }

    /// What holds for a run of this agent: the rules for everyone and its own. Where both set a mode
    /// or a quota, its own holds.
    #[must_use]
    pub fn for_agent(&self, agent: &AgentName) -> Rules {
        let mut rules = Rules {
            mode: self.everyone.mode.unwrap_or_default(),
            rules: self.everyone.rules.clone(),
            quota: self.everyone.quota,
            host_quota: self.everyone.host_quota,
            own_addresses: Vec::new(),
        };
        if let Some(own) = self.agents.get(agent) {
            rules.mode = own.mode.unwrap_or(rules.mode);
            rules.rules.extend(own.rules.iter().cloned());
            rules.quota = own.quota.or(rules.quota);
            rules.host_quota = own.host_quota.or(rules.host_quota);
        }
        rules
    }

    fn resolver(&mut self, node: &Node<'_>) -> Result<(), FileError> {
        for field in node.fields(&["nameservers", "hosts"])? {
            match field.key() {
                "nameservers" => {
                    for one in field.list(EGRESS_FILE_ENTRIES_MAX)? {
                        self.nameservers.push(nameserver(&one)?);
                    }
                }
                _ => {
                    for one in field.entries(EGRESS_FILE_ENTRIES_MAX)? {
                        self.hosts.push(fixed(&one)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn trust(&mut self, node: &Node<'_>) -> Result<(), FileError> {
        for field in node.fields(&["roots"])? {
            for root in field.list(EGRESS_FILE_ENTRIES_MAX)? {
                self.roots.push(root.text("the path of a file")?.to_owned());
            }
        }
        Ok(())
    }

    fn agents(&mut self, node: &Node<'_>) -> Result<(), FileError> {
        for agent in node.entries(EGRESS_FILE_ENTRIES_MAX)? {
            let Ok(name) = agent.key().parse::<AgentName>() else {
                let wanted = "the name of an agent: 1 to 63 of a-z, 0-9 and `-`, first a letter";
                return Err(agent.must_be(wanted));
            };
            let mut section = Section::default();
            for field in agent.fields(SECTION)? {
                section.read(&field)?;
            }
            self.agents.insert(name, section);
        }
        Ok(())
    }
}

impl Section {
    fn read(&mut self, field: &Node<'_>) -> Result<(), FileError> {
        match field.key() {
            "mode" => self.mode = Some(mode(field)?),
            "allow" => self.rules(Effect::Allow, field)?,
            "deny" => self.rules(Effect::Deny, field)?,
            "quota" => self.quota = quota(field)?,
            _ => self.host_quota = quota(field)?,
        }
        Ok(())
    }

    fn rules(&mut self, effect: Effect, field: &Node<'_>) -> Result<(), FileError> {
        for one in field.tables(EGRESS_RULES_MAX)? {
            self.rules.push(table::rule(effect, &one)?);
        }
        match self.rules.len() {
            0..=EGRESS_RULES_MAX => Ok(()),
            _ => Err(field.too_many(EGRESS_RULES_MAX)),
        }
    }
}

impl Quota {
    /// What is set here, and what is not as another one has it.
    fn or(self, other: Self) -> Self {
        Self {
            up_bytes: self.up_bytes.or(other.up_bytes),
            down_bytes: self.down_bytes.or(other.down_bytes),
            requests: self.requests.or(other.requests),
            connections: self.connections.or(other.connections),
            tunnel_seconds: self.tunnel_seconds.or(other.tunnel_seconds),
            idle_seconds: self.idle_seconds.or(other.idle_seconds),
            per_second: self.per_second.or(other.per_second),
        }
    }

    /// The place of a bound by its name.
    fn field(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "up_bytes" => Some(&mut self.up_bytes),
            "down_bytes" => Some(&mut self.down_bytes),
            "requests" => Some(&mut self.requests),
            "connections" => Some(&mut self.connections),
            "tunnel_seconds" => Some(&mut self.tunnel_seconds),
            "idle_seconds" => Some(&mut self.idle_seconds),
            "per_second" => Some(&mut self.per_second),
            _ => None,
        }
    }
}

const QUOTA: &[&str] = &[
    "up_bytes",
    "down_bytes",
    "requests",
    "connections",
    "tunnel_seconds",
    "idle_seconds",
    "per_second",
];

fn quota(node: &Node<'_>) -> Result<Quota, FileError> {
    let mut quota = Quota::default();
    for field in node.fields(QUOTA)? {
        let number = field.number("a whole number, not negative")?;
        if let Some(place) = quota.field(field.key()) {
            *place = Some(number);
        }
    }
    Ok(quota)
}

fn mode(node: &Node<'_>) -> Result<Mode, FileError> {
    let wanted = "`enforce` or `observe`";
    match node.text(wanted)? {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        _ => Err(node.must_be(wanted)),
    }
}

fn nameserver(node: &Node<'_>) -> Result<SocketAddr, FileError> {
    let wanted = "an address, with or without a port, as in `192.0.2.53:53`";
    let text = node.text(wanted)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, DNS_PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) | Err(_) => Err(node.must_be(wanted)),
    }
}

fn fixed(node: &Node<'_>) -> Result<(HostName, IpAddr), FileError> {
    let Ok(name) = node.key().parse::<HostName>() else {
        return Err(node.must_be("a host name"));
    };
    let wanted = "the address of the host, as in `192.0.2.1`";
    match node.text(wanted)?.parse::<Host>() {
        Ok(Host::Address(address)) => Ok((name, address)),
        Ok(Host::Name(_)) | Err(_) => Err(node.must_be(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    const WHOLE: &str = r#"
mode = "observe"

[[allow]]
host = "API.example.com"
schemes = ["https", "wss"]
ports = [443, 8443]
methods = ["GET", "post"]
path = "/v1/"
addresses = ["10.0.0.0/8", "fd00::1"]

[[allow]]
host = "*.example.org"

[[allow]]
host = "2001:db8::/32"
schemes = ["tcp"]

[[deny]]
host = "*.zip"

[quota]
up_bytes = 1_000
requests = 0x10

[host_quota]
connections = 8

[resolver]
nameservers = ["192.0.2.53", "[2001:db8::53]:5353"]

[resolver.hosts]
"db.example.com" = "10.0.0.5"
Cache = "::1"

[trust]
roots = ["ca.pem"]

[agent.reviewer]
mode = "enforce"
quota = { up_bytes = 5, per_second = 2 }

[[agent.reviewer.allow]]
host = "192.0.2.7"
ports = [9000]
"#;

    #[test]
    fn a_whole_file() {
        let file = RulesFile::parse(WHOLE).unwrap();
        let texts = |rules: &Rules| -> Vec<String> {
            let one = |rule: &Rule| format!("{:?} {rule}", rule.effect);
            rules.rules.iter().map(one).collect()
        };
        let everyone = [
            "Allow https+wss://api.example.com:443,8443/v1 GET,POST",
            "Allow *.example.org",
            "Allow tcp://[2001:db8::/32]",
            "Deny *.zip",
        ];
        let other = file.for_agent(&"other".parse().unwrap());
        assert_eq!(texts(&other), everyone);
        assert_eq!(other.mode, Mode::Observe);
        assert_eq!(
            (other.quota.up_bytes, other.quota.requests),
            (Some(1000), Some(16))
        );
        assert_eq!(other.host_quota.connections, Some(8));
        let nets: Vec<_> = other.rules[0]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(nets, ["10.0.0.0/8", "fd00::1/128"]);

        let reviewer = file.for_agent(&"reviewer".parse().unwrap());
        assert_eq!(texts(&reviewer)[..4], everyone);
        assert_eq!(texts(&reviewer)[4..], ["Allow 192.0.2.7:9000"]);
        assert_eq!(reviewer.mode, Mode::Enforce);
        let quota = reviewer.quota;
        assert_eq!(
            (quota.up_bytes, quota.requests, quota.per_second),
            (Some(5), Some(16), Some(2))
        );

        let servers: Vec<_> = file.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
        let hosts: Vec<_> = file
            .hosts
            .iter()
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        assert_eq!(hosts, ["cache ::1", "db.example.com 10.0.0.5"]);
        assert_eq!(file.roots, ["ca.pem"]);
    }

    #[test]
    fn an_empty_file_denies_everything() {
        let rules = RulesFile::parse("")
            .unwrap()
            .for_agent(&"any".parse().unwrap());
        assert_eq!(rules, Rules::default());
    }

    #[test]
    fn rules_outlive_their_file() {
        let rules = RulesFile::parse(WHOLE)
            .unwrap()
            .for_agent(&"reviewer".parse().unwrap());
        let json = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<Rules>(&json).unwrap(), rules);
        expect![[r#"
            {
              "effect": "allow",
              "schemes": [
                "https",
                "wss"
              ],
              "host": {
                "exact": "api.example.com"
              },
              "ports": [
                443,
                8443
              ],
              "methods": [
                "GET",
                "POST"
              ],
              "path": "/v1",
              "addresses": [
                "10.0.0.0/8",
                "fd00::1/128"
              ],
              "text": "https+wss://api.example.com:443,8443/v1 GET,POST"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&rules.rules[0]).unwrap());
    }

    fn check(texts: &[&str], wanted: &Expect) {
        let answer = |text: &&str| format!("{}\n", RulesFile::parse(text).unwrap_err());
        wanted.assert_eq(&texts.iter().map(answer).collect::<String>());
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_is() {
        check(
            &[
                "modes = 1",
                "[[alow]]",
                "\n\n[quotas]",
                "[[allow]]\nhost = \"a.example\"\nport = [1]",
                "[[allow]]\nhost = \"a.example\"\nurl = 1",
                "[quota]\nup = 1",
                "[host_quota]\nrequest = 1",
                "[resolver]\nnameserver = []",
                "[resolvers]",
                "[trust]\nca = []",
                "[agent.a]\nresolver = {}",
                "\"a\\u001b[2J\" = 1",
                "whatever = 1",
            ],
            &expect![[r#"
                line 1: `modes` is not known here; write `mode`
                line 1: `alow` is not known here; write `allow`
                line 3: `quotas` is not known here; write `quota`
                line 3: `port` is not known here; write `ports`
                line 3: `url` is not known here; what can stand here is host, schemes, ports, methods, path, addresses
                line 2: `up` is not known here; what can stand here is up_bytes, down_bytes, requests, connections, tunnel_seconds, idle_seconds, per_second
                line 2: `request` is not known here; write `requests`
                line 2: `nameserver` is not known here; write `nameservers`
                line 1: `resolvers` is not known here; write `resolver`
                line 2: `ca` is not known here; what can stand here is roots
                line 2: `resolver` is not known here; what can stand here is mode, allow, deny, quota, host_quota
                line 1: `a�[2J` is not known here; what can stand here is mode, allow, deny, quota, host_quota, resolver, trust, agent
                line 1: `whatever` is not known here; what can stand here is mode, allow, deny, quota, host_quota, resolver, trust, agent
            "#]],
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        check(
            &[
                "mode = ",
                "mode = \"on\"",
                "mode = 1",
                "allow = 1",
                "[allow]",
                "allow = [1]",
                "[[allow]]",
                "[quota]\nup_bytes = -1",
                "[quota]\nup_bytes = \"1G\"",
                "quota = 1",
                "[resolver]\nnameservers = \"192.0.2.1\"",
                "[resolver]\nnameservers = [\"dns.example\"]",
                "[resolver]\nnameservers = [\"192.0.2.1:0\"]",
                "[resolver.hosts]\n\"a b\" = \"192.0.2.1\"",
                "[resolver.hosts]\na = \"b\"",
                "[trust]\nroots = [1]",
                "[agent.Bad]",
                "agent = 1",
                "a = 1\na = 2",
            ],
            &expect![[r#"
                line 1 is not TOML: string values must be quoted, expected literal string
                line 1: `mode` must be `enforce` or `observe`
                line 1: `mode` must be `enforce` or `observe`
                line 1: `allow` must be a list of tables, as in `[[allow]]`
                line 1: `allow` must be a list of tables, as in `[[allow]]`
                line 1: `allow` must be a table, as in `[allow]`
                line 1: `allow` must be a rule with a `host`
                line 2: `up_bytes` must be a whole number, not negative
                line 2: `up_bytes` must be a whole number, not negative
                line 1: `quota` must be a table, as in `[quota]`
                line 2: `nameservers` must be a list, as in `[…]`
                line 2: `nameservers` must be an address, with or without a port, as in `192.0.2.53:53`
                line 2: `nameservers` must be an address, with or without a port, as in `192.0.2.53:53`
                line 2: `a b` must be a host name
                line 2: `a` must be the address of the host, as in `192.0.2.1`
                line 2: `roots` must be the path of a file
                line 1: `Bad` must be the name of an agent: 1 to 63 of a-z, 0-9 and `-`, first a letter
                line 1: `agent` must be a table, as in `[agent]`
                line 2 is not TOML: duplicate key
            "#]],
        );
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        let rules = [
            "host = \"*\"",
            "host = \"*.co.uk\"",
            "host = \"https://u:p@example.com\"",
            "host = \"example.com:443\"",
            "host = \"https://*.example.com/v1\"",
            "host = 1",
            "host = \"a.example\"\nschemes = [\"htps\"]",
            "host = \"a.example\"\nschemes = [\"gopher\"]",
            "host = \"a.example\"\nschemes = []",
            "host = \"a.example\"\nports = [0]",
            "host = \"a.example\"\nports = [65536]",
            "host = \"a.example\"\nports = 443",
            "host = \"a.example\"\nmethods = [\"GET POST\"]",
            "host = \"a.example\"\npath = \"v1\"",
            "host = \"a.example\"\npath = \"/a/../b\"",
            "host = \"a.example\"\npath = \"/a%2fb\"",
            "host = \"a.example\"\npath = \"/v1/*\"",
            "host = \"a.example\"\naddresses = [\"b.example\"]",
            "host = \"a.example\"\naddresses = [\"10.0.0.1/8\"]",
            "host = \"a.example\"\naddresses = [\"0.0.0.0/0\"]",
            "host = \"a.example\"\nschemes = [\"tcp\"]\npath = \"/a\"",
        ];
        let texts: Vec<_> = rules
            .iter()
            .map(|rule| format!("[[allow]]\n{rule}"))
            .collect();
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        texts.push("[[deny]]\nhost = \"a.example\"\naddresses = [\"10.0.0.1\"]");
        check(
            &texts,
            &expect![[r#"
                line 2: `*` is not a rule: it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`
                line 2: `*.co.uk` is not a rule: anybody can have a name below `co.uk`; write `*.example.co.uk`
                line 2: `https://…@example.com` is not a rule: it has credentials in it; write `https://example.com`
                line 2: `host` must be the host alone, `example.com`; the rest has keys of its own: schemes, ports, path
                line 2: `host` must be the host alone, `*.example.com`; the rest has keys of its own: schemes, ports, path
                line 2: `host` must be a host, as in `api.example.com` or `*.example.com`
                line 3: `schemes` must be some of http, https, ws, wss, tcp; write `https`
                line 3: `schemes` must be some of http, https, ws, wss, tcp
                line 3: `schemes` must be a list of at least one, or left out
                line 3: `ports` must be numbers from 1 to 65535
                line 3: `ports` must be numbers from 1 to 65535
                line 3: `ports` must be a list, as in `[…]`
                line 3: `methods` must be methods, as in `GET`
                line 3: `path` must be a path, as in `/v1`
                line 3: `path` must be `/b` or the like: this one has dot segments
                line 3: `path` must be plain: this one can be read in more than one way
                line 3: `path` must be `/v1` or the like: this one has a `*` and stands for all that is below it anyway
                line 3: `addresses` must be addresses or nets, as in `192.0.2.1` or `192.0.2.0/24`
                line 3: `10.0.0.1/8` is not a rule: its net begins at another address; write `10.0.0.0/8`
                line 3: `0.0.0.0/0` is not a rule: its net is wider than a /8; name the nets, for example `192.0.2.0/24`
                line 1: `allow` must be without `methods` and `path`: bare TCP has none
                line 3: `addresses` must be left out: what a host resolves to is denied by a rule for the addresses
            "#]],
        );
    }

    #[test]
    fn there_are_bounds() {
        let long = "#".repeat(EGRESS_FILE_BYTES_MAX + 1);
        assert_eq!(RulesFile::parse(&long), Err(FileError::Long));
        let rule = "[[allow]]\nhost = \"a.example\"\n";
        let most = rule.repeat(EGRESS_RULES_MAX);
        assert!(RulesFile::parse(&most).is_ok());
        let more = format!("{most}{rule}");
        assert!(matches!(
            RulesFile::parse(&more),
            Err(FileError::Many { .. })
        ));
        let more = format!("{most}[[agent.a.deny]]\nhost = \"b.example\"\n");
        assert!(matches!(
            RulesFile::parse(&more),
            Err(FileError::Many { .. })
        ));
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(matches!(
            RulesFile::parse(&deep),
            Err(FileError::Syntax { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(
            text in any::<String>(),
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "[[allow]]\n", "[[deny]]\n", "[agent.a]\n", "host", "ports", "path", " = ", "[", "]", "{", "}",
                    "\"a.example\"", "\"", "1", "-1", "\n", ",", "\"/..\"", "mode", "quota",
                ]),
                0..12,
            ),
        ) {
            for text in [text, pieces.concat()] {
                if let Err(error) = RulesFile::parse(&text) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}
