//! Direct writes, in three steps: lock and fix the version, look at the deadline, commit.

use super::Bug;
use super::state::{Direct, Event, State};
use super::world::{How, UNSURE, World};

impl World {
    pub(super) fn begin_direct(&mut self, server: usize, pair: usize, liked: bool) {
        if self.direct.is_some() || self.servers[server].writer.latched || !self.number_is_known(server) {
            return;
        }
        let highest = self.clock + self.servers[server].offset + UNSURE;
        let version = highest.max(self.mysql.rows[pair].version + 1);
        let event = Event { pair, state: State { version, liked } };
        self.note(|| format!("server {server} locks for {event:?}"));
        let answered_before = self.words[pair].map_or(0, |word| word.state.version);
        self.direct = Some(Direct { server, event, answered_before, gave_up: None, checked: false });
        // The lower bound of the cache's clock passes the version before anything is committed.
        if !self.has(Bug::ClockNotWaitedOut) {
            self.clock = self.clock.max(version + UNSURE - self.servers[server].offset + 1);
        }
    }

    pub(super) fn give_up(&mut self) {
        if let Some(direct) = &mut self.direct
            && direct.gave_up.is_none()
        {
            direct.gave_up = Some(self.clock + UNSURE);
        }
    }

    pub(super) fn go_on_directly(&mut self) {
        let Some(direct) = self.direct else { return };
        if !direct.checked {
            let over = direct.gave_up.is_some() && !self.has(Bug::DirectUnchecked);
            self.direct = (!over).then_some(Direct { checked: true, ..direct });
            return;
        }
        self.direct = None;
        let Direct { server, event, answered_before, gave_up, .. } = direct;
        // The lock fixed the row; under the bug, the version is above it and too late.
        if gave_up.is_some_and(|at| event.state.version > at) || (gave_up.is_some() && self.has(Bug::DirectUnchecked)) {
            self.breaks(2, format!("{event:?} was committed after its client gave up"));
        }
        if event.state.version <= answered_before {
            self.breaks(7, format!("{event:?} is not above {answered_before}"));
        }
        if self.write(server, &[event]).is_none() {
            return;
        }
        self.note(|| format!("server {server} commits {event:?}"));
        self.issue(event, answered_before);
        self.mysql.dirty[event.pair] = true;
        self.save_mysql();
        if self.rules.log {
            self.servers[server].unlogged.push(event);
        }
        let newer = self.words[event.pair].is_some_and(|word| word.state.version > event.state.version);
        if gave_up.is_none() && !newer {
            self.acknowledge(server, event, How::Directly);
        }
    }
}
