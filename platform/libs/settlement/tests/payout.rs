//! Published vectors and properties of payouts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helper functions of tests are tests too

use num_rational::{BigRational, Ratio};
use paddock_money::{Currency, Money, Rounding};
use paddock_odds::{Factor, MarketType, Odds, Specifiers};
use paddock_settlement::{
    Bet, EachWay, Leg, LegKey, Lines, OutcomeState, ProofLine, Rule4, SettleError, Structure, StructureError,
    multiplier, settle,
};
use proptest::prelude::*;
use rstest::rstest;

type States = (OutcomeState, OutcomeState);

fn decided(won: bool, void: &str, dead_heat: &str) -> OutcomeState {
    let factor = |text| Factor::parse(text).unwrap();
    OutcomeState::Decided { won, void_factor: factor(void), dead_heat_factor: factor(dead_heat) }
}

fn won() -> OutcomeState {
    decided(true, "0", "1")
}

fn lost() -> OutcomeState {
    decided(false, "0", "1")
}

fn void() -> OutcomeState {
    decided(false, "1", "1")
}

fn both(state: OutcomeState) -> States {
    (state, state)
}

fn leg(odds: Odds) -> Leg {
    let key = LegKey {
        event_id: "sr:match:1".into(),
        market: MarketType::MatchResult,
        specifiers: Specifiers::none(),
        outcome_id: "1".into(),
    };
    Leg { key, odds, banker: false, each_way: None, rule4: Rule4::NONE }
}

/// A leg at fractional ("UK") odds: profit to stake.
fn fractional(text: &str) -> Leg {
    leg(Odds::new(text.parse::<Ratio<i64>>().unwrap() + 1).unwrap())
}

fn decimal(text: &str) -> Leg {
    leg(Odds::parse(text).unwrap())
}

fn euro(text: &str) -> Money {
    Money::parse(text, Currency::EUR).unwrap()
}

fn bet(legs: Vec<Leg>, structure: Structure, unit: &str) -> Bet {
    Bet { legs, structure, stake: Lines::Line(euro(unit)), rounding: Rounding::HalfUp, max_payout: None }
}

fn system(sizes: &[u32]) -> Structure {
    Structure::System { sizes: sizes.to_vec() }
}

fn paid(bet: &Bet, states: &[States]) -> String {
    settle(bet, states).unwrap().amount.amount()
}

#[rstest]
#[case::trixie(&[2, 3], [won(), won(), won()], "40.21", 4)]
#[case::patent(&[1, 2, 3], [won(), won(), won()], "60.63", 7)]
#[case::trixie_with_loss_and_void(&[2, 3], [won(), lost(), void()], "6.25", 4)]
fn systems_of_a_quarter_a_half_and_a_third(
    #[case] sizes: &[u32],
    #[case] states: [OutcomeState; 3],
    #[case] expected: &str,
    #[case] lines: u64,
) {
    let bet = bet(vec![fractional("1/4"), fractional("1/2"), fractional("1/3")], system(sizes), "5.00");
    assert_eq!(bet.lines(), lines);
    assert_eq!(paid(&bet, &states.map(both)), expected);
}

#[test]
fn each_way_placed_only() {
    let term = Factor::parse("1/5").unwrap();
    let leg = Leg { each_way: Some(EachWay { term }), ..fractional("9/2") };
    let bet = bet(vec![leg], Structure::Single, "15.00");
    assert_eq!(bet.total_stake().unwrap(), euro("30.00"));
    assert_eq!(paid(&bet, &[(lost(), won())]), "28.50");
    // Won: 15 × 5.5 + 15 × 1.9
    assert_eq!(paid(&bet, &[(won(), won())]), "111.00");
}

#[rstest]
#[case::half_win("1.95", decided(true, "0.5", "1"), "1.475")]
#[case::half_win_at_four("4.00", decided(true, "0.5", "1"), "2.5")]
#[case::half_lose("1.95", decided(false, "0.5", "1"), "0.5")]
#[case::dead_heat("11.00", decided(true, "0", "1/2"), "5.5")]
#[case::dead_heat_of_three("4.00", decided(true, "0", "1/3"), "4/3")]
#[case::refund("7.00", void(), "1")]
fn one_leg(#[case] odds: &str, #[case] state: OutcomeState, #[case] expected: &str) {
    let found = multiplier(state, Odds::parse(odds).unwrap(), Factor::ONE, Rule4::NONE).unwrap().value;
    let expected = if let Some((n, d)) = expected.split_once('/') {
        BigRational::new(n.parse().unwrap(), d.parse().unwrap())
    } else {
        BigRational::new(Money::parse(expected, Currency::KWD).unwrap().minor().into(), 1000.into())
    };
    assert_eq!(found, expected);
}

