//! What this host's policy says of a run, and what the run asks for itself.

use belljar_base::Refusal;

use super::rule::{Mode, Quota, Rules};

impl Rules {
    /// What holds for a run that asks for something itself: the rules of both, where what either
    /// denies is denied; of each quota the smaller; observed only where this policy observes.
    ///
    /// # Errors
    /// When the run asks to be observed only, and this policy enforces.
    pub fn with(self, asked: Self) -> Result<Self, Refusal> {
        if asked.mode == Mode::Observe && self.mode == Mode::Enforce {
            return Err(Refusal::new(
                "egress.observe-not-permitted",
                "the policy of this host enforces its rules",
                "ask for the hosts with --allow, or set `mode = \"observe\"` in this host's \
                 network.toml",
            ));
        }
        let mut own_addresses = self.own_addresses;
        own_addresses.extend(asked.own_addresses);
        Ok(Self {
            mode: self.mode,
            rules: self.rules.into_iter().chain(asked.rules).collect(),
            quota: self.quota.smaller(asked.quota),
            host_quota: self.host_quota.smaller(asked.host_quota),
            own_addresses,
        })
    }
}

impl Quota {
    /// Of each bound the smaller one; one that only one side sets holds.
    fn smaller(self, other: Self) -> Self {
        let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            up_bytes: least(self.up_bytes, other.up_bytes),
            down_bytes: least(self.down_bytes, other.down_bytes),
            requests: least(self.requests, other.requests),
            connections: least(self.connections, other.connections),
            tunnel_seconds: least(self.tunnel_seconds, other.tunnel_seconds),
            idle_seconds: least(self.idle_seconds, other.idle_seconds),
            per_second: least(self.per_second, other.per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Rule;

    fn rules(mode: Mode, allow: &str, requests: Option<u64>) -> Rules {
        Rules {
            mode,
            rules: vec![Rule::parse_allow(allow).unwrap()],
            quota: Quota {
                requests,
                ..Quota::default()
            },
            ..Rules::default()
        }
    }

    #[test]
    fn both_sides_hold() {
        let policy = rules(Mode::Enforce, "a.example", Some(10));
        let both = policy
            .with(rules(Mode::Enforce, "b.example", Some(20)))
            .unwrap();
        assert_eq!(both.rules.len(), 2);
        assert_eq!(both.quota.requests, Some(10));
        let policy = rules(Mode::Enforce, "a.example", None);
        let both = policy
            .with(rules(Mode::Enforce, "b.example", Some(20)))
            .unwrap();
        assert_eq!(both.quota.requests, Some(20));
    }

    #[test]
    fn a_run_cannot_loosen_what_is_enforced() {
        let policy = rules(Mode::Enforce, "a.example", None);
        let refusal = policy
            .with(rules(Mode::Observe, "b.example", None))
            .unwrap_err();
        assert_eq!(refusal.rule, "egress.observe-not-permitted");
        let policy = rules(Mode::Observe, "a.example", None);
        let both = policy
            .with(rules(Mode::Enforce, "b.example", None))
            .unwrap();
        assert_eq!(both.mode, Mode::Observe);
    }
}
