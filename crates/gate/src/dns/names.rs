//! The table of a run: allowed name ↔ synthetic address. An address stands for its name as long as
//! the run lives; none is ever given to another name, so a connection cannot end up elsewhere than
//! where the name it began with leads.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

use belljar_base::bounds::DNS_NAMES_MAX;
use belljar_policy::egress::HostName;

/// 198.18.0.0/15 is set apart for measuring devices and routed nowhere (RFC 2544).
const BASE: u32 = 0xC612_0000;
/// Of each 256 addresses, .0 and .255 are left out: old software takes them for no host's.
const HOSTS: u32 = 254;

/// Which synthetic address stands for which name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_place: Vec<Arc<HostName>>,
    by_name: HashMap<Arc<HostName>, u32>,
}

impl Names {
    /// The address that stands for `name`, a new one if it has none yet; nothing when the table
    /// is full.
    pub(crate) fn address_of(&self, name: &HostName) -> Option<Ipv4Addr> {
        let known = self.read(|table| table.by_name.get(name).copied());
        let place = match known {
            Some(place) => place,
            None => self.add(name)?,
        };
        Some(address(place))
    }

    /// The name that `address` stands for.
    pub(crate) fn name_of(&self, address: Ipv4Addr) -> Option<HostName> {
        let place = usize::try_from(place(address)?).ok()?;
        self.read(|table| table.by_place.get(place).map(|name| HostName::clone(name)))
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, name: &HostName) -> Option<u32> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have added it since it was looked for.
        if let Some(place) = table.by_name.get(name) {
            return Some(*place);
        }
        if table.by_place.len() >= DNS_NAMES_MAX {
            return None;
        }
        let place = u32::try_from(table.by_place.len()).ok()?;
        let name = Arc::new(name.clone());
        table.by_place.push(Arc::clone(&name));
        table.by_name.insert(name, place);
        Some(place)
    }
}

fn address(place: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(BASE + place / HOSTS * 256 + place % HOSTS + 1)
}

fn place(address: Ipv4Addr) -> Option<u32> {
    let offset = address.to_bits().checked_sub(BASE)?;
    let host = (offset % 256).checked_sub(1).filter(|host| *host < HOSTS)?;
    Some(offset / 256 * HOSTS + host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_stands_for_its_name_for_ever() {
        let names = Names::default();
        let first = names.address_of(&name("a.example.com")).unwrap();
        let second = names.address_of(&name("b.example.com")).unwrap();
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(second, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(names.address_of(&name("a.example.com")), Some(first));
        assert_eq!(names.name_of(first), Some(name("a.example.com")));
        assert_eq!(names.name_of(second), Some(name("b.example.com")));
        assert_eq!(names.name_of(Ipv4Addr::new(198, 18, 0, 3)), None);
        assert_eq!(names.name_of(Ipv4Addr::new(198, 18, 0, 0)), None);
        assert_eq!(names.name_of(Ipv4Addr::new(10, 0, 0, 1)), None);
        assert_eq!(names.name_of(Ipv4Addr::BROADCAST), None);
    }

    #[test]
    fn every_place_is_an_address_of_its_own_inside_the_block() {
        for at in 0..u32::try_from(DNS_NAMES_MAX).unwrap() {
            let address = address(at);
            assert_eq!(place(address), Some(at));
            let [a, b, _, d] = address.octets();
            assert!(a == 198 && (b == 18 || b == 19) && d != 0 && d != 255);
        }
    }

    #[test]
    fn a_full_table_takes_no_more_and_forgets_none() {
        let names = Names::default();
        for at in 0..DNS_NAMES_MAX {
            assert!(
                names
                    .address_of(&name(&format!("n{at}.example.com")))
                    .is_some()
            );
        }
        assert_eq!(names.address_of(&name("late.example.com")), None);
        let first = Ipv4Addr::new(198, 18, 0, 1);
        assert_eq!(names.address_of(&name("n0.example.com")), Some(first));
        assert_eq!(names.name_of(first), Some(name("n0.example.com")));
    }

    #[test]
    fn threads_that_ask_at_once_are_told_the_same() {
        let names = Names::default();
        let told: Vec<_> = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| names.address_of(&name("a.example.com")));
            let asked: Vec<_> = (0..8).map(|_| ask()).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(told.iter().all(|one| *one == told[0] && one.is_some()));
    }
}
