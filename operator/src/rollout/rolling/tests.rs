//! Table tests of single decisions, and a model of a cluster in which random things happen.

use super::*;
use proptest::prelude::*;

fn observed(target: &str, stable: Option<&str>, revisions: &[(&str, Option<i32>, i32)]) -> Observed {
    Observed {
        target: target.into(),
        stable: stable.map(Into::into),
        suspended: false,
        bounds: Bounds { min: 2, max: 2 },
        deadline: Duration::from_mins(10),
        waited: None,
        claims_bound: true,
        migration: Migration::Done,
        revisions: (1_i64..)
            .zip(revisions)
            .map(|(number, (hash, size, available))| {
                ((*hash).to_owned(), Revision { number, size: *size, available: *available })
            })
            .collect(),
    }
}

fn sizes(plan: &Plan) -> Vec<(&str, Size)> {
    plan.sizes.iter().map(|(hash, size)| (hash.as_str(), *size)).collect()
}

#[test]
fn the_first_revision_waits_for_claims_then_migrates_then_starts() {
    let mut it = observed("a", None, &[("a", None, 0)]);
    it.claims_bound = false;
    it.migration = Migration::Due;
    let plan = step(&it);
    assert_eq!((plan.phase, sizes(&plan), plan.migrate), (Phase::WaitingForClaims, vec![], false));
    it.claims_bound = true;
    let plan = step(&it);
    assert_eq!((plan.phase, sizes(&plan), plan.migrate), (Phase::Migrating, vec![], true));
    it.migration = Migration::Running;
    assert_eq!((step(&it).phase, step(&it).migrate), (Phase::Migrating, false));
    it.migration = Migration::Failed;
    assert_eq!((step(&it).phase, sizes(&step(&it))), (Phase::MigrationFailed, vec![]));
    it.migration = Migration::Done;
    let plan = step(&it);
    assert_eq!((plan.phase, sizes(&plan)), (Phase::WaitingForPods, vec![("a", Size::Fixed(2))]));
    assert_eq!(plan.again, Some(Duration::from_mins(10)));
}

#[test]
fn a_new_revision_takes_over_when_all_its_pods_serve() {
    let plan = step(&observed("b", Some("a"), &[("a", Some(2), 2), ("b", Some(2), 1)]));
    assert_eq!(sizes(&plan), vec![("a", Size::Fixed(2)), ("b", Size::Fixed(2))]);
    assert_eq!((plan.phase, plan.stable.as_deref()), (Phase::WaitingForPods, Some("a")));
    let plan = step(&observed("b", Some("a"), &[("a", Some(2), 2), ("b", Some(2), 2)]));
    assert_eq!(sizes(&plan), vec![("a", Size::Zero), ("b", Size::Fixed(2))]);
    assert_eq!((plan.phase, plan.stable.as_deref()), (Phase::Settled, Some("b")));
}

#[test]
fn a_candidate_starts_with_the_size_that_serves_and_gets_its_autoscaler_when_it_took_over() {
    let mut it = observed("b", Some("a"), &[("a", Some(7), 7)]);
    it.bounds = Bounds { min: 2, max: 10 };
    assert_eq!(sizes(&step(&it)), vec![("a", Size::Autoscaled { from: 2 }), ("b", Size::Fixed(7))]);
    let mut it = observed("b", Some("a"), &[("a", Some(7), 7), ("b", Some(7), 7)]);
    it.bounds = Bounds { min: 2, max: 10 };
    assert_eq!(sizes(&step(&it)), vec![("a", Size::Zero), ("b", Size::Autoscaled { from: 2 })]);
}

