//! What a person sees of a run: one live line per epoch, then a fixed line with its result.
//!
//! On a terminal the live line stays in place on stderr; fixed lines go to stdout. When either is no terminal
//! there is no live line, but a plain one now and then. Logs that go through [`Console::log_writer`] do not
//! tear it.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::{EpochReport, Losses, Outcome, StepReport};
use tokio::sync::mpsc;
use tracing_subscriber::fmt::MakeWriter;

use crate::membership::StopCause;
use crate::progress::Progress;

/// The renderer of one run.
#[derive(Debug)]
pub struct Console {
    /// Hidden when there is no terminal.
    live: ProgressBar,
    is_terminal: bool,
    epochs: u32,
    /// When the first step report came, and the step it was for: the pace for the time that is left.
    pace: Option<(Instant, u64)>,
    last_plain: Option<Instant>,
}

impl Console {
    /// Makes a renderer for a run of this many epochs.
    pub fn new(epochs: u32) -> Self {
        let is_terminal = io::stderr().is_terminal() && io::stdout().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let live = ProgressBar::with_draw_target(None, target);
        // Invariant: the template is valid.
        live.set_style(ProgressStyle::with_template("{msg}").expect("a valid template"));
        Self {
            live,
            is_terminal,
            epochs,
            pace: None,
            last_plain: None,
        }
    }

    /// A writer to stderr for `tracing_subscriber` that keeps the live line whole.
    pub fn log_writer(&self) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static {
        let live = self.live.clone();
        move || LogWriter { live: live.clone() }
    }

    /// Shows news until the run closes the channel.
    pub async fn render(mut self, mut news: mpsc::Receiver<Progress>) {
        while let Some(progress) = news.recv().await {
            self.show(&progress);
        }
        self.live.finish_and_clear();
    }

    fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Created {
                directory,
                world_size,
                ..
            } => self.line(&format!(
                "run directory {}, waiting for {world_size} {}",
                directory.display(),
                plural(*world_size, "worker")
            )),
            Progress::Waiting {
                present,
                missing,
                out_of_sight,
            } => {
                let there: Vec<String> = present.iter().map(ToString::to_string).collect();
                let there = if there.is_empty() {
                    "nobody".to_owned()
                } else {
                    there.join(", ")
                };
                let waited_for = match (missing, out_of_sight) {
                    (0, lost) => format!(
                        "waiting for one of {lost} {} that may be training out of sight, a minute at most",
                        plural(*lost, "worker")
                    ),
                    _ => format!("waiting for {missing} more {}", plural(*missing, "worker")),
                };
                self.line(&format!("{waited_for}; here: {there}"));
            }
            Progress::Started { generation, members } => {
                let ring: Vec<String> = members
                    .iter()
                    .map(|member| format!("rank {} on {}", member.rank, member.host))
                    .collect();
                self.line(&format!("generation {generation} begins: {}", ring.join(", ")));
            }
            Progress::Lost {
                present,
                rank,
                evidence,
            } => self.line(&format!("rank {rank} on {present} was lost: {evidence}")),
            // Known from `ringmaster status` and the event log; a line for each would hide the results.
            Progress::Checkpoint { .. } => {}
            Progress::Notice(text) => self.line(text),
            Progress::Step(report) => self.step(report),
            Progress::Epoch(report) => self.line(&epoch_line(report, self.epochs)),
            Progress::Stopping(StopCause::Asked) => {
                self.line("stopping at the next step; once more to end at once");
            }
            Progress::Stopping(StopCause::TimeIsUp) => {
                self.line("the time is up; stopping at the next step, and Ctrl-C ends at once")
            }
            Progress::Ended(ending) => {
                self.live.finish_and_clear();
                // A failure is the program's error message.
                if ending.outcome != Outcome::Failed {
                    self.line(&format!("run {}", ending.reason));
                }
            }
        }
    }

    fn step(&mut self, report: &StepReport) {
        let now = Instant::now();
        let (since, first) = *self.pace.get_or_insert((now, report.step));
        let left = time_left(now - since, report.step.saturating_sub(first), report);
        let line = step_line(report, self.epochs, left);
        if self.is_terminal {
            self.live.set_message(line);
            self.live.tick();
        } else if self.last_plain.is_none_or(|last| now - last >= PLAIN_INTERVAL) {
            self.last_plain = Some(now);
            self.line(&line);
        }
    }

    /// Prints a fixed line. A reader that went away is no reason to end a run.
    fn line(&self, text: &str) {
        self.live.suspend(|| {
            let _ = writeln!(io::stdout(), "{text}");
        });
    }
}

