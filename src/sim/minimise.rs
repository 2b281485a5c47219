//! Makes a failing run smaller: fewer faults, then less time in which things fail, as long as it
//! breaks the same rule. The world itself stays as it was drawn.

use std::collections::BTreeSet;

use super::plan::Plan;
use super::wire::Ms;
use super::{Options, Sabotage, Telling, Violation, live};

/// How many runs a search may take.
pub const TRIES_MAX: u32 = 400;
/// The time is not made shorter by less than this, in ms.
const GRAIN_MS: Ms = 20;

/// A run that could not be made smaller, or not within the tries that there are.
#[derive(Debug, Clone)]
pub struct Minimal {
    /// What still breaks the rule.
    pub plan: Plan,
    /// The numbers that its faults had when they were drawn.
    pub kept: BTreeSet<usize>,
    /// How many runs that took.
    pub tries: u32,
}

/// Looks for a smaller plan that breaks. `plan` broke at `broken_at`, in virtual ms; `breaks` says
/// when a smaller one does, if it does.
pub fn minimise(plan: &Plan, broken_at: u64, breaks: impl FnMut(&Plan) -> Option<u64>) -> Minimal {
    let mut search = Search {
        whole: plan,
        breaks,
        kept: (0..plan.faults.len()).collect(),
        faults_ms: plan.shape.faults_ms,
        broken_at,
        tries: 0,
    };
    search.forget_what_came_later();
    search.have_fewer();
    search.be_shorter();
    search.have_fewer();
    let plan = search.part(&search.kept, search.faults_ms);
    Minimal { kept: plan.numbers.iter().copied().collect(), plan, tries: search.tries }
}

/// The same for a seed whose run, with this defect, broke a rule. Gives the options that draw the
/// smaller plan.
pub fn minimise_seed(
    seed: u64,
    options: &Options,
    sabotage: Option<Sabotage>,
    broken: &Violation,
) -> (Options, Minimal) {
    let whole = Plan::draw(seed, options);
    let minimal = minimise(&whole, broken.at_ms, |plan| {
        let found = live(plan, Telling::Silent, sabotage).violation?;
        (found.rule() == broken.rule()).then_some(found.at_ms)
    });
    let faults_ms = minimal.plan.shape.faults_ms;
    // Of a calm run there is nothing to leave out.
    let only = (!options.calm).then(|| minimal.kept.clone());
    let options = Options { only, faults_ms: Some(faults_ms), ..options.clone() };
    (options, minimal)
}

struct Search<'a, F> {
    whole: &'a Plan,
    breaks: F,
    /// The smallest that broke so far.
    kept: Vec<usize>,
    faults_ms: Ms,
    /// When that broke.
    broken_at: Ms,
    tries: u32,
}