#[test]
fn rule_four_takes_from_the_profit() {
    let leg = Leg { rule4: Rule4::pence(25).unwrap(), ..decimal("9.00") };
    assert_eq!(paid(&bet(vec![leg], Structure::Single, "10.00"), &[both(won())]), "70.00");
    assert_eq!(Rule4::pence(60).unwrap().and(Rule4::pence(45).unwrap()), Rule4::pence(90).unwrap());
    assert_eq!(Rule4::pence(91), None);
}

#[rstest]
#[case::trixie(3, &[2, 3], 4)]
#[case::yankee(4, &[2, 3, 4], 11)]
#[case::lucky15(4, &[1, 2, 3, 4], 15)]
#[case::canadian(5, &[2, 3, 4, 5], 26)]
#[case::lucky31(5, &[1, 2, 3, 4, 5], 31)]
#[case::heinz(6, &[2, 3, 4, 5, 6], 57)]
#[case::super_heinz(7, &[2, 3, 4, 5, 6, 7], 120)]
#[case::goliath(8, &[2, 3, 4, 5, 6, 7, 8], 247)]
#[case::three_of_five(5, &[3], 10)]
fn line_counts(#[case] legs: usize, #[case] sizes: &[u32], #[case] lines: u64) {
    assert_eq!(bet(vec![decimal("2.00"); legs], system(sizes), "1.00").lines(), lines);
}

#[test]
fn a_banker_is_in_every_line() {
    let mut legs = vec![decimal("2.00"), decimal("3.00"), decimal("5.00")];
    legs[0].banker = true;
    let bet = bet(legs, system(&[1]), "1.00");
    assert_eq!(bet.lines(), 2);
    assert_eq!(paid(&bet, &[both(won()), both(won()), both(won())]), "16.00");
    assert_eq!(paid(&bet, &[both(lost()), both(won()), both(won())]), "0.00");
}

#[test]
fn a_lost_accumulator_does_not_wait_for_the_rest() {
    let bet = bet(vec![decimal("2.00"), decimal("3.00")], Structure::Accumulator, "1.00");
    assert_eq!(paid(&bet, &[both(lost()), both(OutcomeState::Open)]), "0.00");
    assert_eq!(settle(&bet, &[both(won()), both(OutcomeState::Open)]), Err(SettleError::Open(1)));
}

#[test]
fn the_cap_comes_last_and_is_explained() {
    let mut bet = bet(vec![decimal("10.00")], Structure::Single, "5.00");
    bet.max_payout = Some(euro("20.00"));
    let payout = settle(&bet, &[both(won())]).unwrap();
    assert_eq!(payout.amount, euro("20.00"));
    assert!(payout.proof.contains(&ProofLine::Rounded { payout: euro("50.00") }));
    assert_eq!(payout.proof.last(), Some(&ProofLine::Capped { payout: euro("20.00") }));
}

#[test]
fn the_stake_of_a_bet_spreads_exactly_over_its_lines() {
    let mut bet = bet(vec![decimal("2.00"); 3], system(&[2]), "1.00");
    bet.stake = Lines::Bet(euro("1.00"));
    assert_eq!(paid(&bet, &[both(void()), both(void()), both(void())]), "1.00");
    assert_eq!(paid(&bet, &[both(won()), both(won()), both(lost())]), "1.33");
}

#[test]
fn the_named_rule_rounds_once() {
    for (rounding, expected) in [(Rounding::HalfUp, "0.13"), (Rounding::HalfEven, "0.12"), (Rounding::Down, "0.12")] {
        let bet = Bet { rounding, ..bet(vec![decimal("1.25")], Structure::Single, "0.10") };
        assert_eq!(paid(&bet, &[both(won())]), expected, "{rounding:?}");
    }
}

