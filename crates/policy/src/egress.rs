//! May this leave a sandbox? Default deny; a denying rule wins over every allowing one.
//!
//! Three questions are asked, each on canonical values: may this name be resolved, may this address
//! be dialled for it, may this connection or request pass.

mod host; // names and addresses in one canonical form
mod address; // which addresses are nobody's to dial unless a rule names them
mod path; // paths in one canonical form
mod rule; // what a rule says
mod text; // a rule as the command line has it
mod file; // rules as a file has them
mod combine; // this host's policy, and what a run asks for
mod decide; // the three questions
mod refuse; // the words of a refusal
mod nearest; // the known word that somebody may have meant

pub use address::{Sort, sort_of};
pub use decide::{
    Asked, Request, decide_address, decide_connection, decide_name, decide_request, is_observed,
    judged_path, terminates,
};
pub use file::{FileError, RulesFile};
pub use host::{Host, HostError, HostName};
pub use path::{PathError, canonical_path};
pub use rule::{Effect, HostPattern, Mode, Quota, Rule, RuleError, Rules, Scheme};
