//! Secrets at rest: one sealed file each, with a key that lies outside of the state directory.
//! `docs/formats/secrets.md` describes both.

mod key; // the key, and what is sealed with it
mod file; // one secret's file
mod error; // what can be wrong with them

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use belljar_base::Timestamp;
use belljar_base::bounds::{SECRETS_KEPT_MAX, SECRETS_MAX};

pub use self::error::StoreError;
pub use self::file::Described;
use self::file::Kept;
use self::key::Key;
use super::process::leave_no_core;
use super::source::{Source, Surroundings};
use super::{Binding, Secret, SecretName, Value};

/// The secrets of a user.
#[derive(Clone, Debug)]
pub struct SecretStore {
    folder: PathBuf,
    key: PathBuf,
}

/// What a secret is set to.
#[derive(Debug)]
pub enum Content {
    /// This value.
    Given(Value),
    /// What a source says whenever a run starts.
    From(Source),
}

impl SecretStore {
    /// The secrets in a directory, sealed with the key in a file. Neither needs to exist.
    #[must_use]
    pub fn new(folder: PathBuf, key: PathBuf) -> Self {
        Self { folder, key }
    }

    /// Keeps a secret; whether there was one of that name, which it replaces.
    ///
    /// # Errors
    /// When it cannot be kept; what was there is there still.
    pub fn set(
        &self,
        name: &SecretName,
        binding: &Binding,
        content: Content,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        leave_no_core().map_err(StoreError::Core)?;
        let names = self.names()?;
        let known = names.contains(name);
        let clash = names
            .iter()
            .find(|other| *other != name && other.variable() == name.variable());
        if let Some(other) = clash {
            return Err(StoreError::Clash {
                name: name.clone(),
                other: other.clone(),
                variable: name.variable(),
            });
        }
        if !known && names.len() >= SECRETS_KEPT_MAX {
            return Err(StoreError::TooMany(SECRETS_KEPT_MAX));
        }
        let (source, value) = match content {
            Content::Given(value) => (None, Some(value)),
            Content::From(source) => (Some(source), None),
        };
        // The binding and the value are looked at together once, before anything is kept.
        if let Some(value) = &value {
            super::fits(binding, value.bytes()).map_err(|source| StoreError::Value {
                name: name.clone(),
                source,
            })?;
        }
        self.check_places()?;
        let key = match Key::read(&self.key)? {
            Some(key) => key,
            None if names.is_empty() => Key::make(&self.key)?,
            None => {
                return Err(StoreError::NoKey {
                    path: self.key.clone(),
                });
            }
        };
        let kept = Kept::seal(&key, name, binding, source, value.as_ref(), now)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| file::write(&self.path(name), kept.bytes()))
            .map_err(|source| StoreError::Write {
                path: self.path(name),
                source,
            })?;
        Ok(known)
    }

    /// Every secret, without its value, in the order of names; and what is wrong with others.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Described>, Vec<StoreError>), StoreError> {
        let (mut known, mut broken) = (Vec::new(), Vec::new());
        let names = self.names()?;
        if names.is_empty() {
            return Ok((known, broken));
        }
        leave_no_core().map_err(StoreError::Core)?;
        let key = self.key()?;
        for name in &names {
            match self.read(name).and_then(|kept| kept.open(&key, name)) {
                Ok((described, _)) => known.push(described),
                Err(error) => broken.push(error),
            }
        }
        Ok((known, broken))
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be removed.
    pub fn remove(&self, name: &SecretName) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write {
            path: self.path(name),
            source,
        };
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.unknown(name)),
            Err(error) => Err(failed(error)),
            Ok(()) => sync(&self.folder).map_err(failed),
        }
    }

    /// Whether there is a secret of that name.
    ///
    /// # Errors
    /// With the nearest name, when there is none.
    pub fn check(&self, name: &SecretName) -> Result<(), StoreError> {
        if self.names()?.contains(name) {
            return Ok(());
        }
        Err(self.unknown(name))
    }

    /// Opens secrets for one run. Sources are asked now.
    ///
    /// # Errors
    /// When one of them cannot be opened; then none is.
    pub fn open(
        &self,
        names: &[SecretName],
        around: &Surroundings<'_>,
    ) -> Result<Vec<Secret>, StoreError> {
        let mut wanted: Vec<&SecretName> = Vec::new();
        for name in names {
            self.check(name)?;
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        if wanted.len() > SECRETS_MAX {
            return Err(StoreError::TooMany(SECRETS_MAX));
        }
        leave_no_core().map_err(StoreError::Core)?;
        let key = self.key()?;
        wanted
            .into_iter()
            .map(|name| self.open_one(&key, name, around))
            .collect()
    }

    fn open_one(
        &self,
        key: &Key,
        name: &SecretName,
        around: &Surroundings<'_>,
    ) -> Result<Secret, StoreError> {
        let failed = |source| StoreError::Value {
            name: name.clone(),
            source,
        };
        let (described, value) = self.read(name)?.open(key, name)?;
        let value = match (described.source, value) {
            (None, Some(value)) => value,
            (Some(source), None) => source.read(around).map_err(|source| StoreError::Source {
                name: name.clone(),
                source,
            })?,
            (None, None) | (Some(_), Some(_)) => return Err(StoreError::broken(name)),
        };
        Secret::new(name.clone(), described.binding, value).map_err(failed)
    }

    fn key(&self) -> Result<Key, StoreError> {
        Key::read(&self.key)?.ok_or_else(|| StoreError::NoKey {
            path: self.key.clone(),
        })
    }

    fn read(&self, name: &SecretName) -> Result<Kept, StoreError> {
        let path = self.path(name);
        match file::read(&path) {
            Ok(bytes) => Ok(Kept::from(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.unknown(name)),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn unknown(&self, name: &SecretName) -> StoreError {
        let names = self.names().unwrap_or_default();
        StoreError::Unknown {
            name: name.clone(),
            nearest: SecretName::nearest(name.as_str(), &names).cloned(),
            any: !names.is_empty(),
        }
    }

    /// The names of all secrets, in order.
    fn names(&self) -> Result<Vec<SecretName>, StoreError> {
        let failed = |source| StoreError::Read {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?.file_name();
            let name = entry.to_str().and_then(|name| name.strip_suffix(".secret"));
            names.extend(name.and_then(|name| name.parse::<SecretName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        self.folder.join(format!("{name}.secret"))
    }

    /// A key beside what it seals would protect nothing.
    fn check_places(&self) -> Result<(), StoreError> {
        let state = self.folder.parent().unwrap_or(&self.folder);
        if self.key.starts_with(state) {
            return Err(StoreError::KeyInside {
                path: self.key.clone(),
            });
        }
        Ok(())
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::secret::Place;
    use expect_test::{Expect, expect};

    const VALUE: &str = "sk-live-0123456789";

    struct Stage {
        folder: tempfile::TempDir,
        store: SecretStore,
    }

    fn stage() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::new(
            folder.path().join("state/secrets"),
            folder.path().join("config/secrets.key"),
        );
        Stage { folder, store }
    }

    fn binding(host: &str) -> Binding {
        let places = vec![Place::header("Authorization", None).unwrap()];
        Binding::new(vec![host.parse().unwrap()], &[], places).unwrap()
    }

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    fn nothing() -> Surroundings<'static> {
        Surroundings {
            variable: &|_name| None,
            roots: Vec::new(),
        }
    }

    impl Stage {
        fn set(&self, text: &str, value: &str) -> Result<bool, StoreError> {
            let content = Content::Given(Value::copy(value.as_bytes()).unwrap());
            let at = Timestamp::from_millis(1000);
            self.store
                .set(&name(text), &binding("example.com"), content, at)
        }

        fn from(&self, source: Source) -> Result<String, String> {
            let at = Timestamp::from_millis(1000);
            let one = name("API_KEY");
            self.store
                .set(&one, &binding("example.com"), Content::From(source), at)
                .unwrap();
            self.value("API_KEY")
        }

        fn value(&self, text: &str) -> Result<String, String> {
            let around = Surroundings {
                variable: &|name| (name == "SET").then(|| OsString::from(VALUE)),
                roots: Vec::new(),
            };
            let secrets = self.store.open(&[name(text)], &around);
            let secrets = secrets.map_err(|error| told(&error))?;
            Ok(String::from_utf8(secrets[0].value.bytes().to_vec()).unwrap())
        }

        #[track_caller]
        fn fails(&self, text: &str, expected: &Expect) {
            let told = self.value(text).unwrap_err();
            expected.assert_eq(&told.replace(self.folder.path().to_str().unwrap(), "DIR"));
        }

        fn file(&self, text: &str) -> PathBuf {
            self.folder
                .path()
                .join(format!("state/secrets/{text}.secret"))
        }
    }

    fn told(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        assert!(!text.contains(VALUE), "{text}");
        text
    }

    #[test]
    fn what_is_kept_comes_back() {
        let stage = stage();
        assert!(!stage.set("API_KEY", VALUE).unwrap());
        assert!(!stage.set("OTHER", "another value").unwrap());
        assert_eq!(stage.value("API_KEY").unwrap(), VALUE);
        assert!(stage.set("API_KEY", "a newer value").unwrap());
        assert_eq!(stage.value("API_KEY").unwrap(), "a newer value");
        let (known, broken) = stage.store.list().unwrap();
        let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names, broken.len()), (vec!["API_KEY", "OTHER"], 0));
        let shown = format!("{known:?} {}", serde_json::to_string(&known).unwrap());
        assert!(!shown.contains("value"), "{shown}");
        stage.store.remove(&name("API_KEY")).unwrap();
        stage.fails(
            "API_KEY",
            &expect!["there is no secret `API_KEY`; `belljar secret list` lists them"],
        );
        stage.fails(
            "OTHR",
            &expect!["there is no secret `OTHR`; the nearest is `OTHER`"],
        );
        let clash = stage.set("other", VALUE).unwrap_err();
        assert_eq!(
            clash.to_string(),
            "the secret `OTHER` has the variable `OTHER` already; choose another name than `other`, or first `belljar secret rm OTHER`"
        );
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let stage = stage();
        stage.set("API_KEY", VALUE).unwrap();
        let key = stage.folder.path().join("config/secrets.key");
        for (path, mode) in [
            (stage.file("API_KEY"), 0o600),
            (key.clone(), 0o600),
            (stage.folder.path().join("config"), 0o700),
            (stage.folder.path().join("state/secrets"), 0o700),
        ] {
            let data = fs::metadata(&path).unwrap();
            assert_eq!(data.permissions().mode() & 0o777, mode, "{path:?}");
        }
        let bytes = fs::read_to_string(stage.file("API_KEY")).unwrap();
        assert!(!bytes.contains(VALUE));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        stage.fails("API_KEY", &expect!["the key `DIR/config/secrets.key` cannot be used: others can read or write it (mode 640); close it with `chmod 600`, and if others are not to be trusted set the secrets again with a new key"]);
    }

    #[test]
    fn changed_files_are_noticed() {
        let stage = stage();
        stage.set("API_KEY", VALUE).unwrap();
        stage.set("OTHER", "another value").unwrap();
        let whole = fs::read(stage.file("API_KEY")).unwrap();
        // Another secret's file, a binding to another host, each byte, each length.
        let broken = "the file of the secret `API_KEY` was changed since it was sealed, or is damaged; set it again with `belljar secret set API_KEY`";
        let mut tried: Vec<Vec<u8>> = vec![fs::read(stage.file("OTHER")).unwrap()];
        let text = String::from_utf8(whole.clone()).unwrap();
        tried.push(text.replace("example.com", "example.org").into_bytes());
        tried.extend(
            (0..whole.len() - 1)
                .step_by(7)
                .map(|length| whole[..length].to_vec()),
        );
        tried.extend((0..whole.len() - 2).step_by(3).map(|place| {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            changed
        }));
        for bytes in tried {
            fs::write(stage.file("API_KEY"), &bytes).unwrap();
            let told = stage.value("API_KEY").unwrap_err();
            let about_key = told.contains("sealed with another key") || told.contains("has format");
            assert!(
                told == broken || about_key,
                "{told}: {}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(stage.store.list().unwrap().1.len(), 1);
    }

    #[test]
    fn the_key_must_be_the_same() {
        let stage = stage();
        stage.set("API_KEY", VALUE).unwrap();
        let key = stage.folder.path().join("config/secrets.key");
        let old = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        stage.fails("API_KEY", &expect!["the key `DIR/config/secrets.key` that secrets are sealed with is missing; put it back, or remove the secrets with `belljar secret rm` and set them again"]);
        assert!(matches!(
            stage.set("NEW", VALUE),
            Err(StoreError::NoKey { .. })
        ));
        let other = super::tests::stage();
        other.set("API_KEY", VALUE).unwrap();
        fs::copy(other.folder.path().join("config/secrets.key"), &key).unwrap();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` was sealed with another key; put that key back, or set the secret again with `belljar secret set API_KEY`"]);
        for text in [
            "",
            "belljar-secrets-key-1 x",
            "belljar-secrets-key-2 ",
            "\u{0}",
        ] {
            fs::write(&key, text).unwrap();
            stage.fails("API_KEY", &expect!["the key `DIR/config/secrets.key` cannot be used: it is not a key, or of a newer Belljar; put the right file back"]);
        }
        fs::write(&key, &old).unwrap();
        assert_eq!(stage.value("API_KEY").unwrap(), VALUE);
        let inside = SecretStore::new(
            stage.folder.path().join("x/secrets"),
            stage.folder.path().join("x/secrets.key"),
        );
        let content = Content::Given(Value::copy(VALUE.as_bytes()).unwrap());
        let end = inside.set(
            &name("A"),
            &binding("example.com"),
            content,
            Timestamp::default(),
        );
        assert!(matches!(end, Err(StoreError::KeyInside { .. })));
    }

    #[test]
    fn sources_are_asked_at_each_start() {
        let stage = stage();
        let file = stage.folder.path().join("value");
        fs::write(&file, format!("{VALUE}\n")).unwrap();
        assert_eq!(stage.from(Source::File(file.clone())).unwrap(), VALUE);
        fs::write(&file, "a newer value").unwrap();
        assert_eq!(stage.value("API_KEY").unwrap(), "a newer value");
        fs::write(&file, "two\nlines").unwrap();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` cannot be read from its source: the file `DIR/value` has no value: the value has more than one line; a secret is one line, without a line break"]);
        fs::remove_file(&file).unwrap();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` cannot be read from its source: cannot read the file `DIR/value`: No such file or directory (os error 2)"]);
        assert_eq!(stage.from(Source::Env("SET".into())).unwrap(), VALUE);
        stage.from(Source::Env("UNSET".into())).unwrap_err();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` cannot be read from its source: the variable `UNSET` is not set where `belljar` was called"]);
        let program = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Source::Command(words.try_into().unwrap())
        };
        assert_eq!(
            stage.from(program(&["printf", "%s\\n", VALUE])).unwrap(),
            VALUE
        );
        stage
            .from(program(&["sh", "-c", "echo sk-live-0123456789; exit 3"]))
            .unwrap_err();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` cannot be read from its source: the command `sh` failed (exit status: 3); try it in a shell"]);
        stage.from(program(&["true"])).unwrap_err();
        stage.fails("API_KEY", &expect!["the secret `API_KEY` cannot be read from its source: the command `true` printed no value: the value is empty; give it on standard input, or name a source with --from-file"]);
        stage.from(program(&["/nowhere/program"])).unwrap_err();
        assert!(
            stage
                .from(program(&["yes"]))
                .unwrap_err()
                .contains("cannot be read")
        );
        assert!(
            Vec::<String>::new()
                .try_into()
                .map(|program: super::super::Program| program)
                .is_err()
        );
    }

    #[test]
    fn a_run_opens_each_secret_once() {
        let stage = stage();
        stage.set("API_KEY", VALUE).unwrap();
        let names = [name("API_KEY"), name("API_KEY")];
        let secrets = stage.store.open(&names, &nothing()).unwrap();
        assert_eq!(secrets.len(), 1);
        let placeholder = secrets[0].placeholder();
        let mark = placeholder.strip_prefix("belljar-secret-api-key-").unwrap();
        assert_eq!(mark.len(), 32);
        let again = stage.store.open(&names, &nothing()).unwrap();
        assert_ne!(again[0].placeholder(), placeholder);
        assert_eq!(
            secrets[0].environment(),
            [("API_KEY".to_owned(), placeholder.to_owned())]
        );
        assert_eq!(stage.store.open(&[], &nothing()).unwrap().len(), 0);
        assert_eq!(format!("{secrets:?}"), "[Secret(API_KEY)]");
    }
}
