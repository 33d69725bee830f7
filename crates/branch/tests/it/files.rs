//! Workspaces: real overlays, mounted by a real process in namespaces of its own.

mod stage; // a workspace and a run over it
mod sealing; // upper directory → change set
mod showing; // change set → text