#[test]
fn a_takeover_that_nobody_recorded_keeps_its_size() {
    let mut it = observed("b", Some("a"), &[("a", Some(0), 0), ("b", Some(7), 7)]);
    it.bounds = Bounds { min: 2, max: 10 };
    let plan = step(&it);
    assert_eq!(sizes(&plan), vec![("a", Size::Zero), ("b", Size::Autoscaled { from: 2 })]);
    assert_eq!((plan.phase, plan.stable.as_deref()), (Phase::Settled, Some("b")));
    it.revisions.get_mut("b").unwrap().available = 6;
    assert_eq!(step(&it).sizes["b"], Size::Fixed(7));

    let mut it = observed("c", Some("a"), &[("a", Some(0), 0), ("b", Some(7), 7)]);
    it.bounds = Bounds { min: 2, max: 10 };
    let plan = step(&it);
    assert_eq!(plan.stable.as_deref(), Some("b"), "what serves goes on when yet another one is wanted");
    assert_eq!((plan.sizes["b"], plan.sizes["c"]), (Size::Autoscaled { from: 2 }, Size::Fixed(7)));
}

#[test]
fn a_late_candidate_is_told_and_the_old_one_goes_on() {
    let mut it = observed("b", Some("a"), &[("a", Some(2), 2), ("b", Some(2), 0)]);
    it.waited = Some(Duration::from_secs(599));
    assert_eq!((step(&it).phase, step(&it).again), (Phase::WaitingForPods, Some(Duration::from_secs(1))));
    it.waited = Some(Duration::from_mins(10));
    let plan = step(&it);
    assert_eq!((plan.phase, plan.again), (Phase::DeadlineExceeded, None));
    assert_eq!(plan.sizes["a"], Size::Fixed(2));
    it.revisions.get_mut("b").unwrap().available = 2;
    assert_eq!(step(&it).phase, Phase::Settled, "a candidate that recovers takes over");
}

#[test]
fn a_superseded_candidate_goes_at_once() {
    let plan = step(&observed("c", Some("a"), &[("a", Some(2), 0), ("b", Some(2), 1)]));
    assert_eq!(sizes(&plan), vec![("a", Size::Fixed(2)), ("b", Size::Zero), ("c", Size::Fixed(2))]);
}

#[test]
fn going_back_to_stable_needs_no_health() {
    let plan = step(&observed("a", Some("a"), &[("a", Some(2), 0), ("b", Some(2), 2)]));
    assert_eq!((plan.phase, sizes(&plan)), (Phase::Settled, vec![("a", Size::Fixed(2)), ("b", Size::Zero)]));
}

#[test]
fn a_lost_record_of_stable_takes_nothing_away() {
    let plan = step(&observed("b", None, &[("a", Some(2), 2)]));
    assert_eq!(sizes(&plan), vec![("a", Size::Fixed(2)), ("b", Size::Fixed(2))]);
    assert_eq!(plan.stable.as_deref(), Some("a"));
}

#[test]
fn a_running_candidate_survives_a_claim_that_flickers() {
    let mut it = observed("b", Some("a"), &[("a", Some(2), 2), ("b", Some(2), 1)]);
    it.claims_bound = false;
    assert_eq!(step(&it).sizes["b"], Size::Fixed(2));
}

#[test]
fn suspension_stops_all_and_remembers_stable() {
    let mut it = observed("b", Some("a"), &[("a", Some(2), 2), ("b", Some(2), 1)]);
    it.suspended = true;
    it.migration = Migration::Due;
    let plan = step(&it);
    assert_eq!((plan.phase, plan.migrate), (Phase::Suspended, false));
    assert_eq!(sizes(&plan), vec![("a", Size::Zero), ("b", Size::Zero)]);
    assert_eq!(plan.stable.as_deref(), Some("a"));
}

#[test]
fn ten_revisions_are_kept_and_the_running_ones() {
    let names: Vec<String> = (0..15).map(|n| format!("r{n:02}")).collect();
    let mut all: Vec<(&str, Option<i32>, i32)> = names.iter().map(|name| (name.as_str(), Some(0), 0)).collect();
    all[0].1 = Some(2);
    let plan = step(&observed("r14", Some("r02"), &all));
    let kept: Vec<&str> = plan.keep.iter().map(String::as_str).collect();
    assert_eq!(kept, ["r00", "r02", "r05", "r06", "r07", "r08", "r09", "r10", "r11", "r12", "r13", "r14"]);
}

