//! `belljar secret`: values that never go into a sandbox. Kept, listed without them, forgotten.

mod input; // a value on standard input

use std::path::PathBuf;
use std::process::ExitCode;

use belljar_base::Kind;
use belljar_gate::secret::{
    Binding, BoundHost, Content, Described, Place, Program, SecretName, SecretNameError, Source,
    Vault,
};
use belljar_server::SystemClock;
use belljar_server::app::secret::{forget, keep, secrets};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::open;
use crate::failure::{Failure, chain};
use crate::report;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(crate) struct SecretAsk {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Keep a secret; its value comes on standard input unless a source is named
    Set(Box<SetAsk>),
    /// List the secrets, without their values
    List {
        /// The list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a secret
    Rm {
        /// Its name
        name: SecretName,
        /// The result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct SetAsk {
    /// Its name; upper-cased it is the variable that holds the placeholder inside
    name: String,
    /// A value has no place on a command line; whoever writes one there is told so.
    #[arg(hide = true, allow_hyphen_values = true)]
    value: Option<std::ffi::OsString>,
    /// A host that may get the value, over TLS
    #[arg(long = "host", value_name = "HOST[:PORT]", required = true)]
    hosts: Vec<BoundHost>,
    /// A method it may be used with [default: any]
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    #[command(flatten)]
    places: PlacesAsk,
    #[command(flatten)]
    source: SourceAsk,
    /// The result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PlacesAsk {
    /// A header that may carry the value [default: Authorization]
    #[arg(long = "header", value_name = "NAME")]
    headers: Vec<String>,
    /// What a placeholder alone in that header becomes [default: {} or, for Authorization, Bearer {}]
    #[arg(long, value_name = "TEXT")]
    format: Option<String>,
    /// The value is the password of this user
    #[arg(long, value_name = "USER")]
    basic: Option<String>,
    /// A parameter of the query that may carry the value
    #[arg(long = "query", value_name = "NAME")]
    queries: Vec<String>,
    /// A string in a JSON body that may carry the value: token, or /auth/token
    #[arg(long = "json-body", value_name = "FIELD")]
    fields: Vec<String>,
    /// The value signs requests to AWS: `ACCESS:SECRET` or `ACCESS:SECRET:SESSION`
    #[arg(long, requires = "region", requires = "service")]
    sigv4: bool,
    /// The region that signatures are for
    #[arg(long, value_name = "REGION", requires = "sigv4")]
    region: Option<String>,
    /// The service that signatures are for
    #[arg(long, value_name = "SERVICE", requires = "sigv4")]
    service: Option<String>,
}

#[derive(Debug, Args)]
struct SourceAsk {
    /// Read the value from this file whenever a run starts
    #[arg(long, value_name = "FILE", group = "from")]
    from_file: Option<PathBuf>,
    /// Read the value from this variable whenever a run starts
    #[arg(long, value_name = "VARIABLE", group = "from")]
    from_env: Option<String>,
    /// Read the value from what a command prints, whenever a run starts; the last option
    #[arg(long, value_name = "CMD", group = "from", num_args = 1.., allow_hyphen_values = true)]
    from_command: Option<Vec<String>>,
    /// Read the value from a vault (KV version 2) whenever a run starts
    #[arg(long, value_name = "URL#FIELD", group = "from")]
    from_vault: Option<String>,
    /// The file with the vault's token [default: the variable VAULT_TOKEN]
    #[arg(long, value_name = "FILE", requires = "from_vault")]
    vault_token_file: Option<PathBuf>,
    /// The variable with the vault's token
    #[arg(long, value_name = "VARIABLE", requires = "from_vault")]
    vault_token_env: Option<String>,
}

impl SecretAsk {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.what {
            What::Set(ask) => ask.json,
            What::List { json } | What::Rm { json, .. } => *json,
        }
    }
}

pub(crate) fn secret(ask: &SecretAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    match &ask.what {
        What::Set(ask) => set(ask, settings),
        What::List { json } => list(*json, settings),
        What::Rm { name, json } => remove(name, *json, settings),
    }
}

fn set(ask: &SetAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let name = name(ask)?;
    let binding = Binding::new(ask.hosts.clone(), &ask.methods, places(&ask.places)?)?;
    let source = source(&ask.source, settings)?;
    // A mistake in what was asked for is said before a value is typed.
    let state = open(settings)?;
    let content = match source {
        Some(source) => Content::From(source),
        None => Content::Given(input::value()?),
    };
    let place = (&state, settings.secrets_key.as_path());
    let replaced = keep(place, &SystemClock, (&name, &binding), content)?;
    let variable = name.variable();
    if ask.json {
        report::json(&json!({
            "secret": name,
            "variable": variable,
            "hosts": binding.hosts,
            "replaced": replaced,
        }));
    } else {
        let what = if replaced { "replaced" } else { "kept" };
        report::say(&format!(
            "{what} `{name}`: `belljar run --secret {name}` puts a placeholder into {variable}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The name, from a command line that says no value: neither does what is answered then.
fn name(ask: &SetAsk) -> Result<SecretName, Failure> {
    let (name, value) = match ask.name.split_once('=') {
        Some((name, _)) => (name, true),
        None => (ask.name.as_str(), ask.value.is_some()),
    };
    let name: SecretName = name
        .parse()
        .map_err(|error: SecretNameError| Failure::new(Kind::Invalid, error.to_string()))?;
    if value {
        let text = format!(
            "a value on the command line can be read by every process of this host; give it on \
             standard input: `belljar secret set {name} … < FILE`"
        );
        return Err(Failure::new(Kind::Invalid, text));
    }
    Ok(name)
}

/// Where a value may stand.
fn places(ask: &PlacesAsk) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    for name in &ask.headers {
        places.push(Place::header(name, ask.format.as_deref())?);
    }
    if let Some(user) = &ask.basic {
        places.push(Place::basic(user)?);
    }
    for name in &ask.queries {
        places.push(Place::query(name)?);
    }
    for field in &ask.fields {
        places.push(Place::json(field)?);
    }
    if let (true, Some(region), Some(service)) = (ask.sigv4, &ask.region, &ask.service) {
        places.push(Place::sigv4(region, service)?);
    }
    if ask.format.is_some() && ask.headers.is_empty() && !places.is_empty() {
        let text = "`--format` is for a header; add for example `--header Authorization`";
        return Err(Failure::new(Kind::Invalid, text));
    }
    if places.is_empty() {
        places.push(Place::header("Authorization", ask.format.as_deref())?);
    }
    Ok(places)
}

/// Where a value is read, if it is not given now.
fn source(ask: &SourceAsk, settings: &Settings) -> Result<Option<Source>, Failure> {
    let absolute = |path: &PathBuf| {
        let from = settings.directory.as_ref();
        let path = from.map_or_else(|| path.clone(), |from| from.join(path));
        if path.is_absolute() && path.to_str().is_some() {
            return Ok(path);
        }
        let text = format!("`{}` is not a path that can be kept", path.display());
        Err(Failure::new(Kind::Invalid, text))
    };
    if let Some(path) = &ask.from_file {
        return Ok(Some(Source::File(absolute(path)?)));
    }
    if let Some(name) = &ask.from_env {
        return Ok(Some(Source::Env(variable(name)?)));
    }
    if let Some(words) = &ask.from_command {
        return Ok(Some(Source::Command(Program::try_from(words.clone())?)));
    }
    let Some(address) = &ask.from_vault else {
        return Ok(None);
    };
    let token = match (&ask.vault_token_file, &ask.vault_token_env) {
        (Some(path), _) => Source::File(absolute(path)?),
        (None, Some(name)) => Source::Env(variable(name)?),
        (None, None) => Source::Env("VAULT_TOKEN".to_owned()),
    };
    Ok(Some(Source::Vault(Vault::new(address, token)?)))
}

fn variable(text: &str) -> Result<String, Failure> {
    let name: Result<belljar_base::VariableName, _> = text.parse();
    name.map(Into::into)
        .map_err(|error| Failure::new(Kind::Invalid, error.to_string()))
}

fn list(json: bool, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let (known, broken) = secrets(&state, &settings.secrets_key).list()?;
    for error in &broken {
        report::complain(&format!("belljar: {}", chain(error)));
    }
    if json {
        let all: Vec<Value> = known.iter().map(as_json).collect();
        report::json(&json!(all));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["SECRET", "VARIABLE", "HOSTS", "PLACE", "VALUE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(known.iter().map(row));
    report::table(&rows);
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Described) -> Vec<String> {
    let hosts: Vec<String> = one.binding.hosts.iter().map(ToString::to_string).collect();
    let places: Vec<String> = one.binding.places.iter().map(ToString::to_string).collect();
    let mut places = places.join(", ");
    if !one.binding.methods.is_empty() {
        places += &format!(" ({})", one.binding.methods.join(", "));
    }
    let value = one
        .source
        .as_ref()
        .map_or("kept".to_owned(), ToString::to_string);
    let (name, variable) = (one.name.to_string(), one.name.variable());
    vec![name, variable, hosts.join(", "), places, value]
}

fn as_json(one: &Described) -> Value {
    json!({
        "secret": one.name,
        "variable": one.name.variable(),
        "hosts": one.binding.hosts,
        "methods": one.binding.methods,
        "places": one.binding.places,
        "source": one.source,
        "set": one.set.to_rfc3339(),
    })
}

fn remove(name: &SecretName, json: bool, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    forget((&state, settings.secrets_key.as_path()), &SystemClock, name)?;
    if json {
        report::json(&json!({ "secret": name, "removed": true }));
    } else {
        report::say(&format!("forgot `{name}`"));
    }
    Ok(ExitCode::SUCCESS)
}
