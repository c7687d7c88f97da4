//! `results.csv`: one row per epoch under the column names that Ultralytics writes, so that its plots and
//! people's scripts read it.

use std::io;
use std::path::Path;
use std::time::Duration;

use proto::EpochReport;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// The open file.
#[derive(Debug)]
pub(crate) struct Results {
    file: File,
}

impl Results {
    /// Opens the file, or makes it with its header; returns the last epoch in it and its time. A row that was not
    /// finished when a coordinator was killed is cut off: its epoch is reported again.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, u32, Duration)> {
        use io::Write;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut file = std::fs::File::options().create(true).append(true).open(path)?;
        file.set_len(whole.len() as u64)?;
        if whole.is_empty() {
            file.write_all(format!("{}\n", COLUMNS.join(",")).as_bytes())?;
        }
        file.sync_all()?;
        let (epoch, time) = whole.lines().skip(1).last().and_then(place).unwrap_or_default();
        let results = Self {
            file: File::from_std(file),
        };
        Ok((results, epoch, time))
    }

    /// Appends a row and makes it durable.
    pub(crate) async fn append(&mut self, report: &EpochReport, elapsed: Duration) -> io::Result<()> {
        self.file.write_all(row(report, elapsed).as_bytes()).await?;
        self.file.flush().await?;
        self.file.sync_data().await
    }
}

/// Returns epoch and time of a row.
fn place(row: &str) -> Option<(u32, Duration)> {
    let mut values = row.split(',');
    let epoch = values.next()?.parse().ok()?;
    let seconds = values.next()?.parse().ok()?;
    Some((epoch, Duration::try_from_secs_f64(seconds).ok()?))
}

fn row(report: &EpochReport, elapsed: Duration) -> String {
    let EpochReport {
        train, val, metrics, ..
    } = report;
    let [weights, norms, biases] = report.learning_rates;
    let values = [
        elapsed.as_secs_f64(),
        train.box_loss,
        train.cls_loss,
        train.dfl_loss,
        metrics.precision,
        metrics.recall,
        metrics.map50,
        metrics.map50_95,
        val.box_loss,
        val.cls_loss,
        val.dfl_loss,
        weights,
        norms,
        biases,
    ];
    let mut row = report.epoch.to_string();
    for value in values {
        row.push(',');
        row.push_str(&six_digits(value));
    }
    row.push(',');
    row.push_str(&report.hash.state.to_string());
    row.push('\n');
    row
}

/// Formats as C's `%.6g` does, which is what Ultralytics writes.
fn six_digits(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{value:.5e}");
    // Invariant: `{:e}` of a finite number is digits, `e` and an exponent.
    let (digits, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("an integer");
    if (-4..6).contains(&exponent) {
        return without_zeros(&format!("{value:.*}", (5 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(digits), exponent.abs())
}

fn without_zeros(number: &str) -> String {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        number.to_owned()
    }
}

/// As Ultralytics 8.4 names them for a detector. `time` is seconds since training began; `lr/pg*` are the
/// parameter groups: weights with decay, norm weights, biases. `hash`, the SHA-256 of the whole training state, is ours.
const COLUMNS: [&str; 16] = [
    "epoch",
    "time",
    "train/box_loss",
    "train/cls_loss",
    "train/dfl_loss",
    "metrics/precision(B)",
    "metrics/recall(B)",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
    "val/box_loss",
    "val/cls_loss",
    "val/dfl_loss",
    "lr/pg0",
    "lr/pg1",
    "lr/pg2",
    "hash",
];

#[cfg(test)]
mod tests {
    use proto::{Losses, Metrics};

    use super::*;

    #[test]
    fn numbers_look_as_c_prints_them() {
        // Expected texts are those of Python's `"%.6g" % value`.
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.00998, "0.00998"),
            (9.876_543_21, "9.87654"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.23457e+06"),
            (999_999.5, "1e+06"),
            (0.000_123_456_7, "0.000123457"),
            (0.000_012_3, "1.23e-05"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in cases {
            assert_eq!(six_digits(value), text);
        }
    }

    #[test]
    fn a_row_has_a_value_for_each_column_in_order() {
        let losses = |first: f64| Losses {
            box_loss: first,
            cls_loss: first + 1.0,
            dfl_loss: first + 2.0,
        };
        let report = EpochReport {
            epoch: 3,
            step: 99,
            train: losses(1.0),
            val: losses(4.0),
            metrics: Metrics {
                precision: 0.1,
                recall: 0.2,
                map50: 0.3,
                map50_95: 0.4,
            },
            learning_rates: [0.01, 0.02, 0.03],
            images_per_second: 50.0,
            seconds: 9.0,
            best: true,
            hash: proto::StateHash::of_bytes(b"state"),
            redone_steps: 0,
        };
        let row = row(&report, Duration::from_millis(12_345));
        let hash = report.hash.state;
        assert_eq!(
            row,
            format!("3,12.345,1,2,3,0.1,0.2,0.3,0.4,4,5,6,0.01,0.02,0.03,{hash}\n")
        );
        assert_eq!(row.split(',').count(), COLUMNS.len());
    }
}
