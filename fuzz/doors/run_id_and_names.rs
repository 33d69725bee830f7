//! Words: each is taken for every kind of id and name there is.

use std::fmt::{Debug, Display};
use std::io;
use std::str::FromStr;

use belljar_base::{AgentName, DatabaseName, RunId, Timestamp, VariableName};

/// An error shows at most 64 characters of the word, and some of its own.
const ERROR_CHARACTERS_MAX: usize = 200;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    if let Some(nanos) = bytes.first_chunk() {
        let time = Timestamp::from_nanos(u64::from_le_bytes(*nanos));
        assert_eq!(time.to_rfc3339().len(), "2026-11-20T00:00:00.000Z".len());
        let id = RunId::new(time, u32::from(bytes.first().copied().unwrap_or(0)));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        look::<RunId>(text);
        look::<AgentName>(text);
        look::<VariableName>(text);
        if let Some(name) = look::<DatabaseName>(text) {
            look::<VariableName>(&name.url_variable());
            assert!(name.path_variable().parse::<VariableName>().is_ok());
        }
    }
    Ok(())
}

/// A word that is accepted is said again as it was; one that is not is shown shortened.
fn look<T: FromStr<Err: Display> + Display + Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(word) => {
            assert_eq!(word.to_string(), text);
            assert!(!text.contains(['/', '\0', '\n', ' ']), "{text:?}");
            Some(word)
        }
        Err(error) => {
            assert!(error.to_string().chars().count() <= ERROR_CHARACTERS_MAX);
            None
        }
    }
}
