//! What a run may reach: this host's own rules, a file of the run's, the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use belljar_base::{AgentName, Kind};
use belljar_gate::Settings as GateSettings;
use belljar_gate::secret::{Secret, SecretName, Surroundings};
use belljar_policy::egress::{Rule, Rules, RulesFile};
use belljar_server::State;
use belljar_server::app::network::NetworkRequest;
use belljar_server::app::run::RunError;
use belljar_server::app::secret::secrets;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::arguments::NetworkAsk;
use crate::failure::Failure;
use crate::settings::{self, Settings};

/// What was asked for; none when nothing was, and then nothing is reached.
pub(super) fn request(
    ask: &NetworkAsk,
    agent: &AgentName,
    settings: &Settings,
) -> Result<Option<NetworkRequest>, Failure> {
    let policy = read_if_there(&settings.network)?;
    let file = ask.file.as_deref().map(read).transpose()?;
    let plain = ask.allow.is_empty() && ask.deny.is_empty() && ask.publish.is_empty();
    if policy.is_none() && file.is_none() && plain && ask.secrets.is_empty() {
        return Ok(None);
    }
    let mut gate = GateSettings::default();
    for (file, folder) in [&policy, &file].into_iter().flatten() {
        configure(&mut gate, file, folder)?;
    }
    let of_agent = |one: Option<(RulesFile, PathBuf)>| {
        one.map(|(file, _)| file.for_agent(agent))
            .unwrap_or_default()
    };
    let mut asked = of_agent(file);
    add(&mut asked, ask)?;
    let rules = of_agent(policy).with(asked).map_err(RunError::Refused)?;
    Ok(Some(NetworkRequest {
        rules,
        settings: gate,
        secrets: Vec::new(),
        publish: ask.publish.clone(),
    }))
}

/// Opens the secrets that the run may use; their sources are asked now.
pub(super) fn open_secrets(
    ask: &NetworkAsk,
    request: &mut NetworkRequest,
    state: &State,
    settings: &Settings,
) -> Result<(), Failure> {
    let names: Result<Vec<SecretName>, _> = ask.secrets.iter().map(|name| name.parse()).collect();
    let around = Surroundings {
        variable: &settings::variable,
        roots: request.settings.roots.clone(),
    };
    let opened: Vec<Secret> = secrets(state, &settings.secrets_key).open(&names?, &around)?;
    request.secrets = opened;
    Ok(())
}

fn add(rules: &mut Rules, ask: &NetworkAsk) -> Result<(), Failure> {
    for text in &ask.allow {
        rules.add(Rule::parse_allow(text)?)?;
    }
    for text in &ask.deny {
        rules.add(Rule::parse_deny(text)?)?;
    }
    Ok(())
}

/// The rules of a file, and the folder that its paths are seen from.
fn read(path: &Path) -> Result<(RulesFile, PathBuf), Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let text = format!("cannot read the rules in `{}`: {error}", path.display());
        Failure::new(Kind::NotFound, text)
    })?;
    let file = RulesFile::parse(&text)
        .map_err(|error| Failure::new(Kind::Invalid, format!("`{}`: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(path).to_path_buf();
    Ok((file, folder))
}

fn read_if_there(path: &Path) -> Result<Option<(RulesFile, PathBuf)>, Failure> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(_) | Err(_) => read(path).map(Some),
    }
}

fn configure(gate: &mut GateSettings, file: &RulesFile, folder: &Path) -> Result<(), Failure> {
    if !file.nameservers.is_empty() {
        gate.nameservers.clone_from(&file.nameservers);
    }
    gate.hosts.extend(file.hosts.iter().cloned());
    for root in &file.roots {
        let path = folder.join(root);
        let refuse = |reason: String| {
            let text = format!("cannot trust `{}`: {reason}", path.display());
            Failure::new(Kind::Invalid, text)
        };
        let pem = fs::read(&path).map_err(|error| refuse(error.to_string()))?;
        let before = gate.roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            gate.roots
                .push(certificate.map_err(|error| refuse(error.to_string()))?);
        }
        if gate.roots.len() == before {
            return Err(refuse("it holds no certificate in PEM".to_owned()));
        }
    }
    Ok(())
}
