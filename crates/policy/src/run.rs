//! May this run start, and in which isolation class? The class is the one asked for, else the
//! strongest that the host offers; a class that the host lacks is refused, never replaced.

use belljar_base::Refusal;

use crate::{Decision, Isolation};

/// What a decision about a run depends on.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The class asked for, if one was.
    pub asked: Option<Isolation>,
    /// The classes that this host can enforce.
    pub offered: Vec<Isolation>,
}

/// Decides about a run; with `Allow` comes the class it must have.
#[must_use]
pub fn decide_run(facts: &RunFacts) -> (Decision, Option<Isolation>) {
    let strongest = facts.offered.iter().max().copied();
    match (facts.asked, strongest) {
        (Some(asked), _) if facts.offered.contains(&asked) => (
            Decision::allow("run.asked-class", format!("`{asked}` was asked for")),
            Some(asked),
        ),
        (Some(asked), Some(strongest)) => {
            let refusal = Refusal::new(
                "run.class-unavailable",
                format!("this host cannot enforce the isolation class `{asked}`"),
                format!("ask for `{strongest}`, or run `belljar doctor` for what is missing"),
            );
            (Decision::Deny(refusal), None)
        }
        (None, Some(strongest)) => {
            let reason = format!("`{strongest}` is the strongest class of this host");
            (
                Decision::allow("run.strongest-class", reason),
                Some(strongest),
            )
        }
        (_, None) => {
            let refusal = Refusal::new(
                "run.no-class",
                "this host can enforce no isolation class",
                "run `belljar doctor` for what is missing",
            );
            (Decision::Deny(refusal), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decide(asked: Option<Isolation>, offered: &[Isolation]) -> (Decision, Option<Isolation>) {
        decide_run(&RunFacts {
            asked,
            offered: offered.to_vec(),
        })
    }

    #[test]
    fn the_strongest_unless_asked() {
        let offered = [Isolation::Jail, Isolation::Microvm];
        assert_eq!(decide(None, &offered).1, Some(Isolation::Microvm));
        assert_eq!(
            decide(Some(Isolation::Jail), &offered).1,
            Some(Isolation::Jail)
        );
    }

    #[test]
    fn a_missing_class_is_refused_with_the_remedy() {
        let (decision, class) = decide(Some(Isolation::Microvm), &[Isolation::Jail]);
        let Decision::Deny(refusal) = decision else {
            panic!("not denied")
        };
        let text = "this host cannot enforce the isolation class `microvm` \
                    (run.class-unavailable); ask for `jail`, or run `belljar doctor` for what is \
                    missing";
        assert_eq!(refusal.to_string(), text);
        assert_eq!(class, None);
    }

    fn class() -> impl Strategy<Value = Isolation> {
        prop::sample::select(Isolation::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn never_a_class_that_is_not_offered(
            asked in prop::option::of(class()),
            offered in prop::collection::vec(class(), 0..4),
        ) {
            let (decision, class) = decide(asked, &offered);
            prop_assert_eq!(matches!(decision, Decision::Allow { .. }), class.is_some());
            if let Some(class) = class {
                prop_assert!(offered.contains(&class));
                prop_assert!(asked.is_none_or(|asked| asked == class));
            }
        }
    }
}
