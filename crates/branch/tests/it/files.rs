//! Workspaces: real overlays, mounted by a real process in namespaces of its own.

mod stage; // a workspace and a run over it
mod operations; // random file operations, done by a process of its own
mod sealing; // upper directory → change set
mod showing; // change set → text
mod amplification; // what a run makes its host store
mod merging; // change set → workspace, and back
mod conflicts; // what is in the way
mod crashes; // stopped at every step
