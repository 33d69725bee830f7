//! What was answered lately, for at least a moment and at most a while, whatever the answer says of
//! itself. Full, it forgets one entry for each that it takes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use belljar_base::bounds::{
    RESOLVED_NAMES_MAX, RESOLVED_SECONDS_MAX, RESOLVED_SECONDS_MIN, UNRESOLVED_SECONDS_MAX,
};
use belljar_policy::egress::HostName;
use tokio::time::Instant;

use super::{ResolveError, Resolved};

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<HostName, Entry>,
}

#[derive(Debug)]
struct Entry {
    addresses: Result<Arc<[IpAddr]>, ResolveError>,
    until: Instant,
}

impl Cache {
    /// What was answered for `name`, if that still holds at `now`.
    pub(super) fn get(
        &self,
        name: &HostName,
        now: Instant,
    ) -> Option<Result<Arc<[IpAddr]>, ResolveError>> {
        let entry = self.entries.get(name)?;
        (now < entry.until).then(|| entry.addresses.clone())
    }

    /// Keeps an answer that came at `now`.
    pub(super) fn put(&mut self, name: &HostName, resolved: &Resolved, now: Instant) {
        if self.entries.len() >= RESOLVED_NAMES_MAX && !self.entries.contains_key(name) {
            // The map's order is random; so is the one that goes.
            if let Some(gone) = self.entries.keys().next().cloned() {
                self.entries.remove(&gone);
            }
        }
        let most = match resolved.addresses {
            Ok(_) => RESOLVED_SECONDS_MAX,
            Err(_) => UNRESOLVED_SECONDS_MAX,
        };
        let seconds = resolved.seconds.clamp(RESOLVED_SECONDS_MIN, most);
        let entry = Entry {
            addresses: resolved.addresses.clone(),
            until: now + Duration::from_secs(u64::from(seconds)),
        };
        self.entries.insert(name.clone(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn found(seconds: u32) -> Resolved {
        Resolved {
            addresses: Ok([IpAddr::from([192, 0, 2, 1])].into()),
            seconds,
        }
    }

    fn missing(seconds: u32) -> Resolved {
        Resolved {
            addresses: Err(ResolveError::NoName(name("a.example.com"))),
            seconds,
        }
    }

    #[test]
    fn an_answer_is_kept_within_bounds() {
        let rows = [
            (found(0), RESOLVED_SECONDS_MIN),
            (found(60), 60),
            (found(u32::MAX), RESOLVED_SECONDS_MAX),
            (missing(0), RESOLVED_SECONDS_MIN),
            (missing(5), 5),
            (missing(u32::MAX), UNRESOLVED_SECONDS_MAX),
        ];
        for (resolved, seconds) in rows {
            let (mut cache, now) = (Cache::default(), Instant::now());
            let name = name("a.example.com");
            cache.put(&name, &resolved, now);
            let end = now + Duration::from_secs(u64::from(seconds));
            let before = end - Duration::from_nanos(1);
            assert_eq!(cache.get(&name, before), Some(resolved.addresses));
            assert_eq!(cache.get(&name, end), None);
        }
    }

    #[test]
    fn a_full_cache_forgets_one_for_each_it_takes() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for at in 0..RESOLVED_NAMES_MAX + 100 {
            cache.put(&name(&format!("n{at}.example.com")), &found(60), now);
        }
        assert_eq!(cache.entries.len(), RESOLVED_NAMES_MAX);
        let last = name(&format!("n{}.example.com", RESOLVED_NAMES_MAX + 99));
        assert!(cache.get(&last, now).is_some());
    }
}