/// Something that happens between two steps.
#[derive(Clone, Debug)]
enum Happening {
    Target(u8),
    Suspend(bool),
    Bounds(i32, i32),
    Claims(bool),
    Migration(Migration),
    /// A pod of a revision becomes available, if it has one that is not.
    PodStarts(u8),
    /// A pod of a revision fails.
    PodFails(u8),
    /// The autoscaler moves the stable revision.
    Autoscale(i32),
    /// Our own record of what is stable is lost.
    RecordLost,
    Waits,
}

fn happening() -> impl Strategy<Value = Happening> {
    let migration =
        prop_oneof![Just(Migration::Done), Just(Migration::Due), Just(Migration::Running), Just(Migration::Failed)];
    prop_oneof![
        2 => (0u8..4).prop_map(Happening::Target),
        1 => any::<bool>().prop_map(Happening::Suspend),
        1 => (1..4, 0..4).prop_map(|(min, more)| Happening::Bounds(min, min + more)),
        1 => any::<bool>().prop_map(Happening::Claims),
        1 => migration.prop_map(Happening::Migration),
        12 => (0u8..4).prop_map(Happening::PodStarts),
        2 => (0u8..4).prop_map(Happening::PodFails),
        1 => (1..8).prop_map(Happening::Autoscale),
        1 => Just(Happening::RecordLost),
        1 => Just(Happening::Waits),
    ]
}

fn name(number: u8) -> String {
    format!("r{number}")
}

/// A cluster as far as the machine sees it.
struct Model {
    seen: Observed,
}

impl Model {
    fn new() -> Self {
        Self { seen: observed("r0", None, &[]) }
    }

    fn happen(&mut self, happening: &Happening) {
        let seen = &mut self.seen;
        match happening {
            Happening::Target(number) => {
                seen.target = name(*number);
                seen.waited = None;
            }
            Happening::Suspend(suspended) => seen.suspended = *suspended,
            Happening::Bounds(min, max) => seen.bounds = Bounds { min: *min, max: *max },
            Happening::Claims(bound) => seen.claims_bound = *bound,
            Happening::Migration(migration) => seen.migration = *migration,
            Happening::PodStarts(number) => {
                if let Some(it) = seen.revisions.get_mut(&name(*number)) {
                    it.available = (it.available + 1).min(it.size.unwrap_or(0));
                }
            }
            Happening::PodFails(number) => {
                if let Some(it) = seen.revisions.get_mut(&name(*number)) {
                    it.available = (it.available - 1).max(0);
                }
            }
            Happening::Autoscale(size) => {
                let Bounds { min, max } = seen.bounds;
                let stable = seen.stable.clone().unwrap_or_default();
                if let Some(it) = seen.revisions.get_mut(&stable).filter(|it| it.runs() && min < max) {
                    it.size = Some((*size).clamp(min, max));
                    it.available = it.available.min(*size);
                }
            }
            Happening::RecordLost => seen.stable = None,
            Happening::Waits => seen.waited = Some(Duration::from_secs(700)),
        }
    }

    /// Executes a plan as the controller does, but stops after `writes` of its changes, as a crash would.
    fn execute(&mut self, plan: &Plan, writes: usize) {
        let newest = self.seen.revisions.values().map(|it| it.number).max().unwrap_or(0);
        self.seen
            .revisions
            .entry(self.seen.target.clone())
            .or_insert(Revision { number: newest + 1, ..Revision::default() });
        for (hash, size) in plan.sizes.iter().take(writes) {
            let it = self.seen.revisions.entry(hash.clone()).or_default();
            match *size {
                Size::Zero => it.size = Some(0),
                Size::Fixed(size) => it.size = Some(size),
                Size::Autoscaled { from } if !it.runs() => it.size = Some(from),
                Size::Autoscaled { .. } => {}
            }
            it.available = it.available.min(it.size.unwrap_or(0));
        }
        if writes > plan.sizes.len() {
            self.seen.stable.clone_from(&plan.stable);
            self.seen.revisions.retain(|hash, _| plan.keep.contains(hash));
        }
    }

