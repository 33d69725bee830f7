//! What the command finds inside: its environment, and where it starts.

use std::ffi::OsString;
use std::path::PathBuf;

use belljar_sandbox::Command;

use super::{Prepared, Underway};

/// Where databases are inside a sandbox.
pub(super) const DATABASES: &str = "/belljar/db";
/// What each is called there, as in its branch.
pub(super) const DATABASE: &str = "work.db";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Underway<'_> {
    pub(super) fn command(&self, network: Option<&Prepared>) -> Command {
        let template = &self.runner.template;
        let home = template.home.as_os_str();
        let set = |name: &str, value: &std::ffi::OsStr| (OsString::from(name), value.to_owned());
        let mut environment = vec![
            set("PATH", PATH.as_ref()),
            set("HOME", home),
            set("USER", template.user.as_ref()),
            set("LOGNAME", template.user.as_ref()),
            set("SHELL", "/bin/sh".as_ref()),
            set("LANG", "C.UTF-8".as_ref()),
            set("BELLJAR_RUN", self.id.to_string().as_ref()),
        ];
        for name in self.request.databases.keys() {
            let path = format!("{DATABASES}/{name}/{DATABASE}");
            environment.push(set(
                &name.url_variable(),
                format!("sqlite:///{path}").as_ref(),
            ));
            environment.push(set(&name.path_variable(), path.as_ref()));
        }
        environment.extend(network.into_iter().flat_map(|one| one.environment.clone()));
        for (name, value) in &self.request.environment {
            environment.retain(|(known, _)| known != name.as_str());
            environment.push(set(name.as_str(), value));
        }
        Command {
            arguments: self.request.command.clone(),
            environment,
            directory: self.directory(),
            terminal: self.request.terminal,
        }
    }

    /// Where the command starts: where the caller is, if that is in the workspace; else the
    /// workspace; else the home directory inside.
    pub(super) fn directory(&self) -> PathBuf {
        let Some(workspace) = &self.workspace else {
            return self.runner.template.home.clone();
        };
        let asked = self.request.directory.as_ref();
        let inside = asked.filter(|directory| directory.starts_with(workspace.path()));
        inside
            .cloned()
            .unwrap_or_else(|| workspace.path().to_path_buf())
    }
}
