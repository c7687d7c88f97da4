//! What a worker's log tells of its steps, for runs with `--hash-every 1`.

use std::time::{SystemTime, UNIX_EPOCH};

/// One applied step of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLine {
    /// When it was applied, in seconds since 1970.
    pub time: f64,
    /// The generation.
    pub generation: u64,
    /// Steps applied, this one included.
    pub step: u64,
    /// Hash of the state after it.
    pub hash: String,
}

/// Returns the steps that a worker has applied, in its order.
pub fn steps(log: &str) -> Vec<StepLine> {
    log.lines().filter_map(step).collect()
}

/// Returns the time now, as log lines have it.
///
/// # Panics
/// Before 1970.
pub fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs_f64()
}

fn step(line: &str) -> Option<StepLine> {
    if !line.contains(" worker::training::update: state ") {
        return None;
    }
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split(' ').next()
    };
    Some(StepLine {
        time: time(line.split(' ').next()?)?,
        generation: field("generation")?.parse().ok()?,
        step: field("step")?.parse().ok()?,
        hash: field("hash")?.trim().to_owned(),
    })
}

/// Parses `2026-11-24T08:55:48.678597Z`.
fn time(text: &str) -> Option<f64> {
    let (date, clock) = text.trim_end_matches('Z').split_once('T')?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut clock = clock.split(':').map(str::parse::<f64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Days since 1970 by a calendar that begins in March, so that leap days come last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_line_is_read_and_others_are_not() {
        let line =
            "2026-11-24T08:55:48.5Z  INFO worker::training::update: state generation=3 step=17 hash=ab12";
        let expected = StepLine {
            time: 1_795_510_548.5,
            generation: 3,
            step: 17,
            hash: "ab12".into(),
        };
        assert_eq!(steps(&format!("something else\n{line}\n")), [expected]);
    }
}
