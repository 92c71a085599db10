//! Connections that take too long: to begin, to take their answers, to end.

use crate::listen::link::Link;
use crate::listen::places::{GREETING, Places, SILENCE, STEP};
use crate::listen::taken::Taken;
use crate::listen::unsent::SEND_TIMEOUT;
use std::time::Duration;

/// How long a connection on reserve may stay.
pub(super) const RESERVE_AGE: Duration = Duration::from_secs(5);
/// How long idle connections may take to end once they were asked to.
const GOODBYE: Duration = Duration::from_secs(2);

impl Places {
    /// Ends whoever takes too long; never returns.
    pub(super) async fn sweep(&self) {
        let mut steps = tokio::time::interval(STEP);
        loop {
            steps.tick().await;
            let mut taken = self.taken();
            let over: Vec<_> = taken.links().filter_map(|(number, link)| Some((number, self.is_over(link)?))).collect();
            self.end(&mut taken, over);
            let untaken = self.beyond_budget(&taken);
            self.end(&mut taken, untaken);
            self.show(&taken);
        }
    }

    /// Nobody is let in any more: ends whoever was told so and has no call in flight, or takes no answer. Who does not read
    /// would hold up the end.
    pub(crate) async fn wind_up(&self) {
        tokio::time::sleep(GOODBYE).await;
        while self.end_all_quiet() > 0 {
            tokio::time::sleep(STEP).await;
        }
    }

    /// How many are left.
    fn end_all_quiet(&self) -> usize {
        let mut taken = self.taken();
        let stuck = |link: &Link| link.untaken().is_some_and(|(since, _)| since.elapsed() > GOODBYE);
        let idle = taken.links().filter(|(_, link)| link.is_idle() || stuck(link));
        for number in idle.map(|(number, _)| number).collect::<Vec<_>>() {
            if let Some(link) = taken.remove(number) {
                link.cut();
            }
        }
        self.show(&taken);
        taken.len()
    }

    fn end(&self, taken: &mut Taken, over: Vec<(u64, &'static str)>) {
        for (number, reason) in over {
            if let Some(link) = taken.remove(number) {
                self.count(reason);
                link.cut();
            }
        }
    }

    /// Who has not taken his answers for longest, as long as all of them together are too much.
    fn beyond_budget(&self, taken: &Taken) -> Vec<(u64, &'static str)> {
        let untaken = taken.links().filter_map(|(number, link)| Some((link.untaken()?, number)));
        let mut untaken: Vec<_> = untaken.collect();
        let mut bytes: usize = untaken.iter().map(|((_, bytes), _)| bytes).sum();
        metrics::gauge!("interaction_untaken_answer_bytes", "surface" => self.surface).set(bytes as f64);
        if bytes <= self.limits.unsent {
            return Vec::new();
        }
        untaken.sort();
        let first = untaken.into_iter().take_while(|((_, freed), _)| {
            let over = bytes > self.limits.unsent;
            bytes = bytes.saturating_sub(*freed);
            over
        });
        first.map(|(_, number)| (number, "untaken")).collect()
    }

    /// Why the time of a connection is over.
    pub(super) fn is_over(&self, link: &Link) -> Option<&'static str> {
        let age = link.age();
        if !link.has_spoken() && age > SILENCE {
            Some("silent")
        } else if !link.has_greeted() && age > GREETING {
            Some("greeting")
        } else if link.on_reserve_for().is_some_and(|reserve| reserve > RESERVE_AGE) {
            Some("reserve")
        } else if link.untaken().is_some_and(|(since, _)| since.elapsed() > SEND_TIMEOUT) {
            Some("untaken")
        } else if self.limits.lifetime.is_some_and(|lifetime| age > lifetime) {
            Some("age")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::places::Place;
    use crate::listen::unsent::Sending;
    use crate::listen::{Limits, Pressure};
    use hyper::body::Bytes;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    fn places(unsent: usize, lifetime: Option<Duration>) -> Arc<Places> {
        let limits = Limits { connections: 10, per_address: 10, per_token: 10, lifetime, unsent };
        Places::new("grpc", limits, Pressure::default())
    }

    /// A connection that has said all that precedes a call.
    fn enter(places: &Arc<Places>) -> Place {
        let place = places.enter(IpAddr::V4(Ipv4Addr::LOCALHOST));
        place.link().speaks();
        place.link().greets();
        place
    }

    /// An answer of so many bytes that nobody takes, beside what each costs.
    fn untaken(place: &Place, len: usize) -> (Arc<Sending>, Bytes) {
        let answer = Sending::new(place.link().call(true));
        let part = answer.part(Bytes::from(vec![0; len]));
        (answer, part)
    }

    async fn after(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_beginning_and_each_answer_has_its_time() {
        let moment = Duration::from_millis(1);
        let places = places(usize::MAX, Some(Duration::from_secs(100)));
        let (silent, slow, well) = (places.enter([192, 0, 2, 1].into()), enter(&places), enter(&places));
        let half = places.enter([192, 0, 2, 2].into());
        half.link().speaks();
        let why = || [&silent, &half, &slow, &well].map(|place| places.is_over(place.link()));
        after(SILENCE).await;
        assert_eq!(why(), [None; 4]);
        after(moment).await;
        assert_eq!(why(), [Some("silent"), None, None, None]);
        after(GREETING - SILENCE).await;
        assert_eq!(why(), [Some("silent"), Some("greeting"), None, None]);
        let answer = untaken(&slow, 1);
        after(SEND_TIMEOUT).await;
        assert_eq!(places.is_over(slow.link()), None);
        after(moment).await;
        assert_eq!((places.is_over(slow.link()), places.is_over(well.link())), (Some("untaken"), None));
        drop(answer);
        assert_eq!(places.is_over(slow.link()), None, "it was taken");
        slow.link().takes(false);
        after(SEND_TIMEOUT + moment).await;
        assert_eq!(places.is_over(slow.link()), Some("untaken"), "its socket has no room");
        slow.link().takes(true);
        assert_eq!(places.is_over(slow.link()), None);
        after(Duration::from_secs(100)).await;
        assert_eq!((places.is_over(slow.link()), places.is_over(well.link())), (Some("age"), Some("age")));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_budget_those_that_waited_for_longest_end() {
        let one = 1 << 20;
        let places = places(4 * one + one / 2, None);
        let all = [(); 8].map(|()| enter(&places));
        let mut answers = Vec::new();
        // Not in the order in which they came.
        for number in [7, 2, 5, 0, 1, 3, 4, 6] {
            answers.push(untaken(&all[number], one));
            after(Duration::from_secs(1)).await;
            assert_eq!(places.beyond_budget(&places.taken()).is_empty(), answers.len() <= 4, "{}", answers.len());
        }
        let over = places.beyond_budget(&places.taken());
        let mut taken = places.taken();
        places.end(&mut taken, over);
        let left = all.each_ref().map(|place| taken.has(place.number()));
        assert_eq!(left, [false, true, false, true, true, false, true, false]);
    }
}
