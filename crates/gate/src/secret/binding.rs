//! Where a secret belongs: to which hosts, with which methods, in which place of a request.

use std::fmt;
use std::str::FromStr;

use belljar_base::bounds::{SECRET_HOSTS_MAX, SECRET_PLACES_MAX};
use belljar_base::{HasKind, Kind};
use belljar_policy::egress::{Asked, Host, HostPattern, Rule, Scheme};
use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};

/// Where a secret belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The hosts that may get it.
    pub hosts: Vec<BoundHost>,
    /// With which methods, upper case; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Where in a request it may stand.
    pub places: Vec<Place>,
}

/// A host that may get a secret, over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoundHost {
    pattern: HostPattern,
    port: u16,
}

/// Where in a request a value may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// In this header.
    Header {
        /// Lower case.
        name: String,
        /// What a placeholder that stands alone becomes: `{}` is the value.
        format: String,
    },
    /// In `Authorization`, as the password of this user.
    Basic {
        /// The user.
        user: String,
    },
    /// In this parameter of the query.
    Query {
        /// Its name, decoded.
        name: String,
    },
    /// In this string of a JSON body.
    Json {
        /// A JSON pointer: `/auth/token`.
        pointer: String,
    },
    /// As the key that requests to AWS are signed with.
    Sigv4 {
        /// For example `eu-central-1`.
        region: String,
        /// For example `s3`.
        service: String,
    },
}

/// What was written is no binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {reason}; {remedy}")]
pub struct BindingError {
    text: String,
    what: &'static str,
    reason: String,
    remedy: String,
}

impl HasKind for BindingError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl BindingError {
    fn new(
        text: &str,
        what: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self {
            text: text.chars().take(64).map(clean).collect(),
            what,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl Binding {
    /// A binding, with everything that can be wrong between its parts looked at.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn new(
        hosts: Vec<BoundHost>,
        methods: &[String],
        places: Vec<Place>,
    ) -> Result<Self, BindingError> {
        let methods = methods
            .iter()
            .map(|text| method(text))
            .collect::<Result<_, _>>()?;
        let binding = Self {
            hosts,
            methods,
            places,
        };
        binding.check().map(|()| binding)
    }

    /// What holds for every binding, one that was read from a file as well.
    pub(super) fn check(&self) -> Result<(), BindingError> {
        let refuse = |reason: &str, remedy: &str| {
            Err(BindingError::new(
                "secret set",
                "a whole binding",
                reason,
                remedy,
            ))
        };
        if self.hosts.is_empty() {
            return refuse(
                "it names no host",
                "add for example `--host api.example.com`",
            );
        }
        if self.hosts.len() > SECRET_HOSTS_MAX || self.places.len() > SECRET_PLACES_MAX {
            return refuse(
                "it names too many hosts or places",
                "divide it into two secrets",
            );
        }
        if self.signs().is_some() && self.places.len() > 1 {
            return refuse(
                "a key that signs is never sent",
                "use `--sigv4` without --header, --basic, --query and --json-body",
            );
        }
        if self.places.is_empty() {
            return refuse(
                "it names no place in a request",
                "add for example `--header Authorization --format 'Bearer {}'`",
            );
        }
        Ok(())
    }

    /// Whether something asked for may get the secret.
    pub(super) fn is_for(&self, asked: &Asked<'_>) -> bool {
        // In the clear nobody gets it, whatever the port.
        let sealed = matches!(asked.scheme, Scheme::Https | Scheme::Wss);
        sealed
            && self
                .hosts
                .iter()
                .any(|host| host.is_for(asked.host, asked.port))
    }

    pub(super) fn has_method(&self, asked: &Method) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| method == asked.as_str())
    }

    /// The place that makes it a key that signs.
    pub(super) fn signs(&self) -> Option<&Place> {
        let signs = |place: &&Place| matches!(place, Place::Sigv4 { .. });
        self.places.iter().find(signs)
    }

    /// Whether the value itself travels, so that an answer can repeat it.
    pub(super) fn travels(&self) -> bool {
        self.signs().is_none()
    }

    /// Where it may be sent, as the end of a sentence.
    pub(super) fn belongs(&self) -> String {
        let first = |many: &[String]| match many {
            [] => String::new(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} (or {} more)", rest.len()),
        };
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| format!("to `{host}`"))
            .collect();
        let places: Vec<String> = self.places.iter().map(ToString::to_string).collect();
        let methods = match self.methods.as_slice() {
            [] => String::new(),
            some => format!(" with {}", some.join(" or ")),
        };
        format!("{}{methods} {}", first(&hosts), first(&places))
    }
}

impl BoundHost {
    fn is_for(&self, host: &Host, port: u16) -> bool {
        let same = match (&self.pattern, host) {
            (HostPattern::Exact(name), Host::Name(asked)) => name == asked,
            (HostPattern::Below(base), Host::Name(asked)) => asked.is_below(base),
            (HostPattern::Addresses(net), Host::Address(asked)) => net.contains(asked),
            (HostPattern::Exact(_) | HostPattern::Below(_), Host::Address(_))
            | (HostPattern::Addresses(_), Host::Name(_)) => false,
        };
        same && self.port == port
    }
}