/// Writes log lines above the live line.
struct LogWriter {
    live: ProgressBar,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.live.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn step_line(report: &StepReport, epochs: u32, left: Option<Duration>) -> String {
    let left = left.map_or_else(|| "-".to_owned(), clock);
    format!(
        "epoch {}/{epochs}  {}  {:.1} img/s  eta {left}",
        report.epoch,
        losses(&report.losses),
        report.images_per_second
    )
}

fn epoch_line(report: &EpochReport, epochs: u32) -> String {
    let metrics = &report.metrics;
    format!(
        "epoch {}/{epochs}  {}  P {:.3} R {:.3} mAP50 {:.3} mAP50-95 {:.3}  {:.1} s{}",
        report.epoch,
        losses(&report.train),
        metrics.precision,
        metrics.recall,
        metrics.map50,
        metrics.map50_95,
        report.seconds,
        if report.best { "  best" } else { "" }
    )
}

fn losses(losses: &Losses) -> String {
    format!(
        "box {:.3}  cls {:.3}  dfl {:.3}",
        losses.box_loss, losses.cls_loss, losses.dfl_loss
    )
}

/// The time that the rest of the run takes at the pace so far, validation included.
fn time_left(elapsed: Duration, done: u64, report: &StepReport) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    let left = report.steps.saturating_sub(report.step);
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * left as f64 / done as f64).ok()
}

/// `m:ss`, or `h:mm:ss` from an hour on.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

/// Often enough to see that it goes on, seldom enough for a log file.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proto::Metrics;

    use super::*;

    const LOSSES: Losses = Losses {
        box_loss: 1.2341,
        cls_loss: 2.0,
        dfl_loss: 0.5,
    };

    #[test]
    fn a_step_shows_losses_speed_and_the_time_left() {
        let report = StepReport {
            epoch: 3,
            step: 30,
            steps: 120,
            losses: LOSSES,
            images_per_second: 87.31,
        };
        let left = time_left(Duration::from_secs(20), 20, &report);
        assert_eq!(
            step_line(&report, 20, left),
            "epoch 3/20  box 1.234  cls 2.000  dfl 0.500  87.3 img/s  eta 1:30"
        );
        assert_eq!(time_left(Duration::from_secs(1), 0, &report), None);
    }

    #[test]
    fn an_epoch_shows_its_result() {
        let report = EpochReport {
            epoch: 3,
            step: 30,
            train: LOSSES,
            val: LOSSES,
            metrics: Metrics {
                precision: 0.512,
                recall: 0.411,
                map50: 0.433,
                map50_95: 0.201,
            },
            learning_rates: [0.01; 3],
            images_per_second: 87.3,
            seconds: 12.34,
            best: true,
            hash: proto::StateHash::of_bytes(b"state"),
            redone_steps: 0,
        };
        assert_eq!(
            epoch_line(&report, 20),
            "epoch 3/20  box 1.234  cls 2.000  dfl 0.500  P 0.512 R 0.411 mAP50 0.433 mAP50-95 0.201  12.3 s  best"
        );
    }

    #[test]
    fn times_look_like_a_clock() {
        assert_eq!(clock(Duration::from_secs(5)), "0:05");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
