//! `belljar doctor`: what this host can enforce, and how to get the rest. It ends with the proof:
//! a real sandbox that looks at itself from inside.

use std::process::ExitCode;
use std::sync::Arc;

use belljar_base::Clock;
use belljar_base::{EXIT_REFUSED, Kind, RunId};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::network::Network;
use belljar_sandbox::{Backend, Finding, Host, Limits, Spec, StartError, Template};
use belljar_server::SystemClock;
use serde_json::{Value, json};

use super::run::chance;
use crate::arguments::DoctorAsk;
use crate::failure::{Failure, chain};
use crate::report;
use crate::settings::Settings;

pub(crate) fn doctor(ask: &DoctorAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let host = Host::probe().map_err(|error| {
        Failure::new(
            Kind::Unavailable,
            format!("cannot look at this host: {error}"),
        )
    })?;
    let host = Arc::new(host);
    let findings = host.findings();
    let proof = prove(settings, &host, Network::None);
    let network = prove(settings, &host, Network::Gated);
    let closed = proof.is_ok() && findings.iter().all(|finding| finding.refusal.is_none());
    if ask.json {
        report::json(&json!({
            "jail": closed,
            "findings": findings.iter().map(as_json).collect::<Vec<_>>(),
            "proof": proof.as_ref().map_or_else(Clone::clone, |()| "closed".to_owned()),
            "network": network.as_ref().map_or_else(Clone::clone, |()| "gated".to_owned()),
        }));
    } else {
        report::table(&findings.iter().flat_map(rows).collect::<Vec<_>>());
        match &proof {
            Ok(()) => report::say(
                "proof       held     a sandbox was started, and every probe from inside that must fail has failed",
            ),
            Err(why) => report::say(&format!("proof       MISSING  {why}")),
        }
        match &network {
            Ok(()) => report::say(
                "gate        held     another was started, whose network leads to the gate alone",
            ),
            Err(why) => report::say(&format!(
                "gate        MISSING  {why}; without it a run reaches nothing"
            )),
        }
    }
    Ok(if closed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_REFUSED)
    })
}

/// Starts a sandbox as a run would, and ends it.
fn prove(settings: &Settings, host: &Arc<Host>, network: Network) -> Result<(), String> {
    let folder = settings.state.join("templates");
    let template = Template::host(&folder, host).map_err(|error| chain(&error))?;
    let jail = Jail::new(Arc::clone(host));
    let chance = chance().map_err(|failure| failure.text().to_owned())?;
    let spec = Spec {
        id: RunId::new(SystemClock.now(), chance),
        branches: Vec::new(),
        reads: Vec::new(),
        writes: Vec::new(),
        shows: Vec::new(),
        network,
        limits: Limits::defaults(host.memory_bytes),
    };
    let mut sandbox = jail
        .start(&spec, &template)
        .map_err(|error: StartError| chain(&error))?;
    sandbox.end().map(drop).map_err(|error| error.to_string())
}

fn rows(finding: &Finding) -> Vec<Vec<String>> {
    let state = match (&finding.refusal, &finding.weaker) {
        (Some(_), _) => "MISSING",
        (None, Some(_)) => "weaker",
        (None, None) => "held",
    };
    let first = vec![
        finding.wall.to_owned(),
        state.to_owned(),
        finding.found.clone(),
    ];
    let remedy = finding
        .refusal
        .as_ref()
        .map(|refusal| refusal.remedy.clone());
    let more = remedy.or_else(|| finding.weaker.clone());
    let more = more.map(|text| vec![String::new(), String::new(), format!("→ {text}")]);
    [first].into_iter().chain(more).collect()
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "wall": finding.wall,
        "found": finding.found,
        "held": finding.refusal.is_none(),
        "remedy": finding.refusal.as_ref().map(|refusal| &refusal.remedy),
        "weaker": finding.weaker,
    })
}
