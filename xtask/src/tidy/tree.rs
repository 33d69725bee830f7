//! The files the rules look at: every text of the repository that a person wrote.

use std::path::Path;

use crate::metadata::Metadata;
use crate::shell::Failure;

/// The repository as the rules see it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Where it lies on this machine: the one path that no file may mention.
    pub(super) place: String,
    /// The files, sorted by path.
    pub(super) files: Vec<File>,
    /// The packages.
    pub(super) metadata: Metadata,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// From the repository's root, with `/`.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
}

/// Directories that hold nothing a person wrote.
const PASSED_OVER: &[&str] = &["target", ".git", "proptest-regressions", "node_modules"];
/// Files a program wrote.
const GENERATED: &[&str] = &["Cargo.lock"];

impl Tree {
    /// Reads the repository at `root`.
    ///
    /// # Errors
    /// When a directory or cargo cannot be read.
    pub(super) fn load(root: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        collect(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            place: root.to_string_lossy().into_owned(),
            files,
            metadata: Metadata::load()?,
        })
    }

    /// The Rust sources.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The file at `path`.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// A tree of these files, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        Self {
            place: "/machine/checkout".to_owned(),
            files,
            metadata: Metadata::default(),
        }
    }
}

impl File {
    /// Whether the file is a test as a whole: under `tests/`.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests")
    }

    /// The lines before the first inline test module.
    pub(super) fn without_tests(&self) -> &str {
        self.text
            .split_once("#[cfg(test)]\nmod ")
            .map_or(self.text.as_str(), |(before, _tests)| before)
    }

    /// The names of the tests in this file, each with its line.
    pub(super) fn tests(&self) -> Vec<(usize, String)> {
        let mut tests = Vec::new();
        let mut marked = false;
        for (number, line) in (1..).zip(self.text.lines()) {
            let line = line.trim();
            if line == "#[test]" {
                marked = true;
            } else if let Some(name) = marked.then(|| function_name(line)).flatten() {
                tests.push((number, name.to_owned()));
                marked = false;
            }
        }
        tests
    }
}

/// The name in `fn name(…`.
fn function_name(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("fn ")?;
    rest.split_once('(').map(|(name, _)| name.trim())
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<File>) -> Result<(), Failure> {
    let unreadable =
        |error| Failure::new(format!("cannot read `{}`: {error}", directory.display()));
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() && !PASSED_OVER.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && !GENERATED.contains(&name.as_str()) {
            // What is not text (a recorded database, say) has no words to check.
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_mark() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[test]\n#[should_panic]\nfn three() {}\n";
        let tree = Tree::of(&[("a.rs", text)]);
        let names = tree.file("a.rs").unwrap().tests();
        assert_eq!(names, [(2, "one".to_owned()), (6, "three".to_owned())]);
    }

    #[test]
    fn a_directory_is_read_without_what_programs_wrote() {
        let root = tempfile::tempdir().unwrap();
        for name in ["src/a.rs", "target/b.rs", "Cargo.lock"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(root.path().join("blob"), [0xff, 0xfe]).unwrap();
        let mut files = Vec::new();
        collect(root.path(), "", &mut files).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["src/a.rs"]);
    }
}
