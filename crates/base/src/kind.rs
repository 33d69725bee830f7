//! The closed list of error kinds. One table says what each means outside: exit code, HTTP status,
//! whether trying again can help.

/// What sort of failure an error is; every error of every room has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// The state of the world does not allow it now; nothing was changed.
    Conflict,
    /// Policy, or the host's lack of a wall, refuses it.
    Denied,
    /// A bound was reached: disk, memory, budget.
    Exhausted,
    /// Something needed cannot be reached or used now.
    Unavailable,
    /// Our own broken belief.
    Bug,
}

/// The command itself ended the run by reaching a limit.
pub const EXIT_LIMIT: u8 = 124;
/// Belljar failed.
pub const EXIT_FAILED: u8 = 125;
/// Policy refused.
pub const EXIT_REFUSED: u8 = 126;

impl Kind {
    /// The exit code of a command that ends with this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Denied => EXIT_REFUSED,
            Self::Invalid
            | Self::NotFound
            | Self::Conflict
            | Self::Exhausted
            | Self::Unavailable
            | Self::Bug => EXIT_FAILED,
        }
    }

    /// The HTTP status of an answer with this kind.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Exhausted => 429,
            Self::Bug => 500,
            Self::Unavailable => 503,
        }
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Exhausted | Self::Unavailable)
    }

    /// The word for scripts and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
            Self::Bug => "bug",
        }
    }
}

/// Every error of every room says what kind it is.
pub trait HasKind {
    /// The kind, from the closed list.
    fn kind(&self) -> Kind;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_row() {
        let all = [
            (Kind::Invalid, "invalid", 125, 400, false),
            (Kind::NotFound, "not_found", 125, 404, false),
            (Kind::Conflict, "conflict", 125, 409, false),
            (Kind::Denied, "denied", 126, 403, false),
            (Kind::Exhausted, "exhausted", 125, 429, true),
            (Kind::Unavailable, "unavailable", 125, 503, true),
            (Kind::Bug, "bug", 125, 500, false),
        ];
        for (kind, word, exit, status, retry) in all {
            assert_eq!(kind.as_str(), word);
            assert_eq!(kind.exit_code(), exit);
            assert_eq!(kind.http_status(), status);
            assert_eq!(kind.may_retry(), retry);
        }
    }
}
