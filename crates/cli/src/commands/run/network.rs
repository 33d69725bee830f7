//! What a run may reach, from the command line and from files.

use belljar_base::Kind;
use belljar_policy::egress::{Rule, RuleError, Rules};
use belljar_server::app::network::NetworkRequest;

use crate::arguments::NetworkAsk;
use crate::failure::Failure;

/// What was asked for; none when nothing was, and then nothing is reached.
pub(super) fn request(ask: &NetworkAsk) -> Result<Option<NetworkRequest>, Failure> {
    if ask.allow.is_empty() && ask.deny.is_empty() && ask.publish.is_empty() {
        return Ok(None);
    }
    Ok(Some(NetworkRequest {
        rules: rules(ask).map_err(invalid)?,
        publish: ask.publish.clone(),
        ..NetworkRequest::default()
    }))
}

fn rules(ask: &NetworkAsk) -> Result<Rules, RuleError> {
    let mut rules = Rules::default();
    for text in &ask.allow {
        rules.add(Rule::parse_allow(text)?)?;
    }
    for text in &ask.deny {
        rules.add(Rule::parse_deny(text)?)?;
    }
    Ok(rules)
}

fn invalid(error: RuleError) -> Failure {
    Failure::new(Kind::Invalid, error.to_string())
}