    fn serving(&self) -> i32 {
        self.seen.revisions.values().map(|it| it.available).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// R1, whatever happens and wherever we crash: a step of ours never takes the last serving pods away, unless size 0 was
    /// asked for. R2/R5: a step never gives a superseded revision pods.
    #[test]
    fn no_step_takes_the_last_pod_away(happenings in prop::collection::vec((happening(), 0usize..6), 1..80)) {
        let mut model = Model::new();
        for (happening, writes) in happenings {
            model.happen(&happening);
            let before = model.serving();
            // What served before the spec went back to stable may go, although stable has no health (R5, going back).
            let back = model.seen.stable.as_ref() == Some(&model.seen.target);
            let plan = step(&model.seen);
            for (hash, size) in &plan.sizes {
                if *hash != model.seen.target && Some(hash) != plan.stable.as_ref() {
                    prop_assert_eq!(*size, Size::Zero);
                }
            }
            if !model.seen.suspended
                && let Some(hash) = &plan.stable
            {
                let size = plan.sizes.get(hash).copied();
                prop_assert!(!matches!(size, None | Some(Size::Zero)), "stable keeps its pods: {:?}", plan);
            }
            let mut shrunk = false;
            if let Some(stable) = plan.stable.as_ref().and_then(|stable| model.seen.revisions.get(stable)) {
                shrunk = stable.size.unwrap_or(0) > model.seen.bounds.max || stable.available == 0;
            }
            model.execute(&plan, writes);
            if before > 0 && !model.seen.suspended && !back && !shrunk {
                prop_assert!(model.serving() > 0, "{:?}", plan);
            }
        }
    }

    /// From any state: when pods start, claims bind and migrations pass, the target alone runs, and nothing more is written.
    #[test]
    fn every_rollout_ends(happenings in prop::collection::vec((happening(), 0usize..6), 0..40), target in 0u8..4) {
        let mut model = Model::new();
        for (happening, writes) in happenings {
            model.happen(&happening);
            let plan = step(&model.seen);
            model.execute(&plan, writes);
        }
        model.happen(&Happening::Target(target));
        model.happen(&Happening::Suspend(false));
        model.happen(&Happening::Claims(true));
        model.happen(&Happening::Migration(Migration::Done));
        for _ in 0..12 {
            let plan = step(&model.seen);
            model.execute(&plan, usize::MAX);
            for number in 0..4 {
                for _ in 0..10 {
                    model.happen(&Happening::PodStarts(number));
                }
            }
        }
        let plan = step(&model.seen);
        prop_assert_eq!(plan.phase, Phase::Settled);
        prop_assert_eq!(plan.stable.as_ref(), Some(&model.seen.target));
        let before = model.seen.clone();
        model.execute(&plan, usize::MAX);
        prop_assert_eq!(before, model.seen.clone());
        for (hash, it) in &model.seen.revisions {
            prop_assert_eq!(it.runs(), *hash == model.seen.target);
        }
    }

    /// The same state gives the same plan, and a plan never waits longer than the deadline.
    #[test]
    fn waiting_is_bounded(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut model = Model::new();
        for happening in happenings {
            model.happen(&happening);
            let plan = step(&model.seen);
            prop_assert_eq!(&plan, &step(&model.seen));
            prop_assert!(plan.again.is_none_or(|again| again <= model.seen.deadline && !again.is_zero()));
            model.execute(&plan, usize::MAX);
        }
    }
}
