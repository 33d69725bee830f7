//! How the ids of users and groups inside a sandbox appear outside.

/// How the ids inside a sandbox appear outside: id N is `base` + N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdShift {
    /// The host id of id 0 inside; 0: not shifted.
    pub base: u32,
}

/// Ids of one sandbox.
const IDS_PER_SANDBOX: u32 = 65_536;

impl IdShift {
    /// The id that a host id in the upper directory stands for. An id that is not the sandbox's
    /// belongs to a file that was copied up and not given to anybody.
    #[must_use]
    pub fn inside(self, id: u32) -> u32 {
        match id.checked_sub(self.base) {
            Some(inside) if inside < IDS_PER_SANDBOX => inside,
            _ => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_sandbox_are_shifted_back() {
        let shift = IdShift { base: 200_000 };
        for (outside, inside) in [
            (200_000, 0),
            (201_000, 1000),
            (265_535, 65_535),
            (265_536, 265_536),
            (1000, 1000),
            (0, 0),
        ] {
            assert_eq!(shift.inside(outside), inside);
        }
        assert_eq!(IdShift::default().inside(1000), 1000);
    }
}
