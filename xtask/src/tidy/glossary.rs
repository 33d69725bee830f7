//! One word per concept: the last column of `docs/glossary.md` lists the words that are not used.

use super::tree::Tree;
use super::{Finding, has_word, markdown};

pub(super) const NAME: &str = "glossary";
const DOCUMENT: &str = "docs/glossary.md";
const LICENCE: &str = "LICENSE";
/// Rows with words to avoid have this many cells: the word, what it means, the words to avoid.
const CELLS: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let finding = |path: &str, line, text| Finding {
        path: path.to_owned(),
        line,
        rule: NAME,
        text,
    };
    let Some(document) = tree.file(DOCUMENT) else {
        return vec![finding(DOCUMENT, 0, "does not exist".to_owned())];
    };
    let mut avoided = Vec::new();
    for row in markdown::rows(&document.text) {
        if row.cells.len() != CELLS {
            let text = "a row is word, meaning, words to avoid".to_owned();
            return vec![finding(DOCUMENT, row.line, text)];
        }
        let words = row.cell(2).split(',').map(str::trim);
        for word in words.filter(|word| !word.is_empty()) {
            avoided.push((word.to_owned(), row.cell(0).to_owned()));
        }
    }
    let mut findings = Vec::new();
    let free = [DOCUMENT, LICENCE];
    for file in tree
        .files
        .iter()
        .filter(|f| !free.contains(&f.path.as_str()))
    {
        for (line, text) in (1..).zip(file.text.lines()) {
            for (word, instead) in avoided.iter().filter(|(word, _)| says(text, word)) {
                let text = format!("says `{word}`; the word is `{instead}`");
                findings.push(finding(&file.path, line, text));
            }
        }
    }
    findings
}

/// Whether a line has the word, small, with a capital or in capitals. `ChangeSet` as the name of a
/// type is two words, and those are right.
fn says(line: &str, word: &str) -> bool {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let capital: String = first.into_iter().chain(letters).collect();
    let spellings = [word, &capital, &word.to_uppercase()];
    spellings.iter().any(|spelling| has_word(line, spelling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avoided_word_is_found_with_its_replacement() {
        let table =
            "| word | meaning | not |\n| - | - | - |\n| gate | the way out | side door, hatch |\n";
        let tree = Tree::of(&[
            (DOCUMENT, table),
            ("a.rs", "// the gate\n// a Hatch\nstruct HatCh;\n"),
            ("b.md", "by the side door\n"),
        ]);
        let texts: Vec<_> = check(&tree).into_iter().map(|f| (f.line, f.text)).collect();
        assert_eq!(
            texts,
            [
                (2, "says `hatch`; the word is `gate`".to_owned()),
                (1, "says `side door`; the word is `gate`".to_owned()),
            ]
        );
    }

    #[test]
    fn a_glossary_of_another_shape_is_refused() {
        let tree = Tree::of(&[(DOCUMENT, "| a | b |\n| - | - |\n| c | d |\n")]);
        assert_eq!(check(&tree).len(), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