impl<F: FnMut(&Plan) -> Option<Ms>> Search<'_, F> {
    fn part(&self, kept: &[usize], faults_ms: Ms) -> Plan {
        let mut part = self.whole.keep(|n, _| kept.contains(&n));
        part.shape.faults_ms = faults_ms;
        part
    }

    /// Goes on with this part if it breaks as well.
    fn try_part(&mut self, kept: Vec<usize>, faults_ms: Ms) -> bool {
        if self.tries == TRIES_MAX {
            return false;
        }
        self.tries += 1;
        let part = self.part(&kept, faults_ms);
        let Some(at) = (self.breaks)(&part) else { return false };
        (self.kept, self.faults_ms, self.broken_at) = (kept, faults_ms, at);
        true
    }

    fn begun_before(&self, end: Ms) -> Vec<usize> {
        let begun = |n: &usize| self.whole.faults[*n].at < end;
        self.kept.iter().copied().filter(begun).collect()
    }

    /// What begins after the rule was broken did not break it.
    fn forget_what_came_later(&mut self) {
        let earlier = self.begun_before(self.broken_at + 1);
        if earlier.len() < self.kept.len() {
            self.try_part(earlier, self.faults_ms);
        }
    }

    /// Leaves out all, then halves, quarters and so on, then single ones until each is needed.
    fn have_fewer(&mut self) {
        let mut size = self.kept.len();
        while size > 0 {
            let (mut from, before) = (0, self.kept.len());
            while from < self.kept.len() {
                let mut fewer = self.kept.clone();
                fewer.drain(from..(from + size).min(fewer.len()));
                if !self.try_part(fewer, self.faults_ms) {
                    from += size;
                }
            }
            let last = size == 1 && (self.kept.len() == before || self.tries == TRIES_MAX);
            size = if last { 0 } else { size.div_ceil(2).min(self.kept.len()) };
        }
    }

    /// Heals the world right after the rule was broken, and then earlier, as long as it breaks.
    fn be_shorter(&mut self) {
        let enough = (self.broken_at + 1).saturating_sub(self.whole.shape.warm_up_ms).max(1);
        if enough < self.faults_ms {
            self.try_until(enough);
        }
        let mut too_short = 0;
        while self.faults_ms - too_short > GRAIN_MS && self.tries < TRIES_MAX {
            let middle = too_short + (self.faults_ms - too_short) / 2;
            if !self.try_until(middle) {
                too_short = middle;
            }
        }
    }

    fn try_until(&mut self, faults_ms: Ms) -> bool {
        self.try_part(self.begun_before(self.whole.shape.warm_up_ms + faults_ms), faults_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{Fault, FaultKind};
    use super::super::plan::Shape;
    use super::*;

    /// The warm-up of a world that is not drawn, in ms.
    const WARM_UP_MS: Ms = 13_000;

    /// Faults of 100 ms, one each second from the end of the warm-up on.
    fn plan(count: u64) -> Plan {
        let fault =
            |n| Fault { at: WARM_UP_MS + n * 1_000, for_ms: 100, kind: FaultKind::Lossy(n) };
        Plan::scripted(1, Shape::default(), (0..count).map(fault).collect())
    }

    fn has(plan: &Plan, number: u64) -> bool {
        plan.faults.iter().any(|fault| fault.kind == FaultKind::Lossy(number))
    }

    fn numbers(minimal: &Minimal) -> Vec<usize> {
        minimal.kept.iter().copied().collect()
    }

    #[test]
    fn keeps_only_the_faults_that_are_needed() {
        for needed in [vec![0], vec![59], vec![3, 40], vec![10, 11, 12, 58]] {
            let breaks =
                |plan: &Plan| needed.iter().all(|n| has(plan, *n as u64)).then_some(WARM_UP_MS);
            let minimal = minimise(&plan(60), WARM_UP_MS + 90_000, breaks);
            assert_eq!(numbers(&minimal), needed);
            assert_eq!(minimal.plan.faults.len(), needed.len());
            assert!(minimal.tries < 100, "{} tries", minimal.tries);
        }
    }

    #[test]
    fn keeps_none_if_none_is_needed() {
        let minimal = minimise(&plan(60), 0, |_| Some(0));
        assert!(minimal.kept.is_empty() && minimal.plan.shape.faults_ms <= GRAIN_MS);
        assert!(minimal.tries < 20, "{} tries", minimal.tries);
        let minimal = minimise(&plan(0), 0, |_| None);
        assert_eq!((minimal.kept.len(), minimal.plan.shape.faults_ms), (0, 60_000));
    }

    #[test]
    fn drops_what_comes_after_the_violation_and_heals_right_after_it() {
        let at = WARM_UP_MS + 20_500;
        let mut first = None;
        let minimal = minimise(&plan(60), at, |plan| {
            first.get_or_insert(plan.faults.len());
            (has(plan, 20) && plan.shape.faults_ms > 20_500).then_some(at)
        });
        assert_eq!(first, Some(21));
        assert_eq!((numbers(&minimal), minimal.plan.shape.faults_ms), (vec![20], 20_501));
    }

    #[test]
    fn never_gives_what_does_not_break_even_if_the_tries_run_out() {
        // As unkind as can be: only odd numbers of faults break.
        let odd = |plan: &Plan| (plan.faults.len() % 2 == 1 && has(plan, 1)).then_some(WARM_UP_MS);
        let minimal = minimise(&plan(1_001), WARM_UP_MS + 90_000, odd);
        assert!(odd(&minimal.plan).is_some() && minimal.tries <= TRIES_MAX);
    }

    #[test]
    fn a_defect_put_in_on_purpose_leaves_few_faults() {
        let (sabotage, options) = (Some(Sabotage::EagerDisk), Options::default());
        let broken = |plan: &Plan| live(plan, Telling::Silent, sabotage).violation;
        let (whole, found) = (0..50)
            .map(|seed| Plan::draw(seed, &options))
            .find_map(|plan| broken(&plan).map(|found| (plan, found)))
            .expect("some seed breaks it");
        let (smaller, minimal) = minimise_seed(whole.seed, &options, sabotage, &found);
        // The options draw what was found.
        let drawn = Plan::draw(whole.seed, &smaller);
        assert_eq!(format!("{drawn:?}"), format!("{:?}", minimal.plan));
        assert_eq!(broken(&drawn).expect("it still breaks").rule(), found.rule());
        assert!(minimal.kept.len() <= 3, "{:?} of {}", minimal.kept, whole.faults.len());
        assert!(minimal.plan.shape.faults_ms <= whole.shape.faults_ms);
    }
}
