//! May this change set become real? A person who asks for a merge has seen the change set or
//! could have; what gives a file new powers is refused all the same unless that is asked for.

use belljar_base::Refusal;

use crate::Decision;

/// What a decision about a merge depends on.
#[derive(Clone, Debug, Default)]
pub struct MergeFacts {
    /// Paths that would get set-user-id or set-group-id bits, or capabilities.
    pub privileged: Vec<String>,
    /// Whether that was asked for.
    pub privileged_asked: bool,
    /// Databases that cannot be merged, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// Decides about a merge.
#[must_use]
pub fn decide_merge(facts: &MergeFacts) -> Decision {
    if let Some((database, reason)) = facts.unreadable.first() {
        return Decision::Deny(Refusal::new(
            "merge.unreadable-database",
            format!("the branch of `{database}` cannot be compared: {reason}"),
            "discard the run; the real database is as it was",
        ));
    }
    if let (Some(path), false) = (facts.privileged.first(), facts.privileged_asked) {
        let more = facts.privileged.len() - 1;
        let others = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        return Decision::Deny(Refusal::new(
            "merge.new-privilege",
            format!("`{path}`{others} would run with more rights than its user"),
            "look at it with `belljar diff`, then merge with --allow-privileged if it is meant",
        ));
    }
    Decision::allow("merge.by-hand", "a person asked for it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_privileges_must_be_asked_for() {
        let mut facts = MergeFacts {
            privileged: vec!["bin/su".into()],
            ..MergeFacts::default()
        };
        let Decision::Deny(refusal) = decide_merge(&facts) else {
            panic!("not denied")
        };
        assert_eq!(refusal.rule, "merge.new-privilege");
        facts.privileged_asked = true;
        assert!(matches!(decide_merge(&facts), Decision::Allow { .. }));
    }

    #[test]
    fn an_unreadable_database_is_not_merged() {
        let facts = MergeFacts {
            unreadable: vec![("shop".into(), "it was replaced by a pipe".into())],
            ..MergeFacts::default()
        };
        let Decision::Deny(refusal) = decide_merge(&facts) else {
            panic!("not denied")
        };
        assert_eq!(refusal.rule, "merge.unreadable-database");
    }
}
