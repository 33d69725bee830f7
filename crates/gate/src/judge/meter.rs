//! Counts what a run uses of the network, in total and per host, and says when it is too much.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use belljar_base::bounds::{
    EGRESS_CONNECTIONS_DEFAULT, EGRESS_DOWN_BYTES_DEFAULT, EGRESS_HOSTS_MAX,
    EGRESS_IDLE_SECONDS_DEFAULT, EGRESS_PER_SECOND_DEFAULT, EGRESS_REQUESTS_DEFAULT,
    EGRESS_TUNNEL_SECONDS_DEFAULT, EGRESS_UP_BYTES_DEFAULT,
};
use belljar_policy::egress::{Host, Quota, Rules};

use super::refused::Refused;

/// What a run, and each of its hosts, has used so far.
pub(crate) struct Meter {
    began: Instant,
    total: Arc<Usage>,
    hosts: Mutex<HashMap<Host, Arc<Usage>>>,
    /// Shared by the hosts that came after the bound.
    others: Arc<Usage>,
}

/// What one run, or one host of it, has used so far.
#[derive(Default)]
pub(crate) struct Usage {
    up: AtomicU64,
    down: AtomicU64,
    requests: AtomicU64,
    connections: AtomicU64,
    /// The second that is counted, and what began in it.
    second: Mutex<(u64, u64)>,
}

/// One thing that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// A connection.
    Connection,
    /// A request inside a connection.
    Request,
}

/// The two counts that an attempt belongs to.
#[derive(Clone)]
pub(crate) struct Share {
    total: Arc<Usage>,
    host: Arc<Usage>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            total: Arc::default(),
            hosts: Mutex::default(),
            others: Arc::default(),
        }
    }

    /// The counts of a host.
    pub(crate) fn share(&self, host: &Host) -> Share {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = match hosts.get(host) {
            Some(usage) => Arc::clone(usage),
            None if hosts.len() >= EGRESS_HOSTS_MAX => Arc::clone(&self.others),
            None => {
                let usage = Arc::<Usage>::default();
                hosts.insert(host.clone(), Arc::clone(&usage));
                usage
            }
        };
        Share {
            total: Arc::clone(&self.total),
            host: usage,
        }
    }

    /// Counts something that begins, or refuses it.
    pub(crate) fn begin(&self, share: &Share, rules: &Rules, begun: Begun) -> Result<(), Refused> {
        let second = self.began.elapsed().as_secs();
        for (usage, quota) in share.with(rules) {
            usage.rate(second, per_second(quota))?;
        }
        share.take(rules, 1, |usage, quota| match begun {
            Begun::Connection => {
                let limit = quota.connections.unwrap_or(EGRESS_CONNECTIONS_DEFAULT);
                (&usage.connections, limit, "connections")
            }
            Begun::Request => {
                let limit = quota.requests.unwrap_or(EGRESS_REQUESTS_DEFAULT);
                (&usage.requests, limit, "requests")
            }
        })
    }

    /// Bytes out and in, so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let total = &self.total;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&total.up), read(&total.down))
    }
}

impl Share {
    /// Counts bytes on their way out, or refuses them.
    pub(crate) fn up(&self, rules: &Rules, bytes: u64) -> Result<(), Refused> {
        self.take(rules, bytes, |usage, quota| {
            let limit = quota.up_bytes.unwrap_or(EGRESS_UP_BYTES_DEFAULT);
            (&usage.up, limit, "bytes out")
        })
    }

    /// Counts bytes on their way in, or refuses them.
    pub(crate) fn down(&self, rules: &Rules, bytes: u64) -> Result<(), Refused> {
        self.take(rules, bytes, |usage, quota| {
            let limit = quota.down_bytes.unwrap_or(EGRESS_DOWN_BYTES_DEFAULT);
            (&usage.down, limit, "bytes in")
        })
    }

    fn with<'a>(&'a self, rules: &'a Rules) -> [(&'a Usage, &'a Quota); 2] {
        [
            (&*self.total, &rules.quota),
            (&*self.host, &rules.host_quota),
        ]
    }

    /// Takes from both counts, or from neither.
    fn take<'a>(
        &'a self,
        rules: &'a Rules,
        amount: u64,
        of: impl Fn(&'a Usage, &'a Quota) -> (&'a AtomicU64, u64, &'static str),
    ) -> Result<(), Refused> {
        let [(total, quota), (host, host_quota)] = self.with(rules);
        let (count, limit, what) = of(total, quota);
        take(count, amount, limit, what)?;
        let (host_count, limit, what) = of(host, host_quota);
        take(host_count, amount, limit, what).inspect_err(|_refused| {
            count.fetch_sub(amount, Ordering::Relaxed);
        })
    }
}

impl Usage {
    fn rate(&self, second: u64, limit: u64) -> Result<(), Refused> {
        let mut window = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0 != second {
            *window = (second, 0);
        }
        if window.1 >= limit {
            return Err(Refused::quota("requests and connections per second"));
        }
        window.1 += 1;
        Ok(())
    }
}

fn take(count: &AtomicU64, amount: u64, limit: u64, what: &str) -> Result<(), Refused> {
    let before = count.fetch_add(amount, Ordering::Relaxed);
    if before.saturating_add(amount) > limit {
        count.fetch_sub(amount, Ordering::Relaxed);
        return Err(Refused::quota(what));
    }
    Ok(())
}

fn per_second(quota: &Quota) -> u64 {
    quota.per_second.unwrap_or(EGRESS_PER_SECOND_DEFAULT)
}

/// How long one tunnel may live.
pub(crate) fn tunnel_limit(rules: &Rules) -> Duration {
    let of = |quota: &Quota| {
        let limit = quota.tunnel_seconds;
        Duration::from_secs(limit.unwrap_or(EGRESS_TUNNEL_SECONDS_DEFAULT))
    };
    of(&rules.quota).min(of(&rules.host_quota))
}

/// How long a connection may say nothing.
pub(crate) fn idle_limit(rules: &Rules) -> Duration {
    let of = |quota: &Quota| {
        let limit = quota.idle_seconds;
        Duration::from_secs(limit.unwrap_or(EGRESS_IDLE_SECONDS_DEFAULT))
    };
    of(&rules.quota).min(of(&rules.host_quota))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_of_the_host_leaves_the_total_alone() {
        let meter = Meter::new();
        let mut rules = Rules::default();
        rules.quota.up_bytes = Some(100);
        rules.host_quota.up_bytes = Some(60);
        let a = meter.share(&"a.example.com".parse().unwrap());
        let b = meter.share(&"b.example.com".parse().unwrap());
        a.up(&rules, 60).unwrap();
        assert_eq!(a.up(&rules, 1).unwrap_err().code, "egress.quota");
        b.up(&rules, 40).unwrap();
        assert_eq!(b.up(&rules, 1).unwrap_err().code, "egress.quota");
        assert_eq!(meter.bytes(), (100, 0));
    }

    #[test]
    fn rates_and_numbers_end() {
        let meter = Meter::new();
        let mut rules = Rules::default();
        rules.quota.per_second = Some(3);
        let share = meter.share(&"a.example.com".parse().unwrap());
        let begun = |_| meter.begin(&share, &rules, Begun::Request).is_ok();
        // Two seconds may be touched, never more.
        assert!((0..20).map(begun).filter(|ok| *ok).count() <= 6);
        let mut rules = Rules::default();
        rules.host_quota.connections = Some(2);
        let begun = |_| meter.begin(&share, &rules, Begun::Connection).is_ok();
        assert_eq!((0..20).map(begun).filter(|ok| *ok).count(), 2);
    }
}
