//! The known word that somebody may have meant.

/// The known word nearest to `word`, when one is near: at most a third of its letters differ.
pub(super) fn nearest_word<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&&str| strsim::damerau_levenshtein(word, known);
    let found = known.iter().min_by_key(distance)?;
    let near = 3 * distance(&found) <= found.chars().count().max(3);
    near.then_some(*found)
}
