//! `belljar diff`: what a run did, a summary first.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use belljar_base::Kind;
use belljar_branch::engine::files::{FileDiff, RelativePath};
use belljar_branch::engine::sqlite::{Bounds, ChangeSet, LoadError};
use belljar_branch::{BranchState, Workspace};
use belljar_server::app::review::{Review, review};
use serde_json::{Value, json};

use super::open;
use crate::arguments::DiffAsk;
use crate::failure::{Failure, chain};
use crate::report;
use crate::settings::Settings;

pub(crate) fn diff(ask: &DiffAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let review = review(&state, &ask.run)?;
    let id = review.record.id;
    if review.state == BranchState::Discarded {
        let text = format!("the changes of `{id}` were discarded; its records are in the ledger");
        return Err(Failure::new(Kind::Conflict, text));
    }
    let workspace = workspace(&review, settings)?;
    let only = paths(&ask.paths, workspace.as_ref(), settings)?;
    let folder = state.run_folder(id);
    if ask.json {
        report::json(&as_json(
            &review,
            &folder,
            workspace.as_ref(),
            &only,
            ask.stat,
        )?);
        return Ok(ExitCode::SUCCESS);
    }
    let coloured = report::coloured(settings.plain);
    report::say(&format!("{id}  {}", review.state));
    if review.changes.is_empty() {
        report::say("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(files) = &review.changes.files {
        report::lines(&files.overview(), coloured);
    }
    for (name, changes) in &review.changes.databases {
        report::say(&format!("{name}: {}", changes.summary()));
    }
    if ask.stat {
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(files), Some(workspace)) = (&review.changes.files, &workspace) {
        for shown in files.diffs(workspace, &only) {
            report::say("");
            report::lines(&shown.map_err(unreadable)?.unified(), coloured);
        }
    }
    if only.is_empty() {
        for name in review.record.databases.keys() {
            report::say("");
            let set =
                ChangeSet::load(&folder.join("db").join(name.as_str())).map_err(unloadable)?;
            report::say(&format!("database {name}"));
            report::say(set.text(Bounds::default()).map_err(unloadable)?.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unloadable(error: LoadError) -> Failure {
    Failure::new(Kind::Unavailable, chain(&error))
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!("cannot read the workspace: {error}"),
    )
}

fn workspace(review: &Review, settings: &Settings) -> Result<Option<Workspace>, Failure> {
    use std::os::unix::ffi::OsStringExt;
    let Some(path) = &review.record.workspace else {
        return Ok(None);
    };
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path.0.clone()));
    Ok(Some(Workspace::open(&path, settings.home.as_deref())?))
}

/// Paths as they are named on the command line: from here, or from the workspace.
fn paths(
    asked: &[std::path::PathBuf],
    workspace: Option<&Workspace>,
    settings: &Settings,
) -> Result<Vec<RelativePath>, Failure> {
    let root = workspace.map(Workspace::path);
    asked
        .iter()
        .map(|path| {
            let here = settings
                .directory
                .as_ref()
                .map_or(path.clone(), |here| here.join(path));
            let below = root
                .and_then(|root| here.strip_prefix(root).ok())
                .unwrap_or(path);
            let clean: std::path::PathBuf = Path::new(below)
                .components()
                .filter(|c| *c != std::path::Component::CurDir)
                .collect();
            RelativePath::new(clean.as_os_str().as_bytes().to_vec()).ok_or_else(|| {
                let text = format!("`{}` is not a path inside the workspace", path.display());
                Failure::new(Kind::Invalid, text)
            })
        })
        .collect()
}

fn as_json(
    review: &Review,
    folder: &Path,
    workspace: Option<&Workspace>,
    only: &[RelativePath],
    stat: bool,
) -> Result<Value, Failure> {
    let files = review.changes.file_counts();
    let mut shown = Vec::new();
    if let (Some(set), Some(workspace), false) = (&review.changes.files, workspace, stat) {
        for one in set.diffs(workspace, only) {
            let one: FileDiff = one.map_err(unreadable)?;
            shown.push(serde_json::to_value(one).unwrap_or_default());
        }
    }
    let mut databases = serde_json::Map::new();
    for name in review.changes.databases.keys() {
        let set = ChangeSet::load(&folder.join("db").join(name.as_str())).map_err(unloadable)?;
        let rows_max = if stat { 0 } else { Bounds::default().rows_max };
        let bounds = Bounds {
            rows_max,
            ..Bounds::default()
        };
        let value = serde_json::to_value(set.json(bounds).map_err(unloadable)?).unwrap_or_default();
        databases.insert(name.to_string(), value);
    }
    Ok(json!({
        "run": review.record.id.to_string(),
        "state": review.state.to_string(),
        "digest": review.changes.digest().to_string(),
        "files": { "added": files.added, "modified": files.modified, "deleted": files.deleted },
        "changes": shown,
        "databases": databases,
    }))
}
