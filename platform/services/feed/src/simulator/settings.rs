//! What a world depends on.

use paddock_service::Settings;

use super::draw::Draw;

/// What a world depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorldSettings {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Match minutes per real minute.
    pub speed: u32,
    /// Seconds between two kick-offs.
    pub kickoff_seconds: u32,
    /// How long before its kick-off a fixture appears, minutes.
    pub horizon_minutes: u32,
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self { seed: 2024, speed: 20, kickoff_seconds: 60, horizon_minutes: 20 }
    }
}

impl WorldSettings {
    /// Reads `SIM_SEED`, `SIM_SPEED`, `SIM_KICKOFF_SECONDS`, `SIM_HORIZON_MINUTES`.
    pub fn read(settings: &mut Settings) -> Self {
        let usual = Self::default();
        let read = Self {
            seed: settings.get("SIM_SEED", usual.seed),
            speed: settings.get("SIM_SPEED", usual.speed),
            kickoff_seconds: settings.get("SIM_KICKOFF_SECONDS", usual.kickoff_seconds),
            horizon_minutes: settings.get("SIM_HORIZON_MINUTES", usual.horizon_minutes),
        };
        if !(1..=120).contains(&read.speed) {
            settings.reject("SIM_SPEED must be from 1 to 120");
        }
        if !(10..=3600).contains(&read.kickoff_seconds) {
            settings.reject("SIM_KICKOFF_SECONDS must be from 10 to 3600");
        }
        if !(1..=240).contains(&read.horizon_minutes) {
            settings.reject("SIM_HORIZON_MINUTES must be from 1 to 240");
        }
        read
    }

    /// Differs between worlds, so that an event id never means two matches.
    pub(super) fn world_number(self) -> u64 {
        let WorldSettings { seed, speed, kickoff_seconds, horizon_minutes } = self;
        let mut draw =
            Draw::at(seed, [u64::from(speed) << 32 | u64::from(kickoff_seconds), u64::from(horizon_minutes)]);
        1_000 + draw.below(9_000)
    }
}