#[test]
fn misfits_are_refused() {
    let legs = |count: usize| vec![decimal("2.00"); count];
    let check = |bet: Bet| bet.check().unwrap_err();
    assert_eq!(check(bet(legs(2), Structure::Single, "1.00")), StructureError::Legs);
    assert_eq!(check(bet(legs(1), Structure::Accumulator, "1.00")), StructureError::Legs);
    assert_eq!(check(bet(legs(41), Structure::Accumulator, "1.00")), StructureError::Legs);
    for sizes in [&[][..], &[0], &[4], &[2, 2], &[3, 2]] {
        assert_eq!(check(bet(legs(3), system(sizes), "1.00")), StructureError::Sizes, "{sizes:?}");
    }
    assert_eq!(check(bet(legs(1), Structure::Single, "0.00")), StructureError::Stake);
    let mixed = vec![Leg { each_way: Some(EachWay { term: Factor::HALF }), ..decimal("2.00") }, decimal("2.00")];
    assert_eq!(check(bet(mixed, Structure::Accumulator, "1.00")), StructureError::EachWay);
    let banker = vec![Leg { banker: true, ..decimal("2.00") }, decimal("2.00")];
    assert_eq!(check(bet(banker, Structure::Accumulator, "1.00")), StructureError::Bankers);
    assert!(matches!(settle(&bet(legs(1), Structure::Single, "1.00"), &[]), Err(SettleError::Results { .. })));
}

fn any_state() -> impl Strategy<Value = OutcomeState> {
    prop_oneof![
        Just(won()),
        Just(lost()),
        Just(void()),
        Just(decided(true, "0.5", "1")),
        Just(decided(true, "0", "1/3"))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Symmetric polynomials against plain enumeration of combinations.
    #[test]
    fn systems_equal_the_sum_of_their_lines(
        legs in prop::collection::vec((10_100_i64..100_000, any_state(), any::<bool>()), 2..8),
        mask in 1_u32..256,
    ) {
        let free = legs.iter().filter(|leg| !leg.2).count();
        let sizes: Vec<u32> = (1..=u32::try_from(free).unwrap()).filter(|size| mask >> (size - 1) & 1 == 1).collect();
        prop_assume!(!sizes.is_empty());
        let bet = bet(
            legs.iter().map(|(odds, _, banker)| Leg { banker: *banker, ..leg(Odds::from_ten_thousandths(*odds).unwrap()) }).collect(),
            system(&sizes),
            "1.00",
        );
        let states: Vec<States> = legs.iter().map(|leg| both(leg.1)).collect();
        let mut expected = BigRational::from_integer(0.into());
        let mut lines = 0_u64;
        for subset in 0_u32..1 << legs.len() {
            let chosen: Vec<usize> = (0..legs.len()).filter(|at| subset >> at & 1 == 1).collect();
            let free_chosen = chosen.iter().filter(|at| !legs[**at].2).count();
            let bankers_in = (0..legs.len()).all(|at| !legs[at].2 || chosen.contains(&at));
            if !bankers_in || !sizes.contains(&u32::try_from(free_chosen).unwrap()) {
                continue;
            }
            lines += 1;
            expected += chosen.iter().fold(BigRational::from_integer(100.into()), |product, at| {
                let odds = Odds::from_ten_thousandths(legs[*at].0).unwrap();
                product * multiplier(legs[*at].1, odds, Factor::ONE, Rule4::NONE).unwrap().value
            });
        }
        prop_assert_eq!(bet.lines(), lines);
        let expected = Money::round_minor(&expected, Currency::EUR, Rounding::HalfUp).unwrap();
        prop_assert_eq!(settle(&bet, &states).unwrap().amount, expected);
    }

    #[test]
    fn json_round_trips(odds in 10_100_i64..100_000, banker: bool, pence in 0_u8..=90) {
        let leg = Leg { banker, rule4: Rule4::pence(pence).unwrap(), ..leg(Odds::from_ten_thousandths(odds).unwrap()) };
        let mut bet = bet(vec![leg.clone(), leg], system(&[1, 2]), "2.50");
        bet.max_payout = Some(euro("100.00"));
        let json = serde_json::to_string(&bet).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bet>(&json).unwrap(), bet);
    }
}