impl FromStr for BoundHost {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: String, remedy: String| {
            BindingError::new(text, "a host for a secret", reason, remedy)
        };
        // The same words as rules have, and the same answers to what is wrong with them.
        let rule = Rule::parse_allow(text).map_err(|error| refuse(error.reason, error.remedy))?;
        if rule.path.is_some() || !rule.methods.is_empty() {
            let remedy = "write the host alone, for example `api.example.com`";
            return Err(refuse(
                "a secret is bound to a whole host".into(),
                remedy.into(),
            ));
        }
        if !matches!(rule.schemes.as_slice(), [] | [Scheme::Https | Scheme::Wss]) {
            let remedy = "write the host alone; it is reached by HTTPS";
            return Err(refuse("a secret travels in TLS only".into(), remedy.into()));
        }
        let port = match rule.ports.as_slice() {
            [] => 443,
            [port] => *port,
            [..] => {
                let remedy = "name each port with its own --host";
                return Err(refuse("it has more than one port".into(), remedy.into()));
            }
        };
        if let HostPattern::Addresses(net) = &rule.host
            && net.prefix_len() != net.max_prefix_len()
        {
            let remedy = "name a host, or each address with its own --host";
            return Err(refuse("it is a whole network".into(), remedy.into()));
        }
        Ok(Self {
            pattern: rule.host,
            port,
        })
    }
}

impl fmt::Display for BoundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            HostPattern::Exact(name) => write!(f, "{name}")?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Addresses(net) if net.addr().is_ipv6() => write!(f, "[{}]", net.addr())?,
            HostPattern::Addresses(net) => write!(f, "{}", net.addr())?,
        }
        match self.port {
            443 => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

impl TryFrom<String> for BoundHost {
    type Error = BindingError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BoundHost> for String {
    fn from(host: BoundHost) -> Self {
        host.to_string()
    }
}

/// Headers that say how a message is framed or where it goes; a value in one would break it.
const FRAMING: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
];

impl Place {
    /// A header, with the format of its value.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn header(name: &str, format: Option<&str>) -> Result<Self, BindingError> {
        let refuse = |reason: &str, remedy: &str| {
            BindingError::new(name, "a header for a secret", reason, remedy)
        };
        let example = "write for example `--header Authorization`";
        let known: HeaderName = name
            .parse()
            .map_err(|_no_name| refuse("a header's name is letters, digits and `-`", example))?;
        if FRAMING.contains(&known.as_str()) {
            return Err(refuse("it says how a message is framed", example));
        }
        let default = if known == http::header::AUTHORIZATION {
            "Bearer {}"
        } else {
            "{}"
        };
        let format = format.unwrap_or(default);
        let refuse = |reason: &str| {
            let remedy = "write for example `--format 'Bearer {}'`";
            Err(BindingError::new(format, "a format", reason, remedy))
        };
        if format.matches("{}").count() != 1 {
            return refuse("`{}` stands once where the value goes");
        }
        if format.len() > 256 || !format.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return refuse("it is at most 256 printable ASCII characters");
        }
        Ok(Self::Header {
            name: known.as_str().to_owned(),
            format: format.to_owned(),
        })
    }

    /// The password of a user.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn basic(user: &str) -> Result<Self, BindingError> {
        if user.len() > 256 || user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(BindingError::new(
                user,
                "a user for basic authentication",
                "a user's name has no colon and no control character",
                "write the user alone, for example `--basic deploy`",
            ));
        }
        Ok(Self::Basic {
            user: user.to_owned(),
        })
    }

    /// A parameter of the query.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn query(name: &str) -> Result<Self, BindingError> {
        if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
            return Err(BindingError::new(
                name,
                "a query parameter",
                "it is 1 to 256 characters",
                "write its name alone, for example `--query api_key`",
            ));
        }
        Ok(Self::Query {
            name: name.to_owned(),
        })
    }

    /// A string in a JSON body: `token`, or `/auth/token` for one that lies deeper.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn json(field: &str) -> Result<Self, BindingError> {
        let pointer = if field.starts_with('/') {
            field.to_owned()
        } else {
            format!("/{}", field.replace('~', "~0"))
        };
        if field.is_empty() || field.len() > 256 || field.contains(char::is_control) {
            return Err(BindingError::new(
                field,
                "a field of a JSON body",
                "it is 1 to 256 characters",
                "write for example `--json-body token` or `--json-body /auth/token`",
            ));
        }
        Ok(Self::Json { pointer })
    }

    /// The key of signatures for AWS.
    ///
    /// # Errors
    /// With the nearest valid form.
    pub fn sigv4(region: &str, service: &str) -> Result<Self, BindingError> {
        let plain = |text: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=64).contains(&text.len()) && text.bytes().all(allowed)
        };
        for (text, what) in [(region, "a region of AWS"), (service, "a service of AWS")] {
            if !plain(text) {
                return Err(BindingError::new(
                    text,
                    what,
                    "it is lower-case letters, digits and `-`",
                    "write for example `--region eu-central-1 --service s3`",
                ));
            }
        }
        Ok(Self::Sigv4 {
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}

impl Place {
    pub(super) fn pointer(&self) -> Option<&str> {
        match self {
            Self::Json { pointer } => Some(pointer),
            Self::Header { .. } | Self::Basic { .. } | Self::Query { .. } | Self::Sigv4 { .. } => {
                None
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, .. } => write!(f, "in the header `{name}`"),
            Self::Basic { user } => write!(f, "as the password of `{user}`"),
            Self::Query { name } => write!(f, "in the query parameter `{name}`"),
            Self::Json { pointer } => write!(f, "in the JSON string `{pointer}` of the body"),
            Self::Sigv4 { region, service } => write!(f, "signed for `{service}` in `{region}`"),
        }
    }
}

fn method(text: &str) -> Result<String, BindingError> {
    let upper = text.to_ascii_uppercase();
    let letters = |b: u8| b.is_ascii_uppercase() || b == b'-';
    if upper.is_empty() || upper.len() > 32 || !upper.bytes().all(letters) {
        return Err(BindingError::new(
            text,
            "a method",
            "a method is a word of letters",
            "write for example `--method GET`",
        ));
    }
    Ok(upper)
}
