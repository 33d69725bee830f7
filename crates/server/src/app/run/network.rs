//! A run's way out: opened when the sandbox is closed and before its command starts, closed when
//! nothing of it runs any more.

use belljar_sandbox::Enclosed;

use super::{RunError, Underway};
use crate::app::network::{Opened, Prepared};

impl Underway<'_> {
    /// What must be there before the sandbox starts.
    pub(super) fn prepare_network(&mut self) -> Result<Option<Prepared>, RunError> {
        let Some(request) = self.request.network.take() else {
            return Ok(None);
        };
        let folder = self.runner.state.run_folder(self.id);
        let now = self.runner.clock.now();
        Ok(Some(Prepared::new(request, (self.id, now), &folder)?))
    }

    /// Opens the gate on the sandbox's doors.
    pub(super) fn open_network(
        &self,
        prepared: Option<Prepared>,
        sandbox: &mut dyn Enclosed,
    ) -> Result<Option<Opened>, RunError> {
        let Some(prepared) = prepared else {
            return Ok(None);
        };
        let who = (self.id, self.request.agent.clone());
        Ok(Some(prepared.open(
            sandbox.doors(),
            self.runner.state,
            who,
        )?))
    }

    /// Closes it, and keeps what the ledger must still have.
    pub(super) fn close_network(&mut self, network: Option<Opened>) {
        let Some(network) = network else { return };
        (self.traffic, self.network) = network.close();
    }
}
